"""Backbones: what the embedding network needs of one, and how one is built by its name.

A new backbone is a module in this folder, with a `build` function, and an entry of `spml.names.BACKBONES`.
"""
import importlib
from typing import Any, Protocol

from torch import Tensor, nn

from spml.names import BACKBONES


class Backbone(Protocol):
    """A network from images to features, an nn.Module."""

    checkpoint_name: str  # its name in the embedding network, with which its keys in checkpoints start
    out_channels: int
    stride: int  # size of the images over that of the features, a multiple of 4

    def stages(self) -> dict[str, nn.Module]:
        """Return its parts, which hold all parameters that learn, by the names of STAGES."""

    def foreign_key(self, key: str) -> str | None:
        """Return its own key for one of foreign (ImageNet) weights, or None for any other key."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) normalised images to (B, out_channels, ceil(H / stride), ceil(W / stride)) features."""


def build_backbone(name: str, bn_momentum: float = 3e-4, stem: str = 'deep', timm_model: str = '') -> Any:
    """Return the Backbone of a name of BACKBONES, with random weights; ConfigError if timm cannot build it."""
    return importlib.import_module(f'{__name__}.{BACKBONES[name].module}').build(name, bn_momentum, stem, timm_model)
