import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCORES = {'a_0': {'final': 0.25}, 'a_1': {'final': 0.35}, 'b_0': {'final': 0.5, 'single': 0.4}, 'b_1': {'final': 0.5}}


@pytest.fixture
def runs(tmp_path):
    for run, scores in SCORES.items():
        for name, value in scores.items():
            path = tmp_path / run / 'scores' / f'score_{name}.json'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({'mean_iou': value}))
    return tmp_path


def table(runs, *more):
    return subprocess.run(
        [sys.executable, str(ROOT / 'pyscripts/results/spread.py'), '--runs_dir', str(runs), '--seeds', '0', '1',
         '--row', 'A=a_{seed}', '--row', 'B = b=b_{seed}', '--column', 'end=score_final', *more],
        capture_output=True, text=True, check=False, env={'PYTHONPATH': str(ROOT)})


def test_each_cell_is_the_mean_and_spread_of_its_row(runs):
    result = table(runs, '--column', 'none=score_other', '--json', str(runs / 'table.json'))
    assert result.returncode == 0, result.stderr
    # The deviation of 0.25 and 0.35 is 0.1 / sqrt(2).
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in result.stdout.splitlines()]
    assert rows[2:] == [['A', '30.0 ± 7.1', '-'], ['B = b', '50.0 ± 0.0', '-']]
    assert json.loads((runs / 'table.json').read_text())['A'] == {'end': [0.25, 0.35], 'none': []}


def test_a_seed_without_its_score_is_an_error(runs):
    result = table(runs, '--column', 'half=score_single')
    assert result.returncode == 2
    assert result.stderr.startswith('error: ')
    assert str(runs / 'b_1' / 'scores' / 'score_single.json') in result.stderr
