"""What stages cost, measured in processes of their own and read back."""
import json
import os
import pathlib
import subprocess
import sys

from spml.utils.formats import read_json_lines
from spml.utils.usage import read_usage

ROOT = pathlib.Path(__file__).parents[2]
MIB = 1 << 20

SCRIPT = """
from spml.program import execute
from spml.errors import DataError

def main():
    held = b'x' * ({megabytes} << 20)
    del held
    {end}

execute(main)
"""


def run_stage(path, stage='work', end='pass', megabytes=1, options=(), **environment):
    code = SCRIPT.format(megabytes=megabytes, end=end)
    return subprocess.run([sys.executable, '-c', code, *options], capture_output=True, text=True, check=False, env={
        **os.environ, 'PYTHONPATH': str(ROOT), 'SPML_USAGE': str(path), 'SPML_STAGE': stage, **environment}).returncode


def test_time_and_memory_of_a_stage_are_recorded(tmp_path):
    path = tmp_path / 'usage.jsonl'
    assert run_stage(path, megabytes=200) == 0
    assert run_stage(path, 'other', end='raise DataError("no")') == 2
    usage = read_usage(path)
    assert list(usage) == ['work', 'other']
    work, other = usage['work'], usage['other']
    assert 200 * MIB < work['memory'] < 400 * MIB
    assert other['memory'] < 150 * MIB
    assert (work['gpu_memory'], work['status'], other['status']) == (0, 0, 2)
    assert 0 < work['seconds'] < 60


def test_nothing_is_recorded_outside_of_a_pipeline_nor_by_other_ranks(tmp_path):
    assert run_stage('') == 0
    assert run_stage(tmp_path / 'usage.jsonl', RANK='1') == 0
    assert not list(tmp_path.iterdir())
    assert read_usage(tmp_path / 'usage.jsonl') == {}


def test_a_file_that_cannot_be_written_does_not_fail_the_stage(tmp_path):
    assert run_stage(tmp_path / 'no_folder' / 'usage.jsonl') == 0


def test_a_resumed_option_is_noted(tmp_path):
    path = tmp_path / 'usage.jsonl'
    run_stage(path, options=['--resume'])
    run_stage(path)
    assert [row['resumed'] for row in read_json_lines(path)] == [True, False]


def write(path, rows):
    keys = ('stage', 'started', 'seconds', 'resumed', 'memory', 'gpu_memory', 'status')
    path.write_text(''.join(json.dumps(dict(zip(keys, row, strict=True))) + '\n' for row in rows))
    return path


def test_attempts_are_added_up(tmp_path):
    usage = read_usage(write(tmp_path / 'u', [
        ('train', 0, 50, False, 9, 9, 0),          # forgotten: the stage began anew at 100
        ('train', 100, 10, False, 5, 0, 130),
        ('label', 120, 3, False, 1, 3, 0),
        ('train', 200, 20, True, 4, 7, 0),         # two processes of one start: the rank 0 ...
        ('train', 199, 25, True, 6, 0, 0)]))        # ... and the one that launched it
    assert usage == {'train': {'seconds': 35, 'memory': 6, 'gpu_memory': 7, 'status': 0},
                     'label': {'seconds': 3, 'memory': 1, 'gpu_memory': 3, 'status': 0}}


def test_broken_and_foreign_lines_are_left_out(tmp_path):
    path = write(tmp_path / 'u', [('a', 0, 1, False, 1, 0, 0)])
    path.write_text('{"stage": "b"}\n' + path.read_text() + '{"stage": "c", "sec')
    assert list(read_usage(path)) == ['a']
