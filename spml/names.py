"""Values and names that several parts share. Nothing heavy is imported with them."""
from typing import NamedTuple

__version__ = '0.1.0'

# Label value of pixels that are dropped; also the padding value (METHOD.md, "Labels").
VOID = 255

# The value this project writes for *unlabelled*. Any of C..254 would mean it, and C is at most 254.
UNLABELLED = 254

# Kinds of weak labels, from what says most to what says least, as lists name them. `mask`: the image's full truth.
LABEL_KINDS = ('mask', 'scribble', 'point', 'box', 'tag')

# Clusters of an image; segment ids and 16-bit cluster maps have room for no more.
MAX_CLUSTERS = 65535

# Side of a cell of the random walk's grid in pixels, and how many cells it has at most unless test.walk_cells says so:
# those of 640 x 640 pixels.
WALK_STRIDE = 8
WALK_CELLS = 6400


class Relation(NamedTuple):
    """What is known of a relation without computing it: its name in words, and the defaults of its three keys."""

    title: str
    loss_types: str
    concentration: float
    loss_weight: float
    silence: str = 'no pixel has a segment to be pushed from'  # what data are like to which it says nothing, in words


# Relations between pixels and segments, by the prefix of their configuration keys and of the name of their losses.
# `spml.segsort.criterion.COMPUTED` says how each is computed.
RELATIONS = {'sem_ann': Relation('semantic annotation', 'segsort', 6.0, 1.0, 'labelled pixels have one class or none'),
             'sem_occ': Relation('semantic co-occurrence', 'none', 8.0, 0.3, 'all images share classes'),
             'img_sim': Relation('low-level image similarity', 'segsort', 16.0, 0.1, 'every image is a single region'),
             'feat_aff': Relation('feature affinity', 'none', 12.0, 0.5)}


# Words that `network.pretrained` may be instead of a path.
TORCHVISION, TIMM, LITE0 = PRETRAINED_NAMES = ('torchvision', 'timm', 'efficientnet_lite0')

# Values of `train.kinds` with which images of a kind train as in the recipe for that kind (METHOD.md, "Settings");
# `mask` has none, and is as reliable as scribbles.
_FIRM = {'sem_ann_loss_weight': 1.0, 'sem_occ_concentration': 12.0, 'sem_occ_loss_weight': 0.5}
_COARSE = {'sem_ann_loss_weight': 0.3, 'sem_occ_concentration': 8.0, 'sem_occ_loss_weight': 0.3}
KIND_SETTINGS = {
    'mask': _FIRM, 'scribble': _FIRM,
    'point': {'sem_ann_loss_weight': 0.1, 'sem_occ_concentration': 8.0, 'sem_occ_loss_weight': 0.1},
    'box': _COARSE, 'tag': _COARSE}


class Backbone(NamedTuple):
    """What is known of a backbone without building it."""

    module: str  # of `spml.models.backbones`; its `build` returns the network
    pretrained: str = ''  # the word of PRETRAINED_NAMES that its ImageNet weights go by
    torchvision: str = ''  # name of torchvision's ImageNet weights for it
    # What its ImageNet weights expect of RGB in 0..1; None where timm knows it.
    pixel_means: tuple | None = (0.485, 0.456, 0.406)
    pixel_stds: tuple | None = (0.229, 0.224, 0.225)


# The parts of `network.backbone_types`, panoptic_<head>_<backbone>. `spml.models.heads.HEADS` builds the heads.
HEADS = ('deeplab', 'pspnet')
BACKBONES = {'14': Backbone('resnet'), '50': Backbone('resnet', TORCHVISION, 'ResNet50_Weights'),
             '101': Backbone('resnet', TORCHVISION, 'ResNet101_Weights'),
             'lite0': Backbone('lite0', LITE0, '', (127 / 255,) * 3, (128 / 255,) * 3),
             'timm': Backbone('timm', TIMM, '', None, None)}

# Stages of every backbone, as `network.frozen_stages` names them.
STAGES = ('stem', 'res2', 'res3', 'res4', 'res5')


def split_architecture(backbone_types):
    """Return the names of head and backbone in a value of `network.backbone_types`."""
    _, head, backbone = backbone_types.split('_', 2)
    return head, backbone


# In the environment of processes that one command launched: the folder in which they note what one has reported.
LAUNCHED = 'SPML_LAUNCHED'

# Arithmetic of the network in training, as `train.precision` names it.
PRECISIONS = ('fp32', 'tf32', 'bf16')
