"""The shipped files: the numbers of the publication, complete bases, and trainings that say only what they change."""
import json
import pathlib

import pytest
import yaml

from spml.config import flatten, load_config
from spml.config.schema import SCHEMA
from spml.names import KIND_SETTINGS, LABEL_KINDS
from spml.scenes.dataset import class_names

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
BASES = sorted(CONFIGS.glob('*/base.yaml'))
TRAININGS = sorted({*CONFIGS.glob('*/*.yaml')} - {*BASES, *CONFIGS.glob('sweeps/*')})

# METHOD.md, "Settings": what all trainings share, what sets the two kinds apart, and the columns of the table.
COMMON = {
    'network.stem': 'deep', 'network.label_divisor': 2048, 'network.kmeans_iterations': 10,
    'network.frozen_stages': ['stem', 'res2'], 'network.bn_momentum': 3e-4,
    'network.pixel_means': [0.485, 0.456, 0.406], 'network.pixel_stds': [0.229, 0.224, 0.225],
    'train.lr_policy': 'poly', 'train.base_lr': 3e-3, 'train.weight_decay': 5e-4, 'train.momentum': 0.9,
    'train.warmup_iteration': 100, 'train.begin_iteration': 0, 'train.clip_grad_norm': 0, 'train.precision': 'fp32',
    'train.crop_size': [512, 512], 'train.shuffle': True, 'train.random_mirror': True, 'train.random_scale': True,
    'train.random_crop': True, 'train.total_batch_size': 16}
EMBEDDING = COMMON | {
    'gpus': '0,1,2,3', 'network.prediction_types': 'segsort', 'network.use_syncbn': True,
    'network.pretrained': 'snapshots/imagenet/trained/resnet-101-cuhk.pth', 'train.batch_size': 4,
    'train.sem_ann_loss_types': 'segsort', 'train.sem_ann_concentration': 6,
    'train.img_sim_loss_types': 'segsort', 'train.img_sim_concentration': 16, 'train.img_sim_loss_weight': 0.1,
    'train.detach_softmax': True}
CLASSIFIER = COMMON | {
    'gpus': '0', 'network.prediction_types': 'softmax_classifier', 'network.use_syncbn': False,
    'train.freeze_embedding': True,
    'network.pretrained': '', 'train.max_iteration': 4000, 'train.snapshot_step': 4000}
VOC = {
    'dataset.dataset': 'VOC2012', 'dataset.num_classes': 21, 'dataset.swap_parts': False,
    'network.backbone_types': 'panoptic_deeplab_101', 'network.embedding_dim': 64, 'network.colour_features': False,
    'train.img_sim_with_location': True, 'train.embedding_scale': 1,
    'test.image_size': 512, 'test.crop_size': [512, 512], 'test.stride': [512, 512]}
DENSEPOSE = {
    'dataset.dataset': 'Densepose', 'dataset.num_classes': 15, 'dataset.swap_parts': True,
    'network.backbone_types': 'panoptic_pspnet_101', 'network.embedding_dim': 32, 'network.colour_features': True,
    'train.img_sim_with_location': False, 'train.embedding_scale': 0.1,
    'test.image_size': 640, 'test.crop_size': [640, 640], 'test.stride': [640, 640]}
VOC_EMBEDDING = EMBEDDING | VOC | {
    'train.max_iteration': 30000, 'train.snapshot_step': 30000, 'train.memory_bank_size': 2,
    'network.kmeans_num_clusters': [6, 6], 'train.sem_occ_loss_types': 'segsort', 'train.feat_aff_loss_types': 'none',
    'train.sem_occ_largest_share': 1}

DENSEPOSE_EMBEDDING = EMBEDDING | DENSEPOSE | {
    'train.max_iteration': 45000, 'train.snapshot_step': 45000, 'train.memory_bank_size': 0,
    'network.kmeans_num_clusters': [12, 12], 'train.sem_ann_loss_weight': 1.0, 'train.sem_occ_loss_types': 'none',
    'train.feat_aff_loss_types': 'segsort', 'train.feat_aff_concentration': 12, 'train.feat_aff_loss_weight': 0.5}


