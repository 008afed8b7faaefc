import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import pytest

from spml.errors import DataError, SpmlError
from spml.prepare.runner import check_options, run_items, summary, unfinished
from spml.utils.formats import write_text

ROOT = pathlib.Path(__file__).parents[2]


def square(folder, item):
    """Write item * item, and say which process and how many threads did it."""
    if item < 0:
        raise DataError(f'item {item}: negative; leave it out')
    write_text(folder / f'{item}.txt', str(item * item))
    return item * item, os.getpid(), cv2.getNumThreads()


def die(item):
    """Vanish as a process does that the system kills for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_results_come_in_order_with_a_bar(tmp_path, capfd, num_workers):
    items = [5, 3, 8, 1, 9, 2, 7]
    results = run_items(functools.partial(square, tmp_path), items, num_workers, 'squares')
    assert [result[0] for result in results] == [item * item for item in items]
    assert (os.getpid() in {result[1] for result in results}) == (num_workers == 0)
    if num_workers:
        assert {result[2] for result in results} == {1}
    for item in items:
        assert (tmp_path / f'{item}.txt').read_text() == str(item * item)
    bar = capfd.readouterr().err
    assert 'squares' in bar
    assert '7/7' in bar


def test_nothing_to_do_starts_no_process(tmp_path):
    assert run_items(die, [], 3, 'nothing') == []


@pytest.mark.parametrize('num_workers', [0, 2])
def test_an_error_keeps_what_is_done_and_the_rest_follows_later(tmp_path, num_workers):
    def outputs(item):
        return [tmp_path / f'{item}.txt']

    items = [4, 6, -1, 2]
    with pytest.raises(DataError, match='item -1'):
        run_items(functools.partial(square, tmp_path), items, num_workers, 'squares')
    assert (tmp_path / '4.txt').is_file()
    assert (tmp_path / '6.txt').is_file()
    rest = unfinished([4, 6, 2, 3], outputs)
    assert not {4, 6} & set(rest)
    assert 3 in rest


def test_a_dead_worker_is_a_users_error():
    with pytest.raises(SpmlError, match='lower --num_workers'):
        run_items(die, [1, 2], 2, 'dying')


def test_folders_do_not_mix_results_made_in_two_ways(tmp_path):
    folder = tmp_path / 'out'
    check_options(folder, {'radius': 3, 'name': 'a', 'pair': (1, 2)})
    check_options(folder, {'name': 'a', 'radius': 3, 'pair': (1, 2)})
    with pytest.raises(DataError, match=r'out: .* radius = 3, now it is 4'):
        check_options(folder, {'radius': 4, 'name': 'a', 'pair': (1, 2)})
    with pytest.raises(DataError, match='pair'):
        check_options(folder, {'radius': 3, 'name': 'a'})
    (folder / '.prepared_with.json').write_text('{broken')
    with pytest.raises(DataError, match='out'):
        check_options(folder, {'radius': 3})


def test_the_summary_counts(capsys):
    summary('label maps', 'some/folder', 3, 3)
    summary('label maps', 'some/folder', 1, 3)
    assert capsys.readouterr().out.split('\n')[:2] == [
        '3 label maps written: some/folder', '1 label maps written: some/folder (2 stood there already)']


_ENDLESS = """
import functools, pathlib, sys, time
from spml.program import execute
from spml.prepare.runner import run_items

def slow(folder, item):
    (folder / str(item)).touch()
    time.sleep(0.2)

def main():
    run_items(functools.partial(slow, pathlib.Path(sys.argv[1])), list(range(1000)), 2, 'slow')

if __name__ == '__main__':
    execute(main)
"""


def test_ctrl_c_ends_it_quietly(tmp_path):
    script, folder = tmp_path / 'endless.py', tmp_path / 'out'
    script.write_text(_ENDLESS)
    folder.mkdir()
    process = subprocess.Popen([sys.executable, script, folder], stderr=subprocess.PIPE, text=True,
                               start_new_session=True, env=os.environ | {'PYTHONPATH': str(ROOT)})
    deadline = time.monotonic() + 60
    while not any(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert 'Traceback' not in err
    assert 'run the same command again' in err
    assert 0 < len(list(folder.iterdir())) < 1000
