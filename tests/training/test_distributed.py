"""One command that trains on two processes, and what becomes of it when one of them dies."""
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest
import torch

from spml import config as configuration
from spml.errors import ConfigError
from spml.utils import launch

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A machine whose name does not resolve, as Python's libraries see it.
NAMELESS = """
import socket, time
for name in ('getaddrinfo', 'gethostbyname', 'gethostbyname_ex', 'getfqdn'):
    def resolve(*args, call=getattr(socket, name), **options):
        if not args or args[0] in ('', socket.gethostname()):
            time.sleep(1000)
        return call(*args, **options)
    setattr(socket, name, resolve)
"""


def start_training(tmp_path, small_config, small_data, *overrides):
    config = tmp_path / 'config.yaml'
    (tmp_path / 'sitecustomize.py').write_text(NAMELESS)
    config.write_text(configuration.dump(small_config('train.batch_size=1', *overrides)))
    return subprocess.Popen(
        [sys.executable, str(ROOT / 'pyscripts/train/train.py'), '--cfg_path', str(config), '--data_dir',
         str(small_data.folder), '--data_list', str(small_data.list), '--snapshot_dir', str(tmp_path / 'run'),
         '--device', 'cpu', '--num_processes', '2'],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{tmp_path}:{ROOT}', 'CUDA_VISIBLE_DEVICES': ''},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(process):
    """Return the process ids of a process's children."""
    return [int(pid) for pid in pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_one_command_trains_on_two_processes(tmp_path, small_config, small_data):
    process = start_training(tmp_path, small_config, small_data, 'train.total_batch_size=4')
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (tmp_path / 'run' / 'model-3.pth').is_file()
    assert 'find_unused_parameters' not in err


def test_a_process_that_dies_takes_the_other_down(tmp_path, small_config, small_data):
    process = start_training(tmp_path, small_config, small_data, 'train.max_iteration=100000',
                             'train.snapshot_step=2', 'train.total_batch_size=4')
    wait_for(lambda: list((tmp_path / 'run').glob('model-*.state.pth')))
    victims = children(process)
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    started = time.monotonic()
    out, err = process.communicate(timeout=90)
    assert time.monotonic() - started < 60
    assert process.returncode == 1
    assert 'training on 2 processes x 2 images' in out
    errors = [line for line in err.replace('\r', '\n').splitlines() if line.startswith('error: ')]
    assert len(errors) == 1, err
    assert 'process 1 of 2 was killed (SIGKILL)' in errors[0]
    assert 'Traceback' not in err
    assert not any(pathlib.Path(f'/proc/{pid}').exists() for pid in victims)


@pytest.mark.slow
def test_the_mistake_of_one_process_is_the_commands_own(tmp_path, small_config, small_data):
    """A corrupt file met by one process: its line, status 2, and no traceback of the other."""
    (small_data.folder / 'image' / 'b.png').write_bytes(b'no image')
    process = start_training(tmp_path, small_config, small_data, 'train.shuffle=false')
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.count('b.png') == 1, err
    assert 'Traceback' not in err


@pytest.mark.parametrize(('gpus', 'device', 'wanted', 'visible', 'expected'), [
    ('0', None, None, 0, ['cpu']), ('0', 'cpu', 3, 0, ['cpu', 'cpu', 'cpu']), ('0,1', 'cpu', None, 8, ['cpu']),
    ('0,1', None, None, 4, ['cuda:0', 'cuda:1']), ('2', None, None, 4, ['cuda:2']),
    ('3,1', 'cuda', None, 4, ['cuda:3', 'cuda:1']), ('0', None, 2, 4, ['cuda:0', 'cuda:1']),
    ('0,1,2,3', None, 2, 2, ['cuda:0', 'cuda:1']), ('0,1', 'cuda:1', None, 2, ['cuda:1']),
    ('0,1', 'cuda', None, 0, ['cuda']),
])
def test_devices_of_a_command(monkeypatch, gpus, device, wanted, visible, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: visible)
    assert launch.choose_devices(gpus, device, wanted) == expected


def test_several_processes_on_one_named_gpu_are_an_error():
    with pytest.raises(ConfigError, match='cuda:1: one device, but 2 processes'):
        launch.choose_devices('0', 'cuda:1', 2)


@pytest.mark.parametrize(('gpus', 'wanted', 'visible'), [('0,1', None, 1), ('0', 3, 2), ('4', None, 4)])
def test_more_processes_than_gpus_are_an_error_that_says_so(monkeypatch, gpus, wanted, visible):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: visible)
    with pytest.raises(ConfigError, match=f'gpus={gpus}: .*{visible} can be used'):
        launch.choose_devices(gpus, None, wanted)


@pytest.mark.parametrize(('codes', 'status'), [
    ((130, 2), 2), ((2, 130), 2), ((130, 130), 130), ((-signal.SIGTERM, 2), 2), ((75, 2), 2), ((75, 130), 75)])
def test_the_status_is_that_of_the_process_at_fault(codes, status):
    failures = {rank: types.SimpleNamespace(exitcode=code) for rank, code in enumerate(codes)}
    assert launch._status(failures, len(codes)) == status
