"""The scores of a sweep's runs and their tables."""
import csv
import json

import numpy as np
import pytest

from spml.errors import DataError
from spml.pipeline.record import Recorder
from spml.sweep.tables import read_results, write_tables


def give_scores(folder, **scores):
    (folder / 'scores').mkdir(parents=True)
    for name, value in scores.items():
        (folder / 'scores' / f'{name}.json').write_text(json.dumps({'mean_iou': value}))


def cells(text):
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()]


def test_results_of_a_pipeline(sweep):
    plan = sweep()
    folder = plan.out / plan.runs[0].name
    give_scores(folder, b=0.25, a=0.5)
    assert list(read_results(plan, plan.runs[0]).items()) == [('a', 50), ('b', 25)]
    record = Recorder(folder)
    record.write('run')
    for name in 'ba':
        record.write('stage', stage=name, status='done', script='x.py', arguments=[], output=f'scores/{name}.json')
    assert list(read_results(plan, plan.runs[0]).items()) == [('b', 25), ('a', 50)]
    assert read_results(sweep(scores={'a': 'title'}), plan.runs[0]) == {'a': 50}
    for scores, seed, named in ((['c'], 0, 'no score c; it has b, a'), (None, 9, 'at all')):
        plan = sweep(scores=scores, seeds=[seed])
        with pytest.raises(DataError, match=named):
            read_results(plan, plan.runs[0])
    (folder / 'scores' / 'x.json').write_text('[]')
    with pytest.raises(DataError, match=r'x\.json.*mean_iou'):
        read_results(sweep(), sweep().runs[0])


def test_results_of_a_training(sweep, script):
    plan = sweep(pipeline=None, train=[str(script)])
    (plan.out / 'seed=0').mkdir(parents=True)
    (plan.out / 'seed=0' / 'metrics.jsonl').write_text(
        '{"iteration": 0, "lr": 1, "loss": 3}\n{"iteration": 10, "lr": 1, "loss": 2, "accuracy": 0.5}\n')
    assert read_results(plan, plan.runs[0]) == {'loss': 2, 'accuracy': 0.5}


def test_tables_hold_mean_and_spread_over_the_seeds_that_are_done(sweep):
    plan = sweep(set={'train.base_lr': [0.1, 0.2], 'train.crop_size': [[8, 8]]}, seeds=[0, 1, 2])
    values = np.random.default_rng().uniform(0, 100, 6)
    results = {run.name: {'score_x': value, 'y': 1.0} for run, value in zip(plan.runs, values.tolist(), strict=True)}
    assert cells(write_tables(plan, results))[0] == ['base_lr', 'crop_size', 'x', 'y']
    del results[plan.runs[5].name], results[plan.runs[4].name]
    text = write_tables(plan, results)
    rows = list(csv.DictReader((plan.out / 'table.csv').open()))
    assert [(row['base_lr'], row['crop_size'], row['seeds']) for row in rows] == [
        ('0.1', '[8,8]', '3'), ('0.2', '[8,8]', '1')]
    assert float(rows[0]['score_x_mean']) == pytest.approx(values[:3].mean())
    assert float(rows[0]['score_x_std']) == pytest.approx(values[:3].std(ddof=1))
    assert float(rows[1]['score_x_mean']) == pytest.approx(values[3])
    assert rows[1]['score_x_std'] == ''
    assert text == (plan.out / 'table.md').read_text()
    header, _, first, second = cells(text)
    assert header == ['base_lr', 'crop_size', 'seeds', 'x', 'y']
    assert first[3] == f'{values[:3].mean():.1f} ± {values[:3].std(ddof=1):.1f}'
    assert second[2:] == ['1', f'{values[3]:.1f}', '1.0']
    runs = list(csv.DictReader((plan.out / 'runs.csv').open()))
    assert [row['run'] for row in runs] == [run.name for run in plan.runs]
    assert [row['score_x'] for row in runs] == [*map(str, values[:4].tolist()), '', '']
    assert [row['seed'] for row in runs] == ['0', '1', '2', '0', '1', '2']


def test_titles_of_runs_and_scores_are_those_of_the_file(sweep):
    plan = sweep(runs={'a': {'title': 'A = a'}, 'b': {}}, seeds=[0, 1], scores={'end': 'at the end'})
    results = {'a_0': 25, 'a_1': 35, 'b_0': 50, 'b_1': 50}
    # The deviation of 25 and 35 is 10 / sqrt(2).
    header, _, *rows = cells(write_tables(plan, {name: {'end': value} for name, value in results.items()}))
    assert header == ['mean IoU in %', 'at the end']
    assert rows == [['A = a', '30.0 ± 7.1'], ['b', '50.0 ± 0.0']]


def test_tables_of_nothing_yet(sweep):
    plan = sweep(set={'train.base_lr': [0.1]})
    assert '| 0.1 ' in write_tables(plan, {})
