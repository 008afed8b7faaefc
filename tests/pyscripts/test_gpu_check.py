"""The script for a machine with a GPU, its parts replaced by commands that need none."""
import json
import pathlib
import runpy
import sys

import pytest

from spml.program import execute

SCRIPT = pathlib.Path(__file__).parents[2] / 'pyscripts' / 'benchmark' / 'gpu_check.py'


@pytest.fixture
def script():
    return runpy.run_path(str(SCRIPT))


def test_parts_end_well_with_a_status_or_at_their_deadline(script):
    def run(code, deadline=60):
        return script['run_part']([sys.executable, '-c', code], deadline)

    part = run('print("a"); print("b")')
    assert (part['ended'], part['output']) == ('well', ['a', 'b'])
    assert run('raise SystemExit(3)')['ended'] == 'with status 3'
    part = run('import time; print("begun", flush=True); time.sleep(100)', deadline=3)
    assert part['ended'] == 'at its deadline'
    assert sum(script['DEADLINES'].values()) <= 8 * 60


@pytest.mark.parametrize('fails', [False, True])
def test_all_parts_are_reported_and_one_that_fails_decides(script, tmp_path, monkeypatch, capsys, fails):
    seen = []

    def part(command, deadline):
        seen.append(command)
        return {'ended': 'with status 1' if fails and 'pytest' in command else 'well', 'seconds': 1, 'output': []}

    monkeypatch.setitem(script['main'].__globals__, 'run_part', part)
    monkeypatch.setattr(sys, 'argv', ['x', '--out', str(tmp_path), '--kit', 'a_kit'])
    with pytest.raises(SystemExit) as caught:
        execute(script['main'])
    assert caught.value.code == int(fails)
    assert list(json.loads((tmp_path / 'gpu_check.json').read_text())) == list(script['DEADLINES'])
    assert len(capsys.readouterr().out.splitlines()) == len(seen) == 4
    assert 'a_kit' in seen[-1]
