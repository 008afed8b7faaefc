"""What the YAML file of a sweep expands to."""
import pathlib
import re

import pytest

from spml.errors import ConfigError
from spml.sweep.grid import read_sweep

SWEEPS = pathlib.Path(__file__).parents[2] / 'configs' / 'sweeps'


def test_every_combination_with_every_seed_is_a_run(sweep):
    plan = sweep(set={'train.base_lr': [0.1, 3e-5], 'train.sem_occ_loss_types': ['none', 'segsort']},
                 set_classifier={'train.base_lr': [0.2]}, set_both={'network.embedding_dim': [8, 16, 32]}, seeds=[3, 7])
    assert len(plan.runs) == len({run.name for run in plan.runs}) == 2 * 2 * 1 * 3 * 2
    assert list(plan.runs[0].values) == ['base_lr', 'sem_occ_loss_types', 'classifier base_lr', 'embedding_dim']
    found = set()
    for run in plan.runs:
        embedding, classifier = (dict(word.split('=') for word in run.words(grid))
                                 for grid in ('set', 'set_classifier'))
        assert set(embedding) == {'train.base_lr', 'train.sem_occ_loss_types', 'network.embedding_dim', 'seed'}
        assert classifier == {'train.base_lr': '0.2', 'network.embedding_dim': embedding['network.embedding_dim'],
                              'seed': embedding['seed']}
        assert embedding['seed'] == str(run.seed)
        found.add(tuple(embedding[key] for key in ('train.base_lr', 'train.sem_occ_loss_types', 'network.embedding_dim',
                                                   'seed')))
    assert found == {(lr, kind, dim, seed) for lr in ('0.1', '3e-05') for kind in ('none', 'segsort')
                     for dim in ('8', '16', '32') for seed in ('3', '7')}


def test_values_of_every_kind_are_written_for_the_command_line(sweep):
    plan = sweep(set={'train.crop_size': [[48, 64]], 'train.shuffle': [True], 'network.pretrained': ['/a/b.pth'],
                      'network.frozen_stages': [[], ['stem']]})
    assert [run.words('set') for run in plan.runs] == [
        ['train.crop_size=[48,64]', 'train.shuffle=true', 'network.pretrained=/a/b.pth',
         f'network.frozen_stages={stages}', 'seed=0'] for stages in ('[]', '["stem"]')]


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


def test_values_are_those_that_the_configuration_reads(sweep):
    one, two = (sweep(set={'train.base_lr': [text]}).runs[0] for text in ('1e-3', 0.001))
    assert one == two
    assert one.name == 'base_lr=0.001,seed=0'
    # However one value is written, it is run once.
    plan = sweep(set={'train.base_lr': ['1e-3', 0.001, 0.5, '0.0010'], 'train.shuffle': [True, 'true', 'yes', False]})
    assert [run.name for run in plan.runs] == [f'base_lr={lr},shuffle={shuffle},seed=0'
                                               for lr in ('0.001', '0.5') for shuffle in ('true', 'false')]


def test_a_folder_named_by_an_earlier_version_is_kept(sweep):
    out = sweep(set={'train.base_lr': ['1e-3']}).out
    (out / 'base_lr=1e-3,seed=0').mkdir(parents=True)
    (out / 'base_lr=1e-3,seed=0' / 'sweep.json').write_text('{}')
    assert [run.name for run in sweep(set={'train.base_lr': ['1e-3']}, seeds=[0, 1]).runs] == [
        'base_lr=1e-3,seed=0', 'base_lr=0.001,seed=1']


