"""The comparisons on the built-in data, with a Python that only records what it is told."""
import re

import pytest


@pytest.fixture
def folder(place):
    """Where the tables' runs stand."""
    return place.folder / 'tables'


def trainings(place):
    """Return {run name: arguments of train.py}."""
    calls = {}
    for call in place.calls:
        args = call['args']
        if any(a.endswith('/train.py') for a in args):
            calls[args[args.index('--snapshot_dir') + 1].split('/')[-2]] = args
    return calls


def relations_on(args):
    return {match[1] for a in args if (match := re.fullmatch(r'train\.(\w+)_loss_types=segsort', a))}


def run(place, script, folder, seeds='0', **settings):
    place.choose(f'demo/{script}.sh', '')
    return place.run(SNAPSHOT_ROOT=str(folder), SEEDS=seeds, DATAROOT=None, PRETRAINED=None, **settings)


def test_the_ablation_adds_one_relation_after_the_other(place, folder):
    result = run(place, 'ablation', folder, seeds='3 5')
    assert result.returncode == 0, result.stderr
    calls = trainings(place)
    assert len(calls) == 10
    order = ('cross_entropy', 'ann', 'ann_sim', 'ann_sim_occ', 'ann_sim_occ_aff')
    wanted = ([], ['sem_ann'], ['sem_ann', 'img_sim'], ['sem_ann', 'img_sim', 'sem_occ'],
              ['sem_ann', 'img_sim', 'sem_occ', 'feat_aff'])
    for name, relations in zip(order, wanted, strict=True):
        for seed in '35':
            args = calls[f'{name}_{seed}']
            assert relations_on(args) == set(relations)
            assert f'seed={seed}' in args
            assert ('train.detach_softmax=false' in args) == (name == 'cross_entropy')
    lengths = {a for args in calls.values() for a in args if a.startswith('train.max_iteration=')}
    assert len(lengths) == 1, 'the same budget for each'


def test_the_comparison_gives_each_the_same_budget_and_labels(place, folder):
    result = run(place, 'quality', folder)
    assert result.returncode == 0, result.stderr
    calls = trainings(place)
    assert len(calls) == 9
    lists = {name: args[args.index('--data_list') + 1].rsplit('/', 1)[-1] for name, args in calls.items()}
    for labels in ('scribble', 'point', 'box', 'tag'):
        assert lists[f'spml_{labels}_0'] == lists[f'cross_entropy_{labels}_0'] == f'train_{labels}.txt'
    assert lists['cross_entropy_full_0'] == 'train_full.txt'


def test_finished_runs_are_not_run_again(place, folder):
    assert run(place, 'ablation', folder).returncode == 0
    assert run(place, 'ablation', folder).returncode == 0
    assert trainings(place) == {}


def test_a_run_that_fails_is_named(place, folder):
    result = run(place, 'quality', folder, FAKE_FAIL='cross_entropy_point_0')
    assert result.returncode == 2
    assert 'cross_entropy_point_0 did not finish' in result.stderr
    assert 'spml_box_0' not in trainings(place)
