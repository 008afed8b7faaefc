"""What settings mean: tests/bashscripts has the command lines of every pipeline, and here is what is left."""
import io

import pytest

from spml.errors import ConfigError, SpmlError
from spml.pipeline.plan import expand, read_plan, resolve_settings

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


def resolve(configs, joint='spml_joint', **settings):
    return resolve_settings({**GIVEN, **settings}, str(configs), 'classifier', 'scribble', joint)


@pytest.mark.parametrize('head', ['deeplab', 'pspnet'])
def test_weights_choose_the_backbone_and_leave_the_head(configs, head):
    (configs / 'base.yaml').write_text(CONFIG % head)
    (configs / 'spml_joint.yaml').write_text('base: base.yaml\n')
    _, words = resolve(configs, PRETRAINED='efficientnet_lite0')
    for word in ('@embedding', '@classifier', '@cam'):
        assert f'network.backbone_types=panoptic_{head}_lite0' in words[word]
    (configs / 'spml_joint.yaml').write_text('base: nowhere.yaml\n')
    with pytest.raises(ConfigError, match=r'nowhere\.yaml'):
        resolve(configs, PRETRAINED='efficientnet_lite0')


def test_own_data_of_an_earlier_version_have_the_published_recipe_alone(configs):
    assert resolve(configs)[0]['RECIPE'] == 'joint'
    (configs / 'spml_joint.yaml').unlink()
    settings, words = resolve(configs)
    assert settings['RECIPE'] == 'published'
    assert words['@embedding'] == ['--cfg_path', str(configs / 'scribble.yaml')]
    with pytest.raises(SpmlError, match=r'DATASET=mine: there is no .*spml_joint\.yaml'):
        resolve(configs, RECIPE='joint')


def test_a_pipeline_with_one_recipe(configs):
    settings, words = resolve(configs, joint=None)
    assert settings == GIVEN
    assert words['@embedding'] == ['--cfg_path', str(configs / 'scribble.yaml')]


def test_words_of_the_user_are_not_replaced(configs):
    _, words = resolve(configs, CLASS_NAMES='@cam', SET_EMBEDDING='dataset.color_map=@list')
    found = expand(['@classes', 'x', '@output'], words, '/out')
    assert found == ['--cfg_path', str(configs / 'spml_joint.yaml'), '--set', 'dataset.color_map=@list',
                     '--class_names', '@cam', 'x', '/out']


def test_a_word_that_stands_for_nothing(configs):
    words = ['3', 'setting', 'RUN_NAME', 'run', '6', 'stage', '', 'name', '/out', 'script.py', '@embeding']
    with pytest.raises(SpmlError, match='@embeding: stands for nothing'):
        read_plan(io.BytesIO(''.join(f'{word}\0' for word in words).encode()))
