"""What k-means sees on DensePose besides embedding and location: smoothed colour (METHOD.md, "Network")."""
import torch
import torch.nn.functional as F
from torch import nn


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
