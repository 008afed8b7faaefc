"""Sweeps: what a YAML file expands to, and the table of the results."""
import csv
import json

import numpy as np
import pytest
import yaml

from spml.errors import ConfigError, DataError
from spml.sweep.grid import read_results, read_sweep, write_tables


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'pipeline.sh'
    path.write_text('exit 0\n')
    return path


@pytest.fixture
def sweep(tmp_path, script):
    """A function from keys of the YAML file, beside `out` and `pipeline`, to the sweep."""
    def make(**keys):
        content = {'out': str(tmp_path / 'out'), 'pipeline': str(script), **keys}
        path = tmp_path / 'sweep.yaml'
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None},
                                       sort_keys=False))
        return read_sweep(path)
    return make


def test_every_combination_with_every_seed_is_a_run(sweep):
    plan = sweep(set={'train.base_lr': [0.1, 3e-5], 'train.sem_occ_loss_types': ['none', 'segsort']},
                 set_classifier={'train.base_lr': [0.2]}, set_both={'network.embedding_dim': [8, 16, 32]}, seeds=[3, 7])
    assert len(plan.runs) == len({run.name for run in plan.runs}) == 2 * 2 * 1 * 3 * 2
    assert list(plan.runs[0].values) == ['base_lr', 'sem_occ_loss_types', 'classifier base_lr', 'embedding_dim']
    found = set()
    for run in plan.runs:
        embedding = dict(item.split('=') for item in run.overrides['set'])
        classifier = dict(item.split('=') for item in run.overrides['set_classifier'])
        assert set(embedding) == {'train.base_lr', 'train.sem_occ_loss_types', 'network.embedding_dim', 'seed'}
        assert classifier == {'train.base_lr': '0.2', 'network.embedding_dim': embedding['network.embedding_dim'],
                              'seed': embedding['seed']}
        assert embedding['seed'] == str(run.seed)
        found.add(tuple(embedding.values()))
    assert found == {(lr, kind, dim, seed) for lr in ('0.1', '3e-05') for kind in ('none', 'segsort')
                     for dim in ('8', '16', '32') for seed in ('3', '7')}


def test_values_of_every_kind_are_written_for_the_command_line(sweep):
    plan = sweep(set={'train.crop_size': [[48, 64]], 'train.shuffle': [True], 'network.pretrained': ['/a/b.pth'],
                      'network.frozen_stages': [[], ['stem']]})
    assert [run.overrides['set'][3:] for run in plan.runs] == [
        ('network.frozen_stages=[]', 'seed=0'), ('network.frozen_stages=["stem"]', 'seed=0')]
    assert plan.runs[0].overrides['set'][:3] == ('train.crop_size=[48,64]', 'train.shuffle=true',
                                                 'network.pretrained=/a/b.pth')


def test_names_can_stand_in_paths_and_lists_and_tell_runs_apart(sweep):
    plan = sweep(set={'train.crop_size': [[48, 64], [64, 48]],
                      'network.pretrained': ['/a/b.pth', '/a-b.pth', 'x' * 300]})
    names = [run.name for run in plan.runs]
    assert len(set(names)) == 6
    assert names[0].startswith('crop_size=48x64,pretrained=-a-b.pth,seed=0-')
    for name in names:
        assert len(name) < 150
        assert not set(name) & set('/ []*?\'"$\\')


def test_an_added_value_leaves_the_names_of_the_others(sweep):
    before = {run.name for run in sweep(set={'train.base_lr': [0.1]}, seeds=[0]).runs}
    after = {run.name for run in sweep(set={'train.base_lr': [0.2, 0.1]}, seeds=[1, 0]).runs}
    assert before < after


def test_without_a_grid_the_seeds_are_run(sweep):
    assert [run.name for run in sweep(seeds=[4, 2]).runs] == ['seed=4', 'seed=2']


