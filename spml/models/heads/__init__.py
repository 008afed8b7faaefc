"""Heads of the embedding network, from the backbone's features to embeddings, by their names."""
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from spml.models.heads.deeplab import DeepLabHead
from spml.models.heads.pspnet import pspnet_head


class Head(NamedTuple):
    """One head.

    Attributes:
        checkpoint_name: its name in the embedding network, with which its keys in checkpoints start.
        build: function from the backbone's channels and D to the module.
        fewest_images: that a training step needs for its batch norms.
    """

    checkpoint_name: str
    build: Callable[[int, int], nn.Module]
    fewest_images: int = 1


# A pooling branch of the PSP head has a single value per image and channel.
HEADS = {'deeplab': Head('aspp', DeepLabHead), 'pspnet': Head('pspp', pspnet_head, fewest_images=2)}
