"""From a checked configuration to networks: the only module of `spml.models` that reads configuration keys."""
from spml.errors import CheckpointError
from spml.models.backbones import build_backbone
from spml.models.cam import CamHead, FeatureNetwork
from spml.models.embedding import EmbeddingNetwork
from spml.models.heads import ALONE_DROPOUT, JOINT_DROPOUT, SoftmaxClassifier
from spml.models.named_weights import lite0_checkpoint, timm_checkpoint, torchvision_checkpoint
from spml.names import BACKBONES, LITE0, TIMM, TORCHVISION, split_architecture
from spml.utils.model_files import weights_path


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
    dropout = ALONE_DROPOUT if config.network.prediction_types == 'softmax_classifier' else JOINT_DROPOUT
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
