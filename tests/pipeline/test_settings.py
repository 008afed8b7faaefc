"""What settings mean beyond the command lines of tests/bashscripts, and how many processes run the network."""
import io

import pytest

from spml.config import resolve
from spml.errors import ConfigError, SpmlError
from spml.pipeline import checks as processes
from spml.pipeline.plan import Plan, Stage, expand, read_plan, resolve_settings

CONFIG = """
dataset: {num_classes: 3}
network: {backbone_types: panoptic_%s_101, embedding_dim: 8}
train: {max_iteration: 2}
"""
GIVEN = {'DATASET': 'mine', 'DATAROOT': '/data', 'SNAPSHOT_ROOT': '/snap', 'RUN_NAME': 'run', 'CLUSTERS': '8,8',
         **dict.fromkeys(('CHECKPOINT', 'NUM_CLASSES', 'CLASS_NAMES', 'RECIPE', 'BATCH', 'SET_EMBEDDING',
                          'SET_CLASSIFIER', 'SET_CAM', 'DEMO_OPTIONS'), '')}


@pytest.fixture
def configs(tmp_path):
    for name in ('scribble', 'spml_joint', 'classifier', 'cam'):
        (tmp_path / f'{name}.yaml').write_text(CONFIG % 'deeplab')
    return tmp_path


def resolved(configs, joint='spml_joint', **settings):
    return resolve_settings({**GIVEN, **settings}, str(configs), 'classifier', 'scribble', joint)


@pytest.mark.parametrize('head', ['deeplab', 'pspnet'])
def test_weights_choose_the_backbone_and_leave_the_head(configs, head):
    (configs / 'base.yaml').write_text(CONFIG % head)
    (configs / 'spml_joint.yaml').write_text('base: base.yaml\n')
    _, words = resolved(configs, PRETRAINED='efficientnet_lite0')
    for word in ('@embedding', '@classifier', '@cam'):
        assert f'network.backbone_types=panoptic_{head}_lite0' in words[word]
    (configs / 'spml_joint.yaml').write_text('base: nowhere.yaml\n')
    with pytest.raises(ConfigError, match=r'nowhere\.yaml'):
        resolved(configs, PRETRAINED='efficientnet_lite0')


def test_own_data_of_an_earlier_version_have_the_published_recipe_alone(configs):
    assert resolved(configs)[0]['RECIPE'] == 'joint'
    (configs / 'spml_joint.yaml').unlink()
    settings, words = resolved(configs)
    assert settings['RECIPE'] == 'published'
    assert words['@embedding'] == ['--cfg_path', str(configs / 'scribble.yaml')]
    with pytest.raises(SpmlError, match=r'DATASET=mine: there is no .*spml_joint\.yaml'):
        resolved(configs, RECIPE='joint')


def test_a_pipeline_with_one_recipe(configs):
    settings, words = resolved(configs, joint=None)
    assert settings == GIVEN
    assert words['@embedding'] == ['--cfg_path', str(configs / 'scribble.yaml')]


def test_words_of_the_user_are_not_replaced(configs):
    _, words = resolved(configs, CLASS_NAMES='@cam', SET_EMBEDDING='dataset.color_map=@list')
    found = expand(['@classes', 'x', '@output'], words, '/out')
    assert found == ['--cfg_path', str(configs / 'spml_joint.yaml'), '--set', 'dataset.color_map=@list',
                     '--class_names', '@cam', 'x', '/out']


def test_a_word_that_stands_for_nothing(configs):
    words = ['3', 'setting', 'RUN_NAME', 'run', '6', 'stage', '', 'name', '/out', 'script.py', '@embeding']
    with pytest.raises(SpmlError, match='@embeding: stands for nothing'):
        read_plan(io.BytesIO(''.join(f'{word}\0' for word in words).encode()))


@pytest.fixture
def count(monkeypatch):
    """A function from settings, the key `gpus` and the GPUs that can be used to the number of processes."""
    def call(settings, gpus, visible):
        asked = []
        monkeypatch.setattr(processes, '_visible_gpus', lambda ids: asked.append(ids) or visible)
        config = resolve({'gpus': gpus, 'dataset': {'num_classes': 2}, 'train': {'max_iteration': 1},
                          'network': {'backbone_types': 'panoptic_deeplab_14', 'embedding_dim': 8}})
        return processes.count_processes(settings, {'demo_data': None, 'train_embedding': config}), asked
    return call


@pytest.mark.parametrize(('settings', 'gpus', 'visible', 'expected'), [
    ({}, '0', 8, 1), ({}, '0,1,2,3', 8, 4), ({}, '0,1,2,3', 2, 2), ({}, '0,1,2,3', 0, 1),
    ({'GPUS': '4,5'}, '0,1,2,3', 2, 2), ({'GPUS': '4'}, '0,1,2,3', 1, 1), ({'GPUS': '4,5'}, '0', 0, 1),
    ({'PROCESSES': '3'}, '0', 0, 3), ({'PROCESSES': '3'}, '0', 4, 3), ({'GPUS': '4,5', 'PROCESSES': '1'}, '0', 2, 1),
    ({'GPUS': '4,5', 'SET_EMBEDDING': 'seed=1 gpus=0'}, '0', 2, 1)])
def test_the_number_of_processes(count, settings, gpus, visible, expected):
    found, asked = count(settings, gpus, visible)
    assert found == expected
    assert all(ids == settings.get('GPUS') for ids in asked)


@pytest.mark.parametrize('settings', [{'GPUS': '0,1'}, {'PROCESSES': '2'}])
def test_gpus_that_are_not_there_are_an_error(count, settings):
    with pytest.raises(SpmlError, match='only 1 of these GPUs'):
        count(settings, '0,1', 1)


def test_fewer_gpus_than_the_configuration_names_are_a_note(count, capsys):
    count({}, '0,1,2,3', 2)
    assert 'note: gpus=0,1,2,3, but 2 can be used here' in capsys.readouterr().out


@pytest.mark.parametrize(('script', 'name', 'words', 'complaint'), [
    ('pyscripts/inference/pseudo_label.py', 'PSEUDO_LABELS', '--source softmx', r"invalid choice: 'softmx'.*"),
    ('pyscripts/inference/pseudo_label.py', 'PSEUDO_LABELS', '--keep_labels', 'are required: --source'),
    ('pyscripts/data/prepare_cam.py', 'CAM_LABELS', '--treshold 0.7', 'unrecognized arguments: --treshold 0.7')])
def test_options_that_come_as_a_setting_are_refused_before_the_first_stage(tmp_path, script, name, words, complaint):
    needed = ['--save_dir', str(tmp_path / 'out'), '--cfg_path', str(tmp_path / 'c.yaml')]
    data = ['--data_dir', str(tmp_path), '--data_list', str(tmp_path / 'c.yaml')]
    needed += [*data, '--snapshot_dir', str(tmp_path)] if name == 'PSEUDO_LABELS' else ['--cam_dir', str(tmp_path)]
    (tmp_path / 'c.yaml').write_text(CONFIG % 'deeplab')

    def plan(words):
        return Plan({name: words}, [Stage('labels', '', tmp_path / 'out', script, [*needed, *words.split()])])

    with pytest.raises(SpmlError, match=f'^{name}={words}: .*{complaint}; options: {script} --help$'):
        processes.check_plan(plan(words))
    processes.check_plan(plan('--source softmax' if name == 'PSEUDO_LABELS' else '--alpha 1 --threshold 0.7'))
