"""The networks: of the embedding, and of class activation maps (METHOD.md, "Network", "Class activation maps").

Plain values in, no configuration: only `spml.models.build` reads it. The names of the modules are the keys of the
authors' checkpoints (`resnet_backbone`, `aspp` or `pspp`, `lfn`).

CAMs come from a classifier of image tags whose last layer is a 1x1 convolution without bias: its output, averaged over
the image, is the score of each class, and before averaging it is the class's activation map. Checkpoints keep the two
parts apart, as those of embeddings do, so an embedding can start from the backbone that a tag classifier has trained.
"""
import torch
import torch.nn.functional as F
from torch import nn

from spml.models.heads import HEADS
from spml.models.precision import compute_in
from spml.segsort.segments import location_features

# Size of the images over that of the embedding.
GRID_STRIDE = 4
# The smallest maximum by which an activation map is divided.
_SMALLEST_TOP = 1e-5


class EmbeddingNetwork(nn.Module):
    """Pixel embeddings at a quarter of the input size.

    Its head is one of HEADS; with `colour` the local features hold colour besides location (DensePose).
    """

    def __init__(self, backbone, head, embedding_dim, colour=False):
        super().__init__()
        self.embedding_dim = embedding_dim
        self._names = backbone.checkpoint_name, HEADS[head].checkpoint_name
        self.add_module(self._names[0], backbone)
        self.add_module(self._names[1], HEADS[head].build(backbone.out_channels, embedding_dim))
        self.lfn = ColourFeatures() if colour else None
        self.dtype = None  # of backbone and head, where it is not that of the images

    @property
    def backbone(self):
        """The backbone's module."""
        return getattr(self, self._names[0])

    @property
    def head(self):
        """The head's module."""
        return getattr(self, self._names[1])

    def forward(self, images, resize_as_input=False):
        """Return (B, D, h, w) float embeddings, not normalised, of (B, 3, H, W) float normalised images.

        h x w is about H/4 x W/4; with `resize_as_input` they are upsampled once more, to H x W.
        """
        x = compute_in(self.dtype, lambda x: self.head(self.backbone(x)), images)
        x = F.interpolate(x, scale_factor=self.backbone.stride // GRID_STRIDE, mode='bilinear', align_corners=False)
        if resize_as_input:
            x = F.interpolate(x, size=images.shape[-2:], mode='bilinear', align_corners=False)
        return x

    def local_features(self, images, size):
        """Return (B, 2, *size) locations or, with colour, (B, 5, *size): y, x, R, G, B."""
        location = location_features(*size, device=images.device, dtype=images.dtype).expand(len(images), -1, -1, -1)
        if self.lfn is None:
            return location
        return torch.cat([location, self.lfn(images, size)], dim=1)


class ColourFeatures(nn.Module):
    """Smoothed colour of DensePose's local features; key `smooth_kernel.weight` (3, 1, 5, 5), fixed."""

    def __init__(self):
        super().__init__()
        self.smooth_kernel = nn.Conv2d(3, 3, 5, groups=3, bias=False)
        # Each weight is proportional to its distance from the centre.
        axis = (torch.arange(5, dtype=torch.float32) - 2) ** 2
        kernel = (axis[None] + axis[:, None]).sqrt()
        self.smooth_kernel.weight.data.copy_((kernel / kernel.sum()).expand(3, 1, 5, 5))
        self.smooth_kernel.weight.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images, size):
        """Map (B, 3, H, W) normalised images to (B, 3, *size), centred and scaled to -1..1 per image and channel."""
        colour = F.interpolate(self.smooth_kernel(images), size=size, mode='bilinear', align_corners=False)
        colour = colour - colour.mean(dim=(2, 3), keepdim=True)
        return colour / colour.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)


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
