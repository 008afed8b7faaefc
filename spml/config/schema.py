"""The table of configuration keys: for each its type, its default and one line that says what it does.

Everything known about a key is stated here, once: `load` checks files against it, `python -m spml.config` prints it.
Defaults are the authors' release's for VOC 2012 scribbles (relations that a release pipeline leaves out are off).
"""
from collections.abc import Callable
from typing import NamedTuple

from spml.config import types
from spml.names import (
    BACKBONES,
    HEADS,
    LABEL_KINDS,
    MAX_CLUSTERS,
    PRECISIONS,
    PRETRAINED_NAMES,
    RELATIONS,
    STAGES,
    TORCHVISION,
    VOID,
    WALK_CELLS,
    split_architecture,
)
from spml.utils.timm_models import known_model

REQUIRED = object()
_OF_TIMM = {'pixel_means': 'mean', 'pixel_stds': 'std'}  # how timm calls what a model's weights expect of RGB in 0..1

VOC_CLASS_NAMES = (
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable',
    'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')
DENSEPOSE_CLASS_NAMES = (
    'background', 'torso', 'right hand', 'left hand', 'left foot', 'right foot', 'right thigh', 'left thigh',
    'right leg', 'left leg', 'left arm', 'right arm', 'left forearm', 'right forearm', 'head')


class Derived(NamedTuple):
    """A default that depends on other keys: `text` describes it, `compute` maps the flat configuration to it."""

    text: str
    compute: Callable


class Key(NamedTuple):
    """One key: the `types.Type` of its value, its default (REQUIRED, a Derived or a plain value) and its meaning."""

    type: types.Type
    default: object
    doc: str


def _default_class_names(config):
    known = {('VOC2012', len(VOC_CLASS_NAMES)): VOC_CLASS_NAMES,
             ('Densepose', len(DENSEPOSE_CLASS_NAMES)): DENSEPOSE_CLASS_NAMES}
    number = config['dataset.num_classes']
    return list(known.get((config['dataset.dataset'], number)) or (f'class_{index}' for index in range(number)))


def _is_densepose(config):
    return config['dataset.dataset'] == 'Densepose'


def _backbone(config):
    return BACKBONES[split_architecture(config['network.backbone_types'])[1]]


def _normalisation(part):
    """Return the default of `network.<part>`: what the backbone's ImageNet weights expect."""
    def compute(config):
        known = getattr(_backbone(config), part)
        return list(known or map(float, known_model(config['network.timm_model'])[_OF_TIMM[part]]))
    return Derived("what the backbone's ImageNet weights expect", compute)


_NOT_NEGATIVE = types.number('a number of at least 0', lambda value: value >= 0)
_POSITIVE = types.number('a number greater than 0', lambda value: value > 0)
_SHARE = types.number('a number in 0..1', lambda value: 0 <= value <= 1)
_MOMENTUM = types.number('a number of at least 0 and less than 1', lambda value: 0 <= value < 1)
_BN_MOMENTUM = types.number('a number greater than 0 and at most 1', lambda value: 0 < value <= 1)
_DROPOUT = types.number('a number of at least 0 and less than 1', lambda value: 0 <= value < 1)
_SCALE = types.number('a number greater than 0 and less than 1', lambda value: 0 < value < 1)
_BACKBONES = types.choice(*(f'panoptic_{head}_{backbone}' for head in HEADS for backbone in BACKBONES))


# The keys of the relations that images of a kind may have for themselves.
_OF_A_KIND = {f'{relation}_{part}': values for relation in RELATIONS
              for part, values in (('concentration', _POSITIVE), ('loss_weight', _NOT_NEGATIVE))}

