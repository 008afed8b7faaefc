"""Heads: of the embedding network, from the backbone's features to embeddings, and the softmax head on these.

METHOD.md, "Network" and "Softmax head".
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from spml.models.precision import compute_in

# Of the softmax head when it is trained alone.
ALONE_DROPOUT = 0.65


class DeepLabHead(nn.ModuleDict):
    """(B, in_channels, h, w) -> (B, embedding_dim, h, w); keys `aspp_{1..4}.0.{weight,bias}`."""

    def __init__(self, in_channels, embedding_dim):
        super().__init__({f'aspp_{i}': nn.Sequential(
            nn.Conv2d(in_channels, embedding_dim, 3, padding=6 * i, dilation=6 * i)) for i in range(1, 5)})

    def forward(self, x):
        """Sum the branches."""
        return sum(branch(x) for branch in self.values())


class PyramidPooling(nn.Module):
    """(B, in_channels, h, w) -> (B, width, h, w); keys `pspp_{1..4}.{1,2}.*` and `conv.{0,1}.*`."""

    def __init__(self, in_channels, width, bins=(1, 2, 3, 6)):
        super().__init__()
        self.branches = [f'pspp_{i + 1}' for i in range(len(bins))]
        for name, size in zip(self.branches, bins, strict=True):
            self.add_module(name, nn.Sequential(
                nn.AdaptiveAvgPool2d(size), nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width),
                nn.ReLU(inplace=True)))
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels + len(bins) * width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
            nn.ReLU(inplace=True))

    def forward(self, x):
        """Concatenate the features with every pooled branch and fuse them."""
        pooled = [F.interpolate(getattr(self, name)(x), size=x.shape[-2:], mode='bilinear', align_corners=False)
                  for name in self.branches]
        return self.conv(torch.cat([x, *pooled], dim=1))


def pspnet_head(in_channels, embedding_dim, width=512):
    """Return the head as `Sequential(pyramid pooling, 1x1 conv)`: (B, in, h, w) -> (B, embedding_dim, h, w)."""
    return nn.Sequential(PyramidPooling(in_channels, width), nn.Conv2d(width, embedding_dim, 1))


class Head(NamedTuple):
    """One head of the embedding network."""

    checkpoint_name: str  # its name in that network, with which its keys in checkpoints start
    build: Callable[[int, int], nn.Module]  # from the backbone's channels and D
    fewest_images: int = 1  # that a training step needs for its batch norms


# A pooling branch of the PSP head has a single value per image and channel.
HEADS = {'deeplab': Head('aspp', DeepLabHead), 'pspnet': Head('pspp', pspnet_head, fewest_images=2)}


class SoftmaxClassifier(nn.Module):
    """Two-layer pixel classifier."""

    def __init__(self, embedding_dim, num_classes, dropout):
        super().__init__()
        self.dtype = None  # of the layers, where it is not that of the embeddings
        self.semantic_classifier = nn.Sequential(
            nn.Conv2d(embedding_dim, 2 * embedding_dim, 3, padding=1, bias=False), nn.BatchNorm2d(2 * embedding_dim),
            nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Conv2d(2 * embedding_dim, num_classes, 1))

    def forward(self, embeddings):
        """Map (B, D, h, w) embeddings of any length to (B, C, h, w) logits; they are unit-normalised first."""
        return compute_in(self.dtype, self.semantic_classifier, F.normalize(embeddings, dim=1))


def softmax_loss(logits, labels, num_classes, weights=None):
    """Cross-entropy and pixel accuracy over labelled pixels.

    Args:
        logits: (B, C, h, w), upsampled bilinearly to the label map.
        labels: (B, H, W) int64; values >= num_classes (unlabelled, void) are ignored.
        weights: of the images, a list of B floats, by which their pixels' losses are multiplied; None: 1.

    Returns:
        Scalar loss (0, still differentiable, when no pixel is labelled) and scalar accuracy in 0..1.
    """
    logits = F.interpolate(logits, size=labels.shape[-2:], mode='bilinear', align_corners=False)
    labelled = labels < num_classes
    target = torch.where(labelled, labels, -1)
    count = labelled.sum().clamp(min=1)
    if weights is None or len(set(weights)) == 1:
        loss = F.cross_entropy(logits, target, ignore_index=-1, reduction='sum') / count
        loss = loss if weights is None else weights[0] * loss
    else:
        losses = F.cross_entropy(logits, target, ignore_index=-1, reduction='none').sum(dim=(1, 2))
        loss = (losses * losses.new_tensor(weights)).sum() / count
    accuracy = (logits.detach().argmax(1) == target).sum() / count
    return loss, accuracy
