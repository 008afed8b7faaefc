import json

import pytest

from spml.evaluation.scores import format_table, score_summary


def test_summary_keeps_fractions_and_order():
    summary = score_summary([0.5, 0.25, 0.0], ['b', 'a', 'c'], 7, absent=[2], pixel_accuracy=0.75)
    assert json.loads(json.dumps(summary)) == {
        'mean_iou': 0.25, 'pixel_accuracy': 0.75, 'iou': {'b': 0.5, 'a': 0.25, 'c': 0.0},
        'absent_classes': ['c'], 'num_images': 7}
    assert list(summary['iou']) == ['b', 'a', 'c']


def test_table_shows_per_cent_and_marks_absent_classes():
    lines = format_table(score_summary([0.5, 0.0], ['cat', 'dog'], 3, absent=[1], pixel_accuracy=0.123)).splitlines()
    cells = {tuple(line.split()) for line in lines}
    assert ('cat', '50.00') in cells
    assert ('mean', 'IoU', '25.00') in cells
    assert ('pixel', 'accuracy', '12.30') in cells
    assert ('images', '3') in cells
    assert any(line.startswith('dog') and 'absent' in line for line in lines)


def test_table_shows_instances():
    table = format_table(score_summary([1.0, 0.5], ['cat', 'dog'], 3, num_instances={'cat': 4, 'dog': 11}))
    assert ['dog', '50.00', '11'] in [line.split() for line in table.splitlines()]
    assert 'pixel accuracy' not in table


def test_a_name_is_needed_for_each_class():
    with pytest.raises(ValueError):
        score_summary([0.5, 0.0], ['cat'], 1)
