"""The network that class activation maps come from (METHOD.md, "Class activation maps").

A classifier of image tags whose last layer is a 1x1 convolution without bias: its output, averaged over the image, is
the score of each class, and before averaging it is the class's activation map. Checkpoints keep the two parts apart, as
those of embeddings do, so an embedding can start from the backbone that a tag classifier has trained.
"""
import torch.nn.functional as F
from torch import nn

# The smallest maximum by which an activation map is divided.
_SMALLEST_TOP = 1e-5


class FeatureNetwork(nn.Module):
    """A backbone alone, under the name that it has in checkpoints."""

    def __init__(self, backbone):
        super().__init__()
        self._name = backbone.checkpoint_name
        self.add_module(self._name, backbone)

    @property
    def backbone(self):
        """The backbone's module."""
        return getattr(self, self._name)

    def forward(self, images):
        """Map (B, 3, H, W) float normalised images to the backbone's features, (B, channels, h, w)."""
        return self.backbone(images)


class CamHead(nn.Module):
    """1x1 convolution from features to K activation maps; its key is `cam_classifier.weight`."""

    def __init__(self, in_channels, number):
        super().__init__()
        self.cam_classifier = nn.Conv2d(in_channels, number, 1, bias=False)

    def forward(self, features):
        """Map (B, channels, h, w) features to (B, K, h, w) activation maps of any sign."""
        return self.cam_classifier(features)


def tag_scores(maps):
    """Return the (B, K) logits of the tags: (B, K, h, w) maps averaged over the image.

    The head is linear and has no bias, so this is the head on averaged features.
    """
    return maps.mean(dim=(2, 3))


def tag_loss(maps, tags):
    """Return the scalar multi-label soft margin loss of (B, K, h, w) maps; `tags` (B, K) holds 1 for tags, else 0."""
    return F.multilabel_soft_margin_loss(tag_scores(maps), tags)


def relative(maps):
    """Return (B, K, h, w) maps rectified and divided by each one's maximum; a map without a positive value is 0."""
    maps = maps.relu()
    return maps / maps.amax(dim=(2, 3), keepdim=True).clamp(min=_SMALLEST_TOP)


def equivariance_loss(maps, scaled, tags):
    """Return the scalar mean distance of the maps of scaled images from the scaled maps of images.

    Args:
        maps: (B, K, h, w), of the images.
        scaled: (B, K, h', w'), of their scaled copies.
        tags: (B, K), 1 for an image's tags, else 0. The mean is over the cells of the tags' maps; 0 without any.
    """
    moved = F.interpolate(relative(maps), size=scaled.shape[-2:], mode='bilinear', align_corners=False)
    distance = (moved - relative(scaled)).abs().mean(dim=(2, 3))
    return (distance * tags).sum() / tags.sum().clamp(min=1)