def weighted(annotation, concentration, co_occurrence):
    return {'train.sem_ann_loss_weight': annotation, 'train.sem_occ_concentration': concentration,
            'train.sem_occ_loss_weight': co_occurrence}


PUBLISHED = {
    'voc12/tag_box': VOC_EMBEDDING | weighted(0.3, 8, 0.3),
    'voc12/scribble': VOC_EMBEDDING | weighted(1.0, 12, 0.5),
    'voc12/point': VOC_EMBEDDING | weighted(0.1, 8, 0.1),
    'voc12/classifier': CLASSIFIER | VOC,
    # CAMs of its own are this project's, too.
    'voc12/cam': VOC_EMBEDDING | {'network.prediction_types': 'cam', 'train.max_iteration': 10000,
                                  'train.snapshot_step': 10000, 'train.equivariance_loss_weight': 0,
                                  'train.equivariance_scale': 0.3},
    # The baseline is this project's: the embedding's training with cross-entropy alone.
    'voc12/cross_entropy': VOC_EMBEDDING | {
        'train.sem_ann_loss_weight': 1.0, 'train.memory_bank_size': 0, 'train.detach_softmax': False,
        **{f'train.{name}_loss_types': 'none' for name in ('sem_ann', 'sem_occ', 'img_sim', 'feat_aff')}},
    'densepose/point': DENSEPOSE_EMBEDDING,
    'densepose/classifier': CLASSIFIER | DENSEPOSE,
    # Not published either: the softmax head trains the embedding too, and co-occurrence depends on the data.
    'voc12/spml_joint': VOC_EMBEDDING | weighted(1.0, 12, 0.5) | {
        'train.detach_softmax': False, 'train.sem_occ_largest_share': 0.5},
    'densepose/spml_joint': DENSEPOSE_EMBEDDING | {'train.detach_softmax': False},
}


def flat(path):
    found = {}
    for section, values in yaml.safe_load(path.read_text()).items():
        inner = isinstance(values, dict)
        found |= {f'{section}.{key}': value for key, value in values.items()} if inner else {section: values}
    return found


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_numbers(name):
    values = flatten(load_config(CONFIGS / f'{name}.yaml'))
    assert {key: values[key] for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize(('kind', 'recipe'), [('scribble', 'scribble'), ('point', 'point'), ('box', 'tag_box'),
                                              ('tag', 'tag_box')])
def test_images_of_a_kind_train_as_in_its_recipe(kind, recipe):
    train = load_config(CONFIGS / 'voc12' / f'{recipe}.yaml').train
    assert KIND_SETTINGS.keys() == {*LABEL_KINDS}
    mixed = load_config(CONFIGS / 'voc12' / 'base.yaml', [f'train.kinds={json.dumps(KIND_SETTINGS)}']).train
    assert {key: {**mixed, **mixed.kinds[kind]}[key] for key in train if key != 'kinds'} == {
        key: value for key, value in train.items() if key != 'kinds'}


def test_every_training_on_published_data_is_compared():
    assert {f'{path.parent.name}/{path.stem}' for path in TRAININGS if path.parent.name != 'demo'} == set(PUBLISHED)


@pytest.mark.parametrize('path', BASES, ids=lambda path: path.parent.name)
def test_bases_hold_every_key_and_explain_it_where_it_is_not_plain(path):
    assert flat(path).keys() == SCHEMA.keys()
    load_config(path)


@pytest.mark.parametrize('path', TRAININGS, ids=lambda path: f'{path.parent.name}-{path.stem}')
def test_trainings_say_only_what_they_change(path):
    own, base = flat(path), flat(path.with_name('base.yaml'))
    assert own.pop('base') == 'base.yaml'
    assert not [name for name, value in own.items() if base[name] == value]


def test_demo_files_name_the_classes_of_the_built_in_data():
    for path in (CONFIGS / 'demo').glob('*.yaml'):
        dataset = load_config(path).dataset
        assert dataset.class_names == class_names(dataset.num_classes)
