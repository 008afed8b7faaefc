import csv
import io
import json

import numpy as np
import pytest

from spml.errors import DataError
from spml.evaluation.scores import format_summary, format_table, score_summary
from spml.pipeline.record import Recorder
from spml.sweep.runner import mean_and_spread, plus_minus, to_csv, to_markdown


def test_summary_keeps_fractions_and_order():
    summary = score_summary([0.5, 0.25, 0.0], ['b', 'a', 'c'], 7, absent=[2], pixel_accuracy=0.75)
    assert json.loads(json.dumps(summary)) == {
        'mean_iou': 0.25, 'pixel_accuracy': 0.75, 'iou': {'b': 0.5, 'a': 0.25, 'c': 0.0},
        'absent_classes': ['c'], 'num_images': 7}
    assert list(summary['iou']) == ['b', 'a', 'c']


def test_tables_show_per_cent_instances_and_absent_classes():
    summary = score_summary([0.5, 0.0], ['cat', 'dog'], 3, absent=[1], pixel_accuracy=0.123)
    cells = [line.split() for line in format_table(summary).splitlines()]
    for row in (['cat', '50.00'], ['mean', 'IoU', '25.00'], ['pixel', 'accuracy', '12.30'], ['images', '3'],
                ['dog', '0.00', '(absent,', 'counts', 'as', '0)']):
        assert row in cells
    table = format_table(score_summary([1.0, 0.5], ['cat', 'dog'], 3, num_instances={'cat': 4, 'dog': 11}))
    assert ['dog', '50.00', '11'] in [line.split() for line in table.splitlines()]
    assert 'pixel accuracy' not in table


def test_the_summary_has_the_scores_in_order_and_the_last_by_class(tmp_path):
    paths = [tmp_path / 'a.json', tmp_path / 'b.json']
    paths[0].write_text(json.dumps({'mean_iou': 0.1234}))
    paths[1].write_text(json.dumps(score_summary([0.75, 0.0], ['cat', 'dog'], 3, absent=[1])))
    scores = list(zip(('first', 'second (final)'), paths, strict=True))
    assert [line.split() for line in format_summary(scores).splitlines()] == [
        ['IoU:', 'second', '(final)', '%'], ['cat', '75.00'], ['dog', '0.00', '(absent,', 'counts', 'as', '0)'], [],
        ['mean', 'IoU', '%'], ['first', '12.34'], ['second', '(final)', '37.50']]
    for text in (None, '[]'):
        paths[1].unlink() if text is None else paths[1].write_text(text)
        with pytest.raises(DataError, match=r'b\.json'):
            format_summary(scores)


def test_the_summary_of_a_run_is_that_of_its_record(tmp_path, works, fails):
    recorder = Recorder(tmp_path)
    recorder.write('run')
    for name, title, status in (('b', 'B', 'done'), ('c', '', 'done'), ('a', 'A', 'stands'), ('d', 'D', 'failed')):
        (tmp_path / f'{name}.json').write_text('{"mean_iou": 0.5}')
        recorder.write('stage', stage=name, title=title, script='x.py', arguments=[], output=f'{name}.json',
                       status=status)
    printed = works('summary', '--run_dir', tmp_path)
    assert [line.split() for line in printed.splitlines()] == [['mean', 'IoU', '%'], ['B', '50.00'], ['A', '50.00']]
    (tmp_path / 'run.jsonl').unlink()
    fails('summary', '--run_dir', tmp_path, naming=[tmp_path])


def test_a_name_is_needed_for_each_class():
    with pytest.raises(ValueError):
        score_summary([0.5, 0.0], ['cat'], 1)


def test_mean_and_spread():
    values = np.random.default_rng().normal(size=7)
    assert mean_and_spread(values.tolist()) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert mean_and_spread([4]) == (4, None)
    assert mean_and_spread([]) == (None, None)


def test_how_they_are_shown():
    assert plus_minus(46.504, 1.2) == '46.50 ± 1.20'
    assert plus_minus(46.504, None, digits=1) == '46.5'
    assert plus_minus(None, None) == '-'


def test_csv_reads_back():
    rows = [['a,b', 1, 0.1], ['"c"\nd', None, 'x']]
    assert list(csv.reader(io.StringIO(to_csv(['x', 'y', 'z'], rows)))) == [
        ['x', 'y', 'z'], ['a,b', '1', '0.1'], ['"c"\nd', '', 'x']]


def test_markdown_has_a_cell_for_every_value():
    lines = to_markdown(['key', 'n'], [['a|b', 1], ['long value', 22]]).splitlines()
    assert [[cell.strip() for cell in line.replace(r'\|', '!').strip('|').split('|')] for line in lines] == [
        ['key', 'n'], ['------------', '-----'], ['a!b', '1'], ['long value', '22']]
    assert len({len(line) for line in lines}) == 1
