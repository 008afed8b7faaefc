"""PSPNet head: pyramid pooling, a 3x3 bottleneck and a 1x1 projection (METHOD.md, "Network")."""
import torch
import torch.nn.functional as F
from torch import nn


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
