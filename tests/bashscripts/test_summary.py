"""The table of scores at the end of a pipeline."""
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def summary(run_dir, *arguments):
    script = str(ROOT / 'pyscripts' / 'results' / 'summary.py')
    return subprocess.run([sys.executable, script, '--run_dir', str(run_dir), *arguments], capture_output=True,
                          text=True, check=False, timeout=60)


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / 'scores').mkdir()
    for name, score in {'a': {'mean_iou': 0.1234}, 'b': {'mean_iou': 0.5, 'iou': {'cat': 0.75, 'dog': 0.25}}}.items():
        (tmp_path / 'scores' / f'{name}.json').write_text(json.dumps(score))
    return tmp_path


def test_shows_the_scores_asked_for_in_order_and_the_last_by_class(run_dir):
    result = summary(run_dir, '--score', 'a=first', '--score', 'b=second (final)')
    assert [line.split() for line in result.stdout.splitlines()] == [
        ['IoU:', 'second', '(final)', '%'], ['cat', '75.00'], ['dog', '25.00'], [],
        ['mean', 'IoU', '%'], ['first', '12.34'], ['second', '(final)', '50.00']]
    assert json.loads((run_dir / 'summary.json').read_text()) == [
        {'name': 'a', 'title': 'first', 'mean_iou': 0.1234}, {'name': 'b', 'title': 'second (final)', 'mean_iou': 0.5}]


def test_a_missing_or_broken_score_is_one_line(run_dir):
    (run_dir / 'scores' / 'c.json').write_text('[]')
    for name in ('c', 'd'):
        result = summary(run_dir, '--score', f'{name}=title')
        assert result.returncode == 2
        assert f'{name}.json' in result.stderr
        assert len(result.stderr.splitlines()) == 1
