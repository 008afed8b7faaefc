import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import pytest

from spml.errors import DataError, SpmlError
from spml.prepare.runner import make, results, run_items
from spml.recipe import FileDigests
from spml.utils.formats import write_text

ROOT = pathlib.Path(__file__).parents[2]


def square(folder, item):
    """Write item * item, and say which process and how many threads did it."""
    write_text(folder / f'{item}.txt', str(item * item))
    return item * item, os.getpid(), cv2.getNumThreads()


def die(item):
    """Vanish as a process does that the system kills because memory has run out."""
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


class Doubler:
    """Results `out/NAME.txt` made from `in/NAME.txt` and a value; what is made is counted."""

    def __init__(self, folder, **options):
        self.inputs, self.out, self.options, self.values = folder / 'in', folder / 'out', options, {}
        self.inputs.mkdir(exist_ok=True)

    def make(self, names='abc', **options):
        """Return the names that are made, which the results on disk confirm."""
        folder = results(self.out, self.options, lambda name: [self.out / f'{name}.txt'],
                         lambda name: [self.inputs / f'{name}.txt', self.values.get(name)], FileDigests())
        before = contents(self.out)
        made = make(self.double, {name: name for name in names}, [(folder, list(names))], 0, 'doubles', **options)
        assert [name for name in names if contents(self.out)[name] != before.get(name)] == list(made)
        assert made == {name: f'doubled {name}' for name in made}
        return ''.join(made)

    def double(self, name):
        text = (self.inputs / f'{name}.txt').read_text()
        if text == 'bad':
            raise DataError(f'{name}: bad; leave it out')
        write_text(self.out / f'{name}.txt', text * 2)
        return f'doubled {name}'

    def write(self, age=0, **texts):
        for name, text in texts.items():
            path = self.inputs / f'{name}.txt'
            path.unlink(missing_ok=True)
            path.write_text(text)
            os.utime(path, (time.time() - age,) * 2)


def contents(folder):
    """What tells a file made again from one that stays."""
    return {path.stem: path.stat().st_ino for path in folder.glob('*.txt')}


@pytest.fixture
def doubler(tmp_path):
    made = Doubler(tmp_path, power=1)
    made.write(a='1', b='2', c='3')
    return made


def test_what_was_made_from_the_same_stays_and_what_changed_is_made_again(doubler):
    assert doubler.make() == 'abc'
    assert doubler.make() == ''
    doubler.write(age=10 ** 6, b='4')
    doubler.values['c'] = {'drawn': [1, 2.5]}
    (doubler.out / 'a.txt').unlink()
    assert doubler.make() == 'abc'
    assert (doubler.out / 'b.txt').read_text() == '44'
    doubler.write(a='1', b='4')  # younger, and the same
    assert doubler.make() == ''
    assert doubler.make('b') == ''
    (doubler.out / 'c.txt').write_text('')  # as a machine that failed may leave it
    assert doubler.make() == 'c'


def test_an_error_keeps_what_is_done_and_the_rest_follows_later(doubler):
    doubler.write(b='bad')
    with pytest.raises(DataError, match='b: bad'):
        doubler.make()
    doubler.write(b='2')
    assert doubler.make() == 'bc'


@pytest.mark.parametrize('options', [None, {'power': 1}, {'power': 3}])
def test_results_of_the_version_before_are_kept_if_no_file_is_younger(doubler, options, caplog):
    doubler.write(age=100, a='1', b='2')
    doubler.out.mkdir()
    for name in 'abd':
        (doubler.out / f'{name}.txt').write_text('before')
    if options:
        (doubler.out / '.prepared_with.json').write_text(json.dumps(options))
    doubler.write(age=-100, b='2')
    if options == {'power': 3}:
        with pytest.raises(SpmlError, match='power: 3 -> 1'):
            doubler.make()
        assert doubler.make(overwrite=True) == 'abc'
        return
    assert doubler.make() == 'bc'
    assert f'{doubler.out}: 1 results made by an earlier version are kept; --overwrite' in caplog.text
    assert doubler.make() == ''


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
