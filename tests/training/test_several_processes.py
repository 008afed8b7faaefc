"""Two processes on the CPU: they compute the formula, and stop, resume and give up together."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from naive_step import KAPPA, KINDS, OF_POINTS, PROCESSES, WEIGHTS, naive_losses, random_batch

from spml import config as configuration
from spml.training.build import build_cam_task, build_embedding_task
from spml.utils.distributed import LOST_PEER_STATUS

ROOT = pathlib.Path(__file__).parents[2]


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def run_two(script, *arguments, status=(0, 0), attempts=3):
    """Run a script as two processes of a group and return what each printed; fail if one ends with another status."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'WORLD_SIZE': '2',
                   'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port())}
    processes = [subprocess.Popen([sys.executable, str(script), *map(str, arguments)], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env={**environment, 'RANK': str(rank), 'LOCAL_RANK': str(rank)}) for rank in (0, 1)]
    try:
        printed = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if attempts > 1 and 'EADDRINUSE' in ''.join(printed):  # the free port was taken meanwhile
        return run_two(script, *arguments, status=status, attempts=attempts - 1)
    assert tuple(process.returncode for process in processes) == status, printed
    return printed


@pytest.mark.usefixtures('one_thread')
def test_two_processes(tmp_path, small_data, small_config, identical):
    """Of two_processes.py, which two processes run once."""
    step = random_step(small_config, tmp_path, WEIGHTS)
    # Of both processes, one has images of a single kind.
    keys = [f'train.{name}_weight={WEIGHTS[name]}' for name in WEIGHTS if name != 'softmax_loss']
    mixed = random_step(small_config, tmp_path / 'kinds', dict.fromkeys(WEIGHTS, 1), KINDS, *keys,
                        f'train.kinds={json.dumps({"point": OF_POINTS})}')
    cam = tag_step(small_config, tmp_path / 'cam')
    (tmp_path / 'config.yaml').write_text(configuration.dump(small_config()))
    printed = run_two(ROOT / 'tests/training/two_processes.py', tmp_path, small_data.folder, small_data.list,
                      free_port(), status=(2, 2))
    ends = [json.loads((tmp_path / f'{rank}.json').read_text()) for rank in (0, 1)]
    ends = {name: [one[name] for one in ends] for name in ends[0]}
    for folder, (task, batches, iterations, weights, kinds) in ((tmp_path, step), (tmp_path / 'kinds', mixed)):
        check_step(folder, task, naive_losses(task, batches, iterations, kinds), weights)
    # Gradients of two images in one process, and of one in each of two.
    check_step(tmp_path / 'cam', *cam, rel=1e-12, atol=1e-12)
    assert sorted(path.name for path in (tmp_path / 'cams' / 'cam_npy').iterdir()) == ['a.npy', 'b.npy', 'c.npy']
    check_trainings(tmp_path, ends, small_data, identical)

    # Prototypes made by two are those of one, also after one of them was lost.
    assert '2 of 3 images are done already' in printed[0]
    assert sorted(path.stem for path in (tmp_path / 'prototypes' / 'semantic_prototype').iterdir()) == ['a', 'b', 'c']

    # A group ends with its work, not with the interpreter; after an error in it, the interpreter is not torn down
    # around the group's threads, which may abort, but exit functions run.
    for before, after in ends['threads']:
        assert [name for name in before if 'gloo' in name]
        assert not [name for name in after if 'gloo' in name]
    assert ['error: a mistake\n' in text for text in printed] == [True, False]
    assert [text.endswith('cleared away\n') and 'taken down' not in text for text in printed] == [True, True]


def test_processes_wait_for_each_other_as_long_as_they_live(tmp_path):
    """Of waiting_processes.py: longer than a step may take; a death ends the wait at once."""
    printed = run_two(ROOT / 'tests/training/waiting_processes.py', tmp_path,
                      status=(LOST_PEER_STATUS, -signal.SIGKILL))
    assert json.loads((tmp_path / 'met.json').read_text()) == ['here', 'here']
    assert 'process 0 stops: it lost another process' in printed[0]
    assert 'Traceback' not in printed[0]


