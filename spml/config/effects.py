"""Which keys matter to which result, so that a change of any other key leaves the result alone."""
from spml.config.schema import SCHEMA
from spml.names import BACKBONES, RELATIONS, split_architecture

# A training's weights do not depend on these: where and how fast it runs, what is kept and shown of it, and what only
# gives other keys their defaults or lets the release's files load.
_WITHOUT_EFFECT_ON_TRAINING = {
    'gpus', 'num_threads', 'dataset.dataset', 'dataset.semantic_ignore_index', 'dataset.class_names',
    'dataset.color_map', 'dataset.allow_absolute_paths', 'network.label_divisor', 'train.resume', 'train.snapshot_step',
    'train.snapshot_minutes', 'train.keep_snapshots', 'train.save_safetensors',
    'train.tensorboard_step'}
_TRAINING = SCHEMA.keys() - _WITHOUT_EFFECT_ON_TRAINING - {name for name in SCHEMA if name.startswith('test.')}

# The classifier's training computes no segments; an embedding network that it freezes is in eval mode.
_OF_LEARNING_EMBEDDINGS = {'network.use_syncbn', 'network.frozen_stages', 'network.bn_momentum'}
_EMBEDDING_ALONE = {
    'network.kmeans_iterations', 'network.kmeans_num_clusters', 'network.head_dropout', 'train.memory_bank_size',
    'train.img_sim_with_location', 'train.embedding_scale', 'train.detach_softmax', 'train.sem_occ_largest_share',
    'train.kinds', 'dataset.background',
    *(f'train.{relation}_{part}' for relation in RELATIONS for part in ('loss_types', 'concentration', 'loss_weight'))}

# The training of the tag classifier, whose network is the backbone with a head of its own.
_CAM_ALONE = {'train.equivariance_loss_weight', 'train.equivariance_scale'}
_WITHOUT_EFFECT_ON_CAMS = _EMBEDDING_ALONE - {'dataset.background'} | {
    'network.embedding_dim', 'network.colour_features', 'train.freeze_embedding'}

# What goes through the embedding network, and the network itself; its weights are files.
_EMBEDDINGS = {
    'network.backbone_types', 'network.timm_model', 'network.stem', 'network.colour_features', 'network.embedding_dim',
    'network.pixel_means', 'network.pixel_stds', 'test.image_size', 'test.crop_size', 'test.stride', 'test.trim',
    'test.precision', 'test.max_pixels'}
# Predictions are written as class ids and in colour.
_PREDICTIONS = _EMBEDDINGS | {'network.kmeans_iterations', 'dataset.num_classes', 'dataset.color_map',
                              'test.head_grid'}

_KEYS = {
    'embedding': _TRAINING - {'train.freeze_embedding'} - _CAM_ALONE,
    'classifier': _TRAINING - _EMBEDDING_ALONE - _CAM_ALONE,
    'cam': _TRAINING - _WITHOUT_EFFECT_ON_CAMS,
    'cams': {'network.backbone_types', 'network.timm_model', 'network.prediction_types', 'network.stem',
             'network.pixel_means', 'network.pixel_stds', 'dataset.num_classes', 'dataset.background'},
    'prototypes': _EMBEDDINGS | {'network.kmeans_iterations'},
    'inference': _PREDICTIONS,
    'pseudo labels': _PREDICTIONS | {'dataset.background', 'test.walk_cells'},
    'classes': {'dataset.num_classes', 'dataset.background', 'dataset.class_names', 'dataset.color_map'},
}


def flatten(config):
    """Return a configuration as a dict from `section.key` to values, in the order of the schema."""
    return {name: config[name.partition('.')[0]][name.partition('.')[2]] if '.' in name else config[name]
            for name in SCHEMA}


def images_per_process(config, processes):
    """Return how many images each of the processes of a training takes in a step."""
    total = config['train']['total_batch_size']
    return max(1, round(total / processes)) if total else config['train']['batch_size']


def effective(config, result, *, processes=None, multi_scale=False, whole_image=False, clusters=True, head=True):
    """Return the part of a configuration that a result depends on, as a dict from `section.key` to values.

    Keys that the configuration itself disables, such as the weight of a relation that is off, are left out.

    Args:
        config: complete, as `load_config` gives it.
        result: `embedding`, `classifier` or `cam` (what the training ends with), `prototypes`,
            `inference`, `pseudo labels`, `cams`, or `classes` (tables and pictures: number, names and colours).
        processes: of a training: their number. `train.batch_size` then is the images of each of them, whichever of
            the two keys says so.
        multi_scale: of inference: the pyramid takes ratios of the image's own size.
        whole_image: of inference: the network sees the padded image at once, as the random walks need it.
        clusters: of inference: whether k-means takes part; it does not where the softmax head alone predicts.
        head: of inference: whether the softmax head takes part.
    """
    flat = flatten(config)
    left_out = {*_idle(flat)}
    if result == 'classifier' and flat['train.freeze_embedding']:
        left_out |= _OF_LEARNING_EMBEDDINGS
    if multi_scale or whole_image:
        left_out.add('test.image_size')
    left_out.add('test.stride' if whole_image else 'test.walk_cells')
    # At a single scale, an image is made as large as test.image_size says.
    if not (multi_scale or whole_image) and flat['test.image_size']:
        left_out.add('test.max_pixels')
    if not head:
        left_out.add('test.head_grid')
    if not clusters:
        left_out.add('network.kmeans_iterations')
    values = {name: value for name, value in flat.items() if name in _KEYS[result] and name not in left_out}
    if processes:
        values.pop('train.total_batch_size', None)
        values['train.batch_size'] = images_per_process(config, processes)
    return values


def _idle(flat):
    """Yield the keys that other keys disable."""
    yield 'train.batch_size' if flat['train.total_batch_size'] else 'train.total_batch_size'
    module = BACKBONES[split_architecture(flat['network.backbone_types'])[1]].module
    if module != 'timm':
        yield 'network.timm_model'
    if module != 'resnet':
        yield 'network.stem'
    if flat['train.lr_policy'] != 'step':
        yield 'train.decay_iterations'
    active = {relation for relation in RELATIONS if flat[f'train.{relation}_loss_types'] != 'none'}
    for relation in {*RELATIONS} - active:
        yield f'train.{relation}_concentration'
        if relation != 'sem_ann':  # its weight is that of the softmax head too
            yield f'train.{relation}_loss_weight'
    if 'sem_occ' not in active:
        yield 'train.sem_occ_largest_share'
    if not flat['train.equivariance_loss_weight']:
        yield 'train.equivariance_scale'
    if 'img_sim' not in active:
        yield 'train.img_sim_with_location'
    if 'feat_aff' not in active and not ('img_sim' in active and flat['train.img_sim_with_location']):
        yield 'train.embedding_scale'