def test_a_named_run_changes_what_all_have_in_common(sweep, script):
    other = script.with_name('other.sh')
    other.write_text('')
    plan = sweep(settings={'DATASET': 'demo', 'LABELS': 'tag'}, set_both={'train.momentum': 0.5},
                 set={'train.base_lr': 0.1, 'train.weight_decay': 0.2}, set_classifier={'train.base_lr': 0.3},
                 runs={'a': {}, 'b': {'title': 'The other', 'pipeline': str(other), 'settings': {'LABELS': 'box'},
                                      'set': {'train.base_lr': 0.4, 'train.crop_size': [8, 16]},
                                      'set_both': {'train.momentum': 0.6}}}, seeds=[1, 2])
    assert [run.name for run in plan.runs] == ['a_1', 'a_2', 'b_1', 'b_2']
    a, _, b, _ = plan.runs
    assert (a.values, b.values) == ({'title': 'a'}, {'title': 'The other'})
    assert (a.pipeline, b.pipeline) == (script, other)
    assert (a.settings, b.settings) == tuple({'DATASET': 'demo', 'LABELS': labels} for labels in ('tag', 'box'))
    assert a.overrides == {'set': {'train.momentum': 0.5, 'train.base_lr': 0.1, 'train.weight_decay': 0.2, 'seed': 1},
                           'set_classifier': {'train.momentum': 0.5, 'train.base_lr': 0.3, 'seed': 1}}
    assert b.overrides == {'set': {'train.momentum': 0.6, 'train.base_lr': 0.4, 'train.weight_decay': 0.2,
                                   'train.crop_size': [8, 16], 'seed': 1},
                           'set_classifier': {'train.momentum': 0.6, 'train.base_lr': 0.3, 'seed': 1}}


def test_named_runs_take_every_value_of_the_grid(sweep):
    plan = sweep(set={'train.base_lr': [0.1, 0.2]}, runs={'a': {}, 'b': {'set': {'train.momentum': 0.5}}}, seeds=[3])
    assert [run.name for run in plan.runs] == [f'{name},base_lr={lr},seed=3' for name in 'ab' for lr in (0.1, 0.2)]
    assert plan.runs[3].values == {'title': 'b', 'base_lr': '0.2'}
    assert plan.runs[3].overrides['set'] == {'train.momentum': 0.5, 'train.base_lr': 0.2, 'seed': 3}
    with pytest.raises(ConfigError, match=r'run b: set: expected no train\.base_lr'):
        sweep(set={'train.base_lr': [0.1, 0.2]}, runs={'b': {'set': {'train.base_lr': 0.5}}})


@pytest.mark.parametrize(('keys', 'named'), [
    ({'out': None}, 'out'), ({'out': 3}, 'out'), ({'pipeline': None}, 'pipeline'),
    ({'pipeline': 'no/such.sh'}, 'such.sh'), ({'train': ['x']}, 'pipeline: not allowed with `train:`'),
    ({'pipline': 1}, 'pipline'), ({'seeds': [1.5]}, 'seeds'), ({'seeds': 3}, 'seeds'),
    ({'seeds': []}, 'seeds'), ({'seeds': [1, 1]}, 'two of seed=1'), ({'scores': 'a'}, 'scores'),
    ({'settings': ['A']}, 'settings'), ({'settings': {'RUN_NAME': 'x'}}, 'RUN_NAME'),
    ({'set': {'train.base_lr': []}}, 'at least one value'),
    ({'set': ['train.base_lr']}, 'section.key: value'), ({'set': {'train.base_lrs': [1]}}, 'train.base_lr'),
    ({'set': {'train.base_lr': [-1]}}, 'train.base_lr is -1'),
    ({'set_both': {'network.embedding_dim': ['a']}}, 'network.embedding_dim'),
    ({'set': {'network.pretrained': ['a b.pth']}}, 'blanks'), ({'set': {'seed': [1]}}, 'use `seeds:`'),
    ({'runs': ['a']}, 'runs'), ({'runs': {'a': None}}, 'run a: expected lines'),
    ({'runs': {'a': {'sets': {}}}}, 'sets'),
    ({'runs': {'a': {'set': {'train.base_lr': [0.1, 0.2]}}}}, 'train.base_lr is [0.1, 0.2]'),
    ({'runs': {'a': {'pipeline': 'no/such.sh'}}}, 'run a: pipeline')])
def test_mistakes_in_the_file_are_named(sweep, keys, named):
    with pytest.raises(ConfigError, match=rf'^.*{re.escape(named)}.*\Z'):  # one line
        sweep(**keys)


@pytest.mark.parametrize(('train', 'keys', 'named'), [
    ('train.py', {}, 'train'), (['no_script.py'], {}, 'train'), (['SCRIPT', '--resume'], {}, '--resume'),
    (['SCRIPT'], {'set_classifier': {'train.base_lr': [1]}}, 'set_classifier'),
    (['SCRIPT'], {'settings': {'A': 1}}, 'settings: not allowed'),
    (['SCRIPT'], {'runs': {'a': {'set_both': {'train.base_lr': 1}}}}, 'set_both: not allowed')])
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


