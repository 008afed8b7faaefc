"""Whatever a file states about sizes, counts and nesting, no reader takes more than 1 GiB, and none fails otherwise.

`pytest tests/fuzz` reads 25 files with each reader, the slow test 1,000.
"""
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name('bounded.py')


@pytest.mark.parametrize('number', [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_reader_takes_more_than_a_gibibyte(tmp_path, rng, number):
    seed = int(rng.integers(2 ** 32))
    ended = subprocess.run([sys.executable, PROGRAM, str(seed), str(number), tmp_path], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    counts = {name: (int(good), int(bad)) for name, good, bad in map(str.split, ended.stdout.splitlines())}
    assert len(counts) == 10
    for name, (good, bad) in counts.items():
        assert good + bad == number
        assert bad > 0, name


def test_the_limit_is_one(tmp_path):
    """A reader that takes what a file states is found."""
    program = ('import sys, pathlib\nsys.path.insert(0, sys.argv[4])\nimport bounded\n'
               'bounded.READERS = {"cam": lambda path: bytearray(3 << 30)}\n'
               'bounded.main(1, 1, pathlib.Path(sys.argv[3]))')
    ended = subprocess.run([sys.executable, '-c', program, '1', '1', tmp_path, PROGRAM.parent], capture_output=True,
                           text=True)
    assert ended.returncode == 1
    assert 'AssertionError: cam, seed 1, case 0: MemoryError' in ended.stderr