def random_step(small_config, folder, weights, kinds=None, *overrides):
    """Write `step.pth` of 2 processes x 2 images with random weights; return what `check_step` takes of it."""
    config = small_config('train.sem_occ_loss_types=segsort', 'train.feat_aff_loss_types=segsort',
                          *(f'train.{name}_concentration={kappa}' for name, kappa in KAPPA.items()), *overrides)
    rng = np.random.default_rng()
    batches = [random_batch(rng) | ({'kind': kinds} if kinds else {}) for _ in range(2)]
    task = build_embedding_task(config).double().eval()
    write_step(folder, config, task, batches, weights)
    return task, batches, config.network.kmeans_iterations, weights, kinds


def tag_step(small_config, folder):
    """The same of 2 processes x 1 image of the classifier of tags; return it, its losses in one process, weights."""
    config, tags = small_config('network.prediction_types=cam', 'train.batch_size=1'), torch.zeros(2, 256, dtype=bool)
    tags[0, 1] = tags[1, 2] = True
    batch = {'image': torch.randn(2, 3, 32, 32, dtype=torch.float64), 'tags': tags}
    task = build_cam_task(config).double().eval()
    write_step(folder, config, task, [batch], {'tag_loss': 1})
    return task, task(batch)[0], {'tag_loss': 1}


def write_step(folder, config, task, batches, weights):
    folder.mkdir(exist_ok=True)
    torch.save({'config': configuration.to_dict(config), 'state': task.state_dict(), 'batches': batches,
                'weights': weights}, folder / 'step.pth')


def check_step(folder, task, wanted, weights, rel=1e-9, atol=None):
    """Loss and gradients are those of the losses that are wanted, which of a formula have the memory bank in them."""
    ranks = [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(PROCESSES)]
    sum(weights[name] * loss for name, loss in wanted.items()).backward()
    for name, loss in wanted.items():
        got = sum(rank['losses'][name] for rank in ranks) / PROCESSES
        assert got.item() == pytest.approx(loss.item(), rel=rel), name
    for name, parameter in task.named_parameters():
        scale = parameter.grad.abs().max().item()
        for rank in ranks:
            torch.testing.assert_close(rank['gradients'][name], parameter.grad, rtol=1e-9,
                                       atol=atol or 1e-9 * max(scale, 1),
                                       msg=lambda text, name=name: f'{name}: {text}')
    assert ranks[0]['total'] != ranks[1]['total']  # they have different images


def check_trainings(folder, ends, data, identical):
    assert ends['once'] == ends['resumed'] == [['done', 0, '']] * 2

    # Stopped by a signal to one of them, and resumed: bit by bit what an unbroken run gives.
    (error, status, message), other = ends['stopped']
    assert (error, status, other) == ('InterruptedTrainingError', 130, ['SystemExit', 130, ''])
    assert str(folder / 'twice' / 'model-1.pth') in message
    assert '--resume' in message
    for name in ('model-3.pth', 'model-3.state.pth'):
        once, twice = (torch.load(folder / run / name, weights_only=True) for run in ('once', 'twice'))
        assert identical(once, twice), name
    assert len(once['random']) == 2
    lines = [(folder / run / 'metrics.jsonl').read_text() for run in ('once', 'twice')]
    assert lines[0] == lines[1]

    # A loss that is not finite in the second process: step 1 gives it the first image (three images, one each).
    (error, status, message), other = ends['spoilt']
    assert (error, status, other) == ('SpmlError', 2, ['SystemExit', 2, ''])
    assert message.startswith('iteration 1: sem_ann_loss is not finite on images a;')
    assert not list((folder / 'spoilt').glob('*.pth'))

    # A file that only the second process finds damaged, before step 2.
    other, (error, status, message) = ends['damaged']
    assert (error, status, other) == ('WrongEncodingError', 2, ['SystemExit', 2, ''])
    assert str(data.folder / 'semantic' / 'c.png') in message
    assert 'up to iteration 1 is saved' in message
    assert sorted(p.name for p in (folder / 'damaged').glob('*.pth')) == ['model-1.pth', 'model-1.state.pth']
