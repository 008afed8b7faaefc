"""Keys that `effective` leaves out for a kind of result do not change it: other values give the same files."""
import numpy as np
import pytest
import torch

from spml.config import effective, flatten, load_config
from spml.config.schema import SCHEMA

pytestmark = pytest.mark.usefixtures('one_thread')

# Another value than in `small_config` for every key that can have one. Overrides are applied in this order.
OTHER = {
    'gpus': '3', 'num_threads': 1, 'seed': 9, 'dataset.dataset': 'Densepose', 'dataset.swap_parts': True,
    'dataset.allow_absolute_paths': False, 'dataset.num_classes': 4, 'dataset.background': False,
    'dataset.class_names': '[k, l, m, n]',
    'dataset.color_map': '[[0, 0, 9], [0, 9, 0], [9, 0, 0], [9, 9, 9]]',
    'network.backbone_types': 'panoptic_pspnet_14', 'network.prediction_types': 'softmax_classifier',
    'network.timm_model': 'resnet18', 'network.stem': '7x7', 'network.pretrained': 'elsewhere.pth',
    'network.colour_features': True, 'network.embedding_dim': 12, 'network.label_divisor': 7,
    'network.use_syncbn': False, 'network.kmeans_iterations': 1, 'network.kmeans_num_clusters': [3, 1],
    'network.frozen_stages': ['res4'],
    'network.bn_momentum': 0.3, 'network.head_dropout': 0.1,
    'network.pixel_means': [0, 0.1, 0.2], 'network.pixel_stds': [1, 2, 3],
    'train.resume': True, 'train.begin_iteration': 1, 'train.max_iteration': 3, 'train.snapshot_step': 1,
    'train.snapshot_minutes': 0, 'train.keep_snapshots': 1,
    'train.save_safetensors': True, 'train.tensorboard_step': 2, 'train.lr_policy': 'step',
    'train.base_lr': 0.5, 'train.decay_iterations': [1], 'train.warmup_iteration': 0, 'train.weight_decay': 0.1,
    'train.momentum': 0.1, 'train.clip_grad_norm': 0.1, 'train.batch_size': 1, 'train.total_batch_size': 1,
    'train.precision': 'bf16', 'train.crop_size': [24, 40], 'train.shuffle': False, 'train.random_mirror': False,
    'train.random_scale': False, 'train.random_crop': False, 'train.memory_bank_size': 0,
    **{f'train.{name}_loss_types': value for name, value in
       (('sem_ann', 'none'), ('sem_occ', 'none'), ('img_sim', 'none'), ('feat_aff', 'segsort'))},
    **{f'train.{name}_concentration': 3 for name in ('sem_ann', 'sem_occ', 'img_sim', 'feat_aff')},
    **{f'train.{name}_loss_weight': 7 for name in ('sem_ann', 'sem_occ', 'img_sim', 'feat_aff')},
    'train.kinds': {'tag': {'sem_ann_loss_weight': 3}}, 'train.sem_occ_largest_share': 0.1,
    'train.img_sim_with_location': False, 'train.embedding_scale': 0.3, 'train.detach_softmax': False,
    'train.freeze_embedding': False, 'train.equivariance_loss_weight': 0.5, 'train.equivariance_scale': 0.7,
    'test.image_size': 20, 'test.crop_size': [24, 16], 'test.stride': [8, 8], 'test.trim': True,
    'test.precision': 'bf16', 'test.head_grid': 'embedding', 'test.max_pixels': 500, 'test.walk_cells': 6}


def results(folder):
    """Return what a script has written, without what only says how."""
    found = {}
    for path in sorted(folder.rglob('*')):
        if path.suffix == '.png':
            found[path.relative_to(folder)] = path.read_bytes()
        elif path.suffix == '.npy':
            found[path.name] = path.read_bytes()
        elif path.suffix == '.npz':
            found |= {(path.name, name): values.tobytes() for name, values in np.load(path).items()}
    weights = torch.load(folder / 'model-1.pth', weights_only=True) if (folder / 'model-1.pth').exists() else {}
    return found | {(part, name): values.numpy().tobytes() for part, state in weights.items() if part != 'config'
                    for name, values in state.items()}


@pytest.mark.parametrize(('kind', 'script', 'options', 'narrowed'), [
    ('embedding', 'train', {}, {}),
    ('classifier', 'train_classifier', {}, {}),
    ('cam', 'train_cam', {}, {}),
    ('cams', 'cam', {}, {}),
    ('prototypes', 'prototype', {}, {}),
    ('prototypes', 'prototype', {'multi_scale': True}, {'multi_scale': True}),
    ('inference', 'inference', {'predictor': 'softmax'}, {'clusters': False}),
    ('pseudo labels', 'pseudo_label', {'source': 'softmax'}, {'whole_image': True, 'clusters': False}),
    ('pseudo labels', 'pseudo_label', {'source': 'densepose_random_walk', 'kmeans_num_clusters': '2,2'},
     {'whole_image': True})])
def test_other_values_of_keys_without_effect(place, kind, script, options, narrowed):
    flags = ['--multi_scale'] if options.pop('multi_scale', False) else []
    common = ['train.max_iteration=2', 'train.snapshot_step=2']
    if kind == 'classifier':
        common += [f'network.pretrained={place.make_weights(place.make_config())}']
    path = place.config_of(script)
    counts = effective(load_config(path, common), kind, **narrowed)
    # total_batch_size takes the place of the batch_size that counts here.
    others = [f'{name}={value}' for name, value in OTHER.items() if name not in {*counts, 'train.total_batch_size'}
              and not (name in ('dataset.class_names', 'dataset.color_map') and 'dataset.num_classes' in counts)]
    changed = load_config(path, [*common, *others])
    assert effective(changed, kind, **narrowed) == counts
    place.works(script, *flags, '--set', *common, **options)
    first = results(place.out)
    place.out = place.folder / 'again'
    place.works(script, *flags, '--set', *common, *others, **options)
    assert first
    again = results(place.out)
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []


def test_every_key_is_given_another_value(small_config):
    assert OTHER.keys() == SCHEMA.keys() - {'dataset.semantic_ignore_index'}
    before = {name: str(value) for name, value in flatten(small_config()).items()}
    assert [name for name, value in OTHER.items() if before[name] == str(value)] == []
