"""Two processes on the CPU: together they stop, resume and give up, whichever of them has the reason."""
import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest
import torch

from spml import config as configuration
from spml.errors import CheckpointError
from spml.training.build import train_embedding

ROOT = pathlib.Path(__file__).parents[2]


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def run_two(script, *arguments, status=0, attempts=3):
    """Run a script as two processes of a group and return what each printed; fail if one ends with another status."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'WORLD_SIZE': '2',
                   'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port())}
    processes = [subprocess.Popen([sys.executable, str(script), *map(str, arguments)], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env={**environment, 'RANK': str(rank), 'LOCAL_RANK': str(rank)}) for rank in (0, 1)]
    try:
        printed = [process.communicate(timeout=100)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if attempts > 1 and 'EADDRINUSE' in ''.join(printed):  # the free port was taken meanwhile
        return run_two(script, *arguments, status=status, attempts=attempts - 1)
    assert [process.returncode for process in processes] == [status, status], printed
    return printed


@pytest.fixture
def ends(tmp_path, small_data, small_config):
    """How the trainings of two_processes.py ended, in each process."""
    (tmp_path / 'config.yaml').write_text(configuration.dump(small_config()))
    printed = run_two(ROOT / 'tests/training/two_processes.py', tmp_path, small_data.folder, small_data.list)
    assert '2 of 3 images are done already' in printed[0]
    first, second = (json.loads((tmp_path / f'{rank}.json').read_text()) for rank in (0, 1))
    return {name: (first[name], second[name]) for name in first}


@pytest.mark.usefixtures('one_thread')
def test_two_processes(tmp_path, ends, small_data, small_config, caplog, identical):
    assert ends['once'] == ends['resumed'] == (['done', 0, ''], ['done', 0, ''])
    # The group ended with its work, not with the interpreter.
    for before, after in ends['threads']:
        assert [name for name in before if 'gloo' in name]
        assert not [name for name in after if 'gloo' in name]

    # Stopped by a signal to one of them, and resumed: bit by bit what an unbroken run gives.
    (error, status, message), other = ends['stopped']
    assert (error, status, other) == ('InterruptedTrainingError', 130, ['SystemExit', 130, ''])
    assert str(tmp_path / 'twice' / 'model-1.pth') in message
    assert '--resume' in message
    for name in ('model-3.pth', 'model-3.state.pth'):
        once, twice = (torch.load(tmp_path / folder / name, weights_only=True) for folder in ('once', 'twice'))
        assert identical(once, twice), name
    assert len(once['random']) == 2
    lines = [(tmp_path / folder / 'metrics.jsonl').read_text() for folder in ('once', 'twice')]
    assert lines[0] == lines[1]

    # A loss that is not finite in the second process: step 1 gives it the first image (three images, one each).
    (error, status, message), other = ends['spoilt']
    assert (error, status, other) == ('SpmlError', 2, ['SystemExit', 2, ''])
    assert message.startswith('iteration 1: sem_ann_loss is not finite on images a;')
    assert not list((tmp_path / 'spoilt').glob('*.pth'))

    # A file that only the second process finds damaged, before step 2.
    other, (error, status, message) = ends['damaged']
    assert (error, status, other) == ('WrongEncodingError', 2, ['SystemExit', 2, ''])
    assert str(small_data.folder / 'semantic' / 'c.png') in message
    assert 'up to iteration 1 is saved' in message
    assert sorted(p.name for p in (tmp_path / 'damaged').glob('*.pth')) == ['model-1.pth', 'model-1.state.pth']

    # Prototypes made by two are those of one, also after one of them was lost.
    assert sorted(path.stem for path in (tmp_path / 'prototypes' / 'semantic_prototype').iterdir()) == ['a', 'b', 'c']

    # Another number of processes is a change.
    config = small_config('train.batch_size=1', 'train.shuffle=false', 'train.max_iteration=4')
    options = (config, small_data.folder, small_data.list, tmp_path / 'damaged', torch.device('cpu'), True)
    with pytest.raises(CheckpointError, match=r'processes: 2 -> 1.*--accept_changes'):
        train_embedding(*options)
    train_embedding(*options, accept_changes=True)
    assert 'processes: 2 -> 1' in caplog.text
    assert (tmp_path / 'damaged' / 'model-3.pth').is_file()


def test_an_error_in_the_group_keeps_its_status(tmp_path):
    """The interpreter is not torn down around the group's threads, which may abort; exit functions run."""
    script = tmp_path / 'mistaken.py'
    script.write_text("""
import atexit
import torch
from spml.program import execute
from spml.errors import SpmlError
from spml.utils import distributed


class TakenDown:
    def __del__(self):
        print('taken down')


def main():
    with distributed.start(torch.device('cpu')):
        distributed.gather_objects(None)
        raise (SpmlError('a mistake'), SystemExit(2))[distributed.rank()]


atexit.register(print, 'cleared away')
kept = TakenDown()
execute(main)
""")
    assert run_two(script, status=2) == ['error: a mistake\ncleared away\n', 'cleared away\n']
