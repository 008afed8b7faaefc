"""DeepLab-v2 head: the sum of four parallel dilated convolutions (METHOD.md, "Network")."""
from torch import nn


class DeepLabHead(nn.ModuleDict):
    """(B, in_channels, h, w) -> (B, embedding_dim, h, w); keys `aspp_{1..4}.0.{weight,bias}`."""

    def __init__(self, in_channels, embedding_dim):
        super().__init__({f'aspp_{i}': nn.Sequential(
            nn.Conv2d(in_channels, embedding_dim, 3, padding=6 * i, dilation=6 * i)) for i in range(1, 5)})

    def forward(self, x):
        """Sum the branches."""
        return sum(branch(x) for branch in self.values())
