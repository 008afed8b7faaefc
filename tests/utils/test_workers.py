import os
import pathlib
import select
import subprocess
import sys

import pytest

from spml.errors import SpmlError
from spml.utils.workers import worker_pool

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_everything_submitted_is_done(tmp_path, num_workers):
    with worker_pool(num_workers, 'CRF') as submit:
        for number in range(7):
            submit(pathlib.Path.touch, tmp_path / str(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == list('0123456')


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_failure_is_handed_on(tmp_path, num_workers):
    with pytest.raises(FileNotFoundError, match='absent'), worker_pool(num_workers, 'CRF') as submit:
        submit(pathlib.Path.read_text, tmp_path / 'absent')


def test_a_worker_that_dies_is_one_line():
    with pytest.raises(SpmlError, match=r'CRF workers died.*--num_workers'), worker_pool(1, 'CRF') as submit:
        submit(os._exit, 9)


PARENT = """
import os, time
from spml.utils.workers import worker_pool
def note():
    print(os.getpid(), flush=True)
if __name__ == '__main__':
    with worker_pool(1, 'CRF') as submit:
        submit(note)
        time.sleep(60)
"""


def test_workers_end_with_a_parent_that_is_killed_outright(tmp_path):
    (tmp_path / 'parent.py').write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(tmp_path / 'parent.py')], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, 'PYTHONPATH': str(ROOT)})
    try:
        worker = os.pidfd_open(int(parent.stdout.readline()))
    finally:
        parent.kill()
        parent.wait()
    ended, _, _ = select.select([worker], [], [], 30)
    assert ended
    os.close(worker)