@pytest.mark.parametrize(('keys', 'named'), [
    ({'out': None}, 'out'), ({'out': 3}, 'out'), ({'pipeline': None}, 'pipeline'),
    ({'pipeline': 'no/such.sh'}, 'such.sh'), ({'train': ['x']}, 'either'),
    ({'pipline': 1}, 'pipline'), ({'seeds': [1.5]}, 'seeds'), ({'seeds': 3}, 'seeds'),
    ({'seeds': []}, 'seeds'), ({'seeds': [1, 1]}, 'two of seed=1'), ({'scores': 'a'}, 'scores'),
    ({'settings': ['A']}, 'settings'), ({'settings': {'RUN_NAME': 'x'}}, 'RUN_NAME'),
    ({'set': {'train.base_lr': 0.1}}, 'list of values'), ({'set': {'train.base_lr': []}}, 'list of values'),
    ({'set': ['train.base_lr']}, 'list of values'), ({'set': {'train.base_lrs': [1]}}, 'train.base_lr'),
    ({'set': {'train.base_lr': [-1]}}, 'train.base_lr is -1'),
    ({'set_both': {'network.embedding_dim': ['a']}}, 'network.embedding_dim'),
    ({'set': {'network.pretrained': ['a b.pth']}}, 'blanks'), ({'set': {'seed': [1]}}, 'seeds')])
def test_mistakes_in_the_file_are_named(sweep, keys, named):
    with pytest.raises(ConfigError) as caught:
        sweep(**keys)
    assert named in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('train', 'keys', 'named'), [
    ('train.py', {}, 'train'), (['no_script.py'], {}, 'train'), (['SCRIPT', '--resume'], {}, '--resume'),
    (['SCRIPT'], {'set_classifier': {'train.base_lr': [1]}}, 'set_classifier'),
    (['SCRIPT'], {'settings': {'A': 1}}, 'settings')])
def test_mistakes_in_a_training_are_named(sweep, script, train, keys, named):
    if isinstance(train, list):
        train = [str(script) if word == 'SCRIPT' else word for word in train]
    with pytest.raises(ConfigError, match=named):
        sweep(pipeline=None, train=train, **keys)


def test_a_file_that_is_no_sweep(tmp_path):
    for text in ('a: [', '- 1', '', '\ta: 1'):
        (tmp_path / 's.yaml').write_text(text)
        with pytest.raises(ConfigError, match=r's\.yaml'):
            read_sweep(tmp_path / 's.yaml')
    with pytest.raises(ConfigError, match='none'):
        read_sweep(tmp_path / 'none.yaml')


def give_scores(plan, run, **scores):
    folder = plan.out / run.name / 'scores'
    folder.mkdir(parents=True)
    for name, value in scores.items():
        (folder / f'{name}.json').write_text(json.dumps({'mean_iou': value}))


def test_results_of_a_pipeline(sweep):
    plan = sweep()
    give_scores(plan, plan.runs[0], score_b=0.25, score_a=0.5)
    assert read_results(plan, plan.runs[0]) == {'score_b': 25, 'score_a': 50}
    plan = sweep(scores=['score_a'])
    assert read_results(plan, plan.runs[0]) == {'score_a': 50}
    for scores in (['score_c'], None):
        plan = sweep(scores=scores, seeds=[0] if scores else [9])
        with pytest.raises(DataError, match='score_c' if scores else 'at all'):
            read_results(plan, plan.runs[0])
    (plan.out / 'seed=0' / 'scores' / 'x.json').write_text('[]')
    with pytest.raises(DataError, match='mean_iou'):
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
    cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()]
    assert cells[0] == ['base_lr', 'crop_size', 'seeds', 'x', 'y']
    assert cells[2][3] == f'{values[:3].mean():.2f} ± {values[:3].std(ddof=1):.2f}'
    assert cells[3][3:] == [f'{values[3]:.2f}', '1.00']
    runs = list(csv.DictReader((plan.out / 'runs.csv').open()))
    assert [row['run'] for row in runs] == [run.name for run in plan.runs]
    assert [row['score_x'] for row in runs] == [*map(str, values[:4].tolist()), '', '']
    assert [row['seed'] for row in runs] == ['0', '1', '2', '0', '1', '2']


def test_tables_of_nothing_yet(sweep):
    plan = sweep(set={'train.base_lr': [0.1]})
    assert '| 0.1 ' in write_tables(plan, {})


def test_the_shipped_sweep_is_one():
    plan = read_sweep('configs/sweeps/demo_co_occurrence.yaml')
    assert [run.name for run in plan.runs] == [f'sem_occ_loss_types={kind},seed={seed}'
                                               for kind in ('segsort', 'none') for seed in (0, 1)]
