import dataclasses
import json

import numpy as np
import pytest

from spml.report import charts
from spml.report.run_folder import read_runs


@pytest.fixture
def runs(made):
    return read_runs(made.runs)


def test_bars_hold_the_scores_in_per_cent(runs, made):
    chart = charts.score_bars(runs)
    for run, bar in zip(runs, chart.figure.data, strict=True):
        assert bar.name == run.name
        expected = [json.loads((run.path / 'scores' / f'{name}.json').read_text())['mean_iou']
                    for name in ('score_pseudo', 'score_final')]
        assert list(bar.x) == pytest.approx([100 * value for value in expected])
        assert [row[1 + runs.index(run)] for row in chart.table.rows] == [f'{100 * value:.1f}' for value in expected]
    chart = charts.class_bars(runs, made.class_names)
    score = json.loads((runs[1].path / 'scores' / 'score_final.json').read_text())
    assert list(chart.figure.data[1].x) == pytest.approx([100 * score['iou'][name] for name in made.class_names])
    best = max(score['iou'], key=score['iou'].get)
    assert f'to {100 * score["iou"][best]:.1f} ({best})' in chart.text


def test_classes_without_names_are_known_by_their_place(runs, made):
    values = list(runs[0].scores[-1].summary['iou'].values())
    runs[0].scores[-1].summary['iou'] = {str(index): value for index, value in enumerate(values)}
    runs[1].scores[-1].summary['iou'] = {'0': 0.5}  # of other classes
    first, second = charts.class_bars(runs, made.class_names).figure.data
    assert list(first.x) == pytest.approx([100 * value for value in values])
    assert list(second.x) == [None] * 3


def test_a_score_that_a_run_lacks_has_no_bar(runs):
    del runs[1].scores[0]
    chart = charts.score_bars(runs)
    assert chart.figure.data[1].x[0] is None
    assert chart.table.rows[0][2] == '-'


def test_running_means_by_a_loop():
    values = np.random.default_rng().normal(size=37)
    for width in (1, 2, 5, 100):
        expected = [np.mean(values[max(0, end - width):end]) for end in range(1, 38)]
        np.testing.assert_allclose(charts.running_mean(values, width), expected, atol=1e-12)


def test_curves_have_a_line_a_run_that_has_the_metric(runs):
    runs[1].metrics['stage1'] = [{'iteration': 0, 'loss': 2.0}, {'iteration': 5, 'loss': 'nan'}]
    chart = charts.curves(runs, 'stage1', 'loss')
    raw, smooth, short, _ = chart.figure.data
    assert list(raw.x) == list(range(0, 200, 10))
    assert list(raw.y) == pytest.approx([3 / (step + 1) for step in range(20)])
    assert list(smooth.y) == pytest.approx(list(raw.y))  # a twentieth of 20 lines is one
    assert list(short.y) == [2.0]
    assert 'a/run: 3 at iteration 0, 0.15 at 190' in chart.text
    assert charts.curves(runs, 'stage1', 'no_such_metric') is None
    assert charts.curves(runs, 'no_such_training', 'loss') is None


@pytest.mark.parametrize('no_class', [0, 50])
def test_confusion_is_shown_as_shares_of_the_truth(runs, made, no_class):
    matrix = np.array([[80, 15, 5, 0], [30, 10, 160, no_class], [0, 0, 0, 0]])
    chart = charts.confusion_matrix(runs[0], matrix, made.class_names)
    columns = 4 if no_class else 3
    heat = np.array(chart.figure.data[0].z)
    assert heat.shape == (3, columns)
    np.testing.assert_allclose(heat[:2], 100 * matrix[:2, :columns] / matrix[:2].sum(axis=1, keepdims=True))
    assert not heat[2].any()
    assert f'{heat[1, 2]:.0f} % of cat taken for {made.class_names[2]}' in chart.text
    assert 'Right most often: sky (80 %)' in chart.text


def test_costs_of_runs_side_by_side(runs):
    second = runs[1]
    for run in runs:
        for name in run.costs.keys() - {'train_embedding', 'score_final'}:
            del run.costs[name]
    second.costs['score_final'] = dataclasses.replace(second.costs['score_final'], gpu_memory=5 << 20)
    del second.costs['train_embedding']
    chart = charts.cost_bars(runs)
    assert chart.table.header == ['stage', 'a/run: s', 'a/run: MiB', 'a/run: GPU MiB', 'b/run: s', 'b/run: MiB',
                                  'b/run: GPU MiB']
    assert chart.table.rows == [['train_embedding', '9.5', '300.0', '0.0', '-', '-', '-'],
                                ['score_final', '9.5', '300.0', '0.0', '9.5', '300.0', '5.0'],
                                ['all', '19.0', '300.0', '0.0', '9.5', '300.0', '5.0']]
    for run in runs:
        run.costs.clear()
    assert charts.cost_bars(runs) is None