def test_the_shipped_ablation_adds_one_relation_after_the_other():
    plan = read_sweep(SWEEPS / 'demo_ablation.yaml')
    order = ('cross_entropy', 'ann', 'ann_sim', 'ann_sim_occ', 'ann_sim_occ_aff')
    assert [run.name for run in plan.runs] == [f'{name}_{seed}' for name in (*order, 'joint_unfrozen', 'published')
                                               for seed in range(3)]
    relations = [f'train.{name}_loss_types' for name in ('sem_ann', 'img_sim', 'sem_occ', 'feat_aff')]
    for index, run in enumerate(plan.runs[:15:3]):
        assert [run.overrides['set'].get(key) for key in relations] == ['segsort'] * index + ['none'] * (4 - index)
        assert run.overrides['set'].get('train.sem_occ_largest_share', 0.5) == (1 if index >= 3 else 0.5)
    aff = plan.runs[14].overrides['set']
    assert aff | {'train.feat_aff_loss_weight': 0.5, 'train.feat_aff_concentration': 12} == aff
    unfrozen, published = plan.runs[15], plan.runs[18]
    assert unfrozen.overrides['set'] == plan.runs[6].overrides['set']
    assert unfrozen.overrides['set_classifier']['train.freeze_embedding'] is False
    assert [published.overrides['set'][key] for key in relations] == ['segsort'] * 3 + ['none']
    assert [run.settings['RECIPE'] for run in plan.runs] == ['joint'] * 18 + ['published'] * 3
    budgets = [[run.overrides[grid]['train.max_iteration'] for grid in ('set', 'set_classifier')] for run in plan.runs]
    assert budgets == [[200, 60]] * 21


def test_the_shipped_comparison_gives_each_the_same_budget_and_labels():
    plan = read_sweep(SWEEPS / 'demo_quality.yaml', [7])
    assert [run.name for run in plan.runs] == [
        *(f'{method}_{labels}_7' for labels in ('scribble', 'point', 'box', 'tag')
          for method in ('joint', 'published', 'cross_entropy')), 'own_cams_tag_7', 'joint_mix_7',
        'cross_entropy_full_7']
    for run in plan.runs:
        labels, baseline, mix = run.name.split('_')[-2], run.name.startswith('cross'), run.name.startswith('joint_mix')
        assert run.pipeline.name == (
            'train_cross_entropy.sh' if baseline else 'train_spml.sh' if mix else f'train_spml_{labels}.sh')
        assert run.settings.get('LABELS') == (labels if baseline else None)
        assert run.settings.get('CAM_DIR') == ('' if run.name.startswith('own_cams') else None)
        # The mix is drawn with another list, so by another command.
        assert run.settings['DATAROOT'].endswith('_mix') == mix
        assert run.settings['RECIPE'] == ('published' if run.name.startswith('published') else 'joint')
        assert run.overrides['set']['train.max_iteration'] == (200 + 60 if baseline else 200)
        assert run.overrides['set_classifier']['train.max_iteration'] == 60
        assert {overrides['train.precision'] for overrides in run.overrides.values()} == {'bf16'}


def test_the_shipped_comparison_on_photographs_differs_in_relations_and_recipe_alone():
    plan = read_sweep(SWEEPS / 'photos.yaml', [7])
    assert [run.name for run in plan.runs] == [f'{labels}_{method}_7' for labels in ('scribble', 'point')
                                               for method in ('joint', 'published', 'cross_entropy')]
    for run, joint in zip(plan.runs, plan.runs[:1] * 3 + plan.runs[3:4] * 3, strict=True):
        own, its = run.overrides['set'], joint.overrides['set']
        changed = {key: value for key, value in own.items() if its.get(key) != value}
        assert changed == ({'train.memory_bank_size': 0, **{
            f'train.{name}_loss_types': 'none' for name in ('sem_ann', 'sem_occ', 'img_sim')}}
            if 'cross_entropy' in run.name else {})
        assert run.settings | {'RECIPE': ''} == joint.settings | {'RECIPE': ''}
        assert run.settings['DATAROOT'].endswith(run.name.split('_')[0])
        assert run.settings['RECIPE'] == ('published' if 'published' in run.name else 'joint')
        assert run.overrides['set_classifier'] == joint.overrides['set_classifier']
