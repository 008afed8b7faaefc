"""From a checked configuration to networks: the only place in `spml.models` that reads configuration keys."""
from spml.config.schema import TORCHVISION
from spml.models.embedding import EmbeddingNetwork
from spml.models.heads.softmax import ALONE_DROPOUT, JOINT_DROPOUT, SoftmaxClassifier
from spml.models.torchvision_weights import torchvision_checkpoint


def build_embedding(config):
    """Return the EmbeddingNetwork that `config.network` describes, with random weights."""
    _, head, depth = config.network.backbone_types.split('_')
    return EmbeddingNetwork(int(depth), head, config.network.embedding_dim, bn_momentum=config.network.bn_momentum,
                            colour=config.network.colour_features, stem=config.network.stem)


def pretrained_path(config):
    """Return the file of the weights `network.pretrained`, torchvision's fetched if need be."""
    if config.network.pretrained == TORCHVISION:
        return torchvision_checkpoint(int(config.network.backbone_types.split('_')[2]))
    return config.network.pretrained


def build_classifier(config):
    """Return the SoftmaxClassifier of `config`; its dropout depends on whether it is trained alone."""
    dropout = ALONE_DROPOUT if config.network.prediction_types == 'softmax_classifier' else JOINT_DROPOUT
    return SoftmaxClassifier(config.network.embedding_dim, config.dataset.num_classes, dropout)