SCHEMA = {
    'gpus': Key(types.device_numbers(), '0', 'GPUs to train on, one process each'),
    'num_threads': Key(types.integer(0), 4, 'data loading workers per process, at most one a processor; 0 loads in the '
                                            'process itself'),
    'seed': Key(types.integer(0, 2**32 - 1), 0, 'seed of every random choice'),

    'dataset.dataset': Key(types.choice('VOC2012', 'Densepose'), 'VOC2012',
                           'family of the data, from which the defaults of other keys follow'),
    'dataset.num_classes': Key(types.integer(2, VOID - 1), REQUIRED, 'C, a background included; C..254 are unlabelled'),
    'dataset.background': Key(types.BOOLEAN, True, 'whether class 0 is the background, that is, what no other class '
                                                   'covers; false: all classes are equal (street scenes)'),
    'dataset.semantic_ignore_index': Key(types.constant(VOID, 'label maps use 255 for void'), VOID,
                                         'label of void pixels'),
    'dataset.class_names': Key(types.NAMES, Derived("the data set's, else class_0, ...", _default_class_names),
                               'names for tables and pictures, one per class'),
    'dataset.color_map': Key(types.COLOURS, Derived("null, PASCAL VOC's colours", lambda c: None),
                             'colours of the classes in pictures, one per class'),
    'dataset.swap_parts': Key(types.BOOLEAN, Derived('true for Densepose', _is_densepose),
                              "exchange DensePose's left and right parts in mirrored labels"),
    'dataset.allow_absolute_paths': Key(types.BOOLEAN, True, 'whether lists may name files outside --data_dir, as '
                                                               'those of pseudo labels do'),

    'network.backbone_types': Key(_BACKBONES, REQUIRED, 'head and backbone of the embedding network: a ResNet of this '
                                                        'depth, EfficientNet-Lite0, or the model network.timm_model'),
    'network.timm_model': Key(types.text('the name of a model, such as convnext_tiny'), '',
                              'backbone of panoptic_*_timm, one of PyTorch Image Models, which are there after '
                              "pip install -e '.[timm]'"),
    'network.prediction_types': Key(types.choice('segsort', 'softmax_classifier', 'cam'), 'segsort',
                                    'what is trained: the embedding (segsort), a classifier on a trained one, or a '
                                    'classifier of image tags for class activation maps (cam)'),
    'network.stem': Key(types.choice('deep', '7x7'), 'deep',
                        "first layers of a ResNet: deep as in the release, or 7x7 as torchvision's weights need"),
    'network.pretrained': Key(types.text(f"a path, {', '.join(PRETRAINED_NAMES)} or '' for none"), '',
                              "weights to start from: ImageNet's, in a file, from torchvision, from timm or from the "
                              "package of EfficientNet-Lite0; for a classifier an embedding's model-*.pth, or the "
                              'folder of its training'),
    'network.colour_features': Key(types.BOOLEAN, Derived('true for Densepose', _is_densepose), 'whether smoothed '
                                   'colours join the location in the vectors that k-means clusters in training'),
    'network.embedding_dim': Key(types.integer(1), REQUIRED, 'D, channels of the embedding'),
    'network.label_divisor': Key(types.integer(1), 2048, "only so that the release's files load"),
    'network.use_syncbn': Key(types.BOOLEAN, True, 'share batch norm statistics between processes'),
    'network.kmeans_iterations': Key(types.integer(0), 10, 'k-means iterations; 0 keeps the initial grid'),
    'network.kmeans_num_clusters': Key(types.PAIR, [6, 6], 'initial clusters of an image in training'),
    'network.frozen_stages': Key(types.subset(*STAGES), ['stem', 'res2'], 'backbone stages that receive no updates'),
    'network.bn_momentum': Key(_BN_MOMENTUM, 3e-4, 'batch norm momentum of the backbone; 0.1 suits random weights'),
    'network.head_dropout': Key(_DROPOUT, 0.75, 'dropout of the softmax head that is trained with the embedding'),
    'network.pixel_means': Key(types.triple('three numbers (R, G, B)'), _normalisation('pixel_means'),
                               'subtracted from RGB in 0..1'),
    'network.pixel_stds': Key(types.triple('three numbers (R, G, B) greater than 0', lambda value: value > 0),
                              _normalisation('pixel_stds'), 'RGB is divided by these afterwards'),

    'train.resume': Key(types.BOOLEAN, False, 'resume from the last snapshot, as --resume does'),
    'train.begin_iteration': Key(types.integer(0), 0, 'first iteration'),
    'train.max_iteration': Key(types.integer(1), REQUIRED, 'iteration to stop before'),
    'train.snapshot_step': Key(types.integer(1), Derived('train.max_iteration', lambda c: c['train.max_iteration']),
                               'iterations between snapshots; the last iteration always has one'),
    'train.snapshot_minutes': Key(_NOT_NEGATIVE, 15.0, 'minutes after which one more is written, in case the run is '
                                                       'killed; the next snapshot replaces it; 0: never'),
    'train.keep_snapshots': Key(types.integer(0), 5, 'how many snapshots are kept, the newest; 0 keeps all'),
    'train.save_safetensors': Key(types.BOOLEAN, False, 'write the final weights as model-*.safetensors, too'),
    'train.tensorboard_step': Key(types.integer(1), 100, 'iterations between lines of metrics'),
    'train.lr_policy': Key(types.choice('poly', 'step'), 'poly', 'learning rate schedule'),
    'train.base_lr': Key(_POSITIVE, 3e-3, 'learning rate before schedule and group factors'),
    'train.decay_iterations': Key(types.INCREASING, [], 'where the step schedule divides the rate by 10'),
    'train.warmup_iteration': Key(types.integer(0), 100, 'iterations of linear warm-up from a tenth'),
    'train.weight_decay': Key(_NOT_NEGATIVE, 5e-4, 'weight decay; biases have none'),
    'train.momentum': Key(_MOMENTUM, 0.9, 'momentum of SGD'),
    'train.clip_grad_norm': Key(_NOT_NEGATIVE, 0.0, 'norm of all gradients together to which larger ones are scaled '
                                                    'down; 0: never'),
    'train.batch_size': Key(types.integer(1), 4, 'images per step on each process'),
    'train.total_batch_size': Key(types.integer(0), 0,
                                  'images per step on all processes together, shared out evenly in place of '
                                  'batch_size; 0: batch_size counts'),
    'train.precision': Key(types.choice(*PRECISIONS), 'fp32',
                           'arithmetic of the network; tf32 rounds what its convolutions multiply on GPUs that can and '
                           'changes nothing elsewhere, bf16 runs its forward in autocast. All else stays float32. But '
                           'for bf16, CPUs keep to AVX2, so that all compute alike, unless the environment variable '
                           'ONEDNN_MAX_CPU_ISA says otherwise (ALL is the fastest)'),
    'train.crop_size': Key(types.PAIR, [512, 512], 'size of the training crops, in pixels'),
    'train.shuffle': Key(types.BOOLEAN, True, 'shuffle the list each epoch'),
    'train.random_mirror': Key(types.BOOLEAN, True, 'mirror with probability 0.5'),
    'train.random_scale': Key(types.BOOLEAN, True, 'scale at random'),
    'train.random_crop': Key(types.BOOLEAN, True, 'crop at random; false takes the top left'),
    'train.memory_bank_size': Key(types.integer(0), 2, 'steps whose prototypes are kept; 0 keeps none'),
    **{f'train.{relation}_{part}': key for relation, known in RELATIONS.items() for part, key in (
        ('loss_types', Key(types.choice('none', 'segsort'), known.loss_types, f'{known.title}: off (none) or on')),
        ('concentration', Key(_NOT_NEGATIVE, known.concentration, f'{known.title}: kappa of the loss')),
        ('loss_weight', Key(_NOT_NEGATIVE, known.loss_weight, f'{known.title}: weight in the total loss')))},
    'train.kinds': Key(
        types.table(f'{{kind: {{key: number}}}}, kinds of {", ".join(LABEL_KINDS)}, keys of the relations such as '
                    'sem_occ_concentration and sem_occ_loss_weight', LABEL_KINDS, _OF_A_KIND), {},
        "concentrations and weights of images that the list says are of this kind, in place of the relations' own "
        'keys; sem_ann_loss_weight weighs the softmax head, too'),
    'train.sem_occ_largest_share': Key(_SHARE, 1.0, 'semantic co-occurrence, where it is on, is left out if more than '
                                       'this share of the pairs of training images have a foreground class in common: '
                                       'then it says little of a pixel; 1: never. The training prints what it found'),
    'train.img_sim_with_location': Key(types.BOOLEAN, Derived('false for Densepose', lambda c: not _is_densepose(c)),
                                       'whether image similarity compares vectors with location, or plain ones'),
    'train.embedding_scale': Key(_POSITIVE,
                                 Derived('0.1 for Densepose, else 1', lambda c: 0.1 if _is_densepose(c) else 1.0),
                                 'factor of the embedding in the vectors with location that relations compare; those '
                                 'that k-means clusters have 1'),
    'train.detach_softmax': Key(types.BOOLEAN, True,
                                'whether the softmax head learns alongside the embedding without training it; false '
                                'trains both by cross-entropy, scaled by train.sem_ann_loss_weight'),
    'train.freeze_embedding': Key(types.BOOLEAN, True, "a classifier's training: whether the embedding network stays "
                                  'as it is, in eval mode; false trains it along with the head, but for '
                                  'network.frozen_stages'),
    'train.equivariance_loss_weight': Key(_NOT_NEGATIVE, 0.0,
                                          'prediction_types cam: weight of the distance between the maps of a scaled '
                                          'image and the scaled maps of the image; 0: off'),
    'train.equivariance_scale': Key(_SCALE, 0.3, 'scale of that image'),

    'test.image_size': Key(types.integer(0), 512, 'length of the longer side at a single scale; 0 keeps the size'),
    'test.crop_size': Key(types.PAIR, [512, 512], 'size of the sliding window, in pixels'),
    'test.stride': Key(types.PAIR, Derived('test.crop_size', lambda c: list(c['test.crop_size'])),
                       'step of the sliding window, at most its size'),
    'test.trim': Key(types.BOOLEAN, False, 'trim windows to the view, rounded up to the stride of the network, instead '
                                           'of filling smaller views up with zeros: faster, and other values near '
                                           'those zeros'),
    'test.precision': Key(types.choice('fp32', 'bf16'), 'fp32', 'arithmetic of the networks in inference; bf16 also '
                          'folds batch norms into convolutions. All else stays float32'),
    'test.head_grid': Key(types.choice('input', 'embedding'), 'input',
                          "where the softmax head predicts: on embeddings resized to the input's size, as in the "
                          'release, or on their own grid, a quarter of it, its logits resized'),
    'test.max_pixels': Key(types.integer(64), 1 << 21, 'larger images are scaled down to so many pixels where '
                           "inference works at their own size (multi scale, pseudo labels); labels return to the "
                           "image's size by nearest"),
    'test.walk_cells': Key(types.integer(1), WALK_CELLS, "most cells, of 8 x 8 pixels, of a random walk's grid; the "
                           'network and the walk see larger images scaled down. Memory grows with its square'),
}

