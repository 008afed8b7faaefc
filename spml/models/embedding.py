"""The embedding network: backbone, head, and the local features that k-means adds (METHOD.md, "Network").

Plain values in, no configuration: `spml.models.build` is the one place that reads it. Attribute names are the keys of
the authors' checkpoints (`resnet_backbone`, `aspp` or `pspp`, `lfn`).
"""
import torch
import torch.nn.functional as F
from torch import nn

from spml.models.backbones.resnet import OUT_CHANNELS, ResNetBackbone
from spml.models.heads.deeplab import DeepLabHead
from spml.models.heads.pspnet import pspnet_head
from spml.models.local_features import ColourFeatures
from spml.segsort.location import location_features


class EmbeddingNetwork(nn.Module):
    """Pixel embeddings at a quarter of the input size.

    Args:
        depth: of the ResNet, 14, 50 or 101.
        head: `deeplab` or `pspnet`.
        embedding_dim: D.
        bn_momentum: of the backbone's batch norms.
        colour: whether the local features hold colour beside location (DensePose).
        stem: of the ResNet, `deep` or `7x7`.
    """

    def __init__(self, depth, head, embedding_dim, bn_momentum=3e-4, colour=False, stem='deep'):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.resnet_backbone = ResNetBackbone(depth, bn_momentum, stem)
        if head == 'deeplab':
            self.aspp = DeepLabHead(OUT_CHANNELS, embedding_dim)
        else:
            self.pspp = pspnet_head(OUT_CHANNELS, embedding_dim)
        self.lfn = ColourFeatures() if colour else None

    @property
    def head(self):
        """The head's module, whichever it is."""
        return self.aspp if hasattr(self, 'aspp') else self.pspp

    def forward(self, images, resize_as_input=False):
        """Embed images.

        Args:
            images: (B, 3, H, W) float, normalised.
            resize_as_input: upsample the embedding once more, to H x W.

        Returns:
            (B, D, h, w) float embeddings, not normalised; h x w is about H/4 x W/4, or H x W.
        """
        x = self.head(self.resnet_backbone(images))
        x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
        if resize_as_input:
            x = F.interpolate(x, size=images.shape[-2:], mode='bilinear', align_corners=False)
        return x

    def local_features(self, images, size):
        """Return (B, 2, *size) locations or, with colour, (B, 5, *size): y, x, R, G, B."""
        location = location_features(*size, device=images.device, dtype=images.dtype).expand(len(images), -1, -1, -1)
        if self.lfn is None:
            return location
        return torch.cat([location, self.lfn(images, size)], dim=1)
