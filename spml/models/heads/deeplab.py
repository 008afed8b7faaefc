"""DeepLab-v2 head: the sum of four parallel dilated convolutions (METHOD.md, "Network")."""
from torch import nn


class DeepLabHead(nn.Module):
    """(B, in_channels, h, w) -> (B, embedding_dim, h, w); keys `aspp_{1..4}.0.{weight,bias}`."""

    def __init__(self, in_channels, embedding_dim, dilations=(6, 12, 18, 24)):
        super().__init__()
        self.branches = [f'aspp_{i + 1}' for i in range(len(dilations))]
        for name, dilation in zip(self.branches, dilations, strict=True):
            self.add_module(name, nn.Sequential(
                nn.Conv2d(in_channels, embedding_dim, 3, padding=dilation, dilation=dilation)))

    def forward(self, x):
        """Sum the branches."""
        return sum(getattr(self, name)(x) for name in self.branches)