# Keys of the release that no longer do anything, and what took their place.
OBSOLETE = {
    'dataset.data_dir': '--data_dir',
    'dataset.train_data_list': '--data_list',
    'dataset.test_data_list': '--data_list',
    'dataset.color_map_path': 'dataset.color_map',
    'test.scales': '--multi_scale',
}


def conflicts(config):
    """Yield (key, message) for each rule between keys that the flat configuration, valid key by key, breaks."""
    number = config['dataset.num_classes']
    for key, what in (('dataset.class_names', 'names'), ('dataset.color_map', 'colours')):
        given = config[key]
        if given is not None and len(given) != number:
            yield key, f'has {len(given)} {what} but dataset.num_classes is {number}; give as many, or null'
    begin, end = config['train.begin_iteration'], config['train.max_iteration']
    if begin >= end:
        yield 'train.begin_iteration', f'is {begin} but must be less than train.max_iteration, {end}'
    stride, crop = config['test.stride'], config['test.crop_size']
    if any(step > size for step, size in zip(stride, crop, strict=True)):
        yield 'test.stride', f'is {stride} but may not exceed test.crop_size, {crop}: windows would leave holes'
    ky, kx = config['network.kmeans_num_clusters']
    if ky * kx > MAX_CLUSTERS:
        yield 'network.kmeans_num_clusters', f'is {[ky, kx]}, more than {MAX_CLUSTERS} clusters in total; choose fewer'
    if config['network.pretrained'] in PRETRAINED_NAMES:
        yield from _pretrained_conflicts(config)
    for relation in RELATIONS:
        loss = config[f'train.{relation}_loss_types']
        if loss != 'none' and config[f'train.{relation}_concentration'] == 0:
            yield (f'train.{relation}_concentration',
                   f'must be greater than 0 while train.{relation}_loss_types is {loss}')


def _pretrained_conflicts(config):
    name, backbone = config['network.pretrained'], config['network.backbone_types']
    if config['network.prediction_types'] == 'softmax_classifier':
        yield 'network.pretrained', f'is {name}, but a classifier needs the model-*.pth of a trained embedding'
    if name == TORCHVISION and config['network.stem'] != '7x7':
        yield 'network.stem', f'is {config["network.stem"]} but must be 7x7 while network.pretrained is {name}'
    if _backbone(config).pretrained != name:
        known = ', '.join(f'panoptic_*_{key}' for key, entry in BACKBONES.items() if entry.pretrained == name)
        yield 'network.backbone_types', f'is {backbone}, but network.pretrained: {name} has only weights for {known}'


def describe():
    """Return the table of keys as text: for each key its name, its meaning, its values and its default."""
    lines = []
    for name, key in SCHEMA.items():
        default = key.default.text if isinstance(key.default, Derived) else repr(key.default)
        default = 'required' if key.default is REQUIRED else f'default: {default}'
        lines += [name, f'    {key.doc}', f'    {key.type.expects}; {default}']
    return '\n'.join(lines)
