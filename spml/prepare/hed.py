"""Contours of photographs by HED.

Xie, Tu, "Holistically-Nested Edge Detection", ICCV 2015: VGG-16, from each of whose five blocks a map of contours is
read, and their weighted sum. The weights are those of `weights`, which compute what Keras computes with them.
"""
import functools
import multiprocessing

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from spml.errors import CheckpointError
from spml.models.weights import read_checkpoint
from spml.utils.device import pick_device

SCALES = (1.0, 1.5)  # of an image's size, at which it is looked at; the maps are averaged
_MOST_PIXELS = 1 << 20  # at which an image is looked at: what the first block computes of them takes 0.5 GiB
_BGR_MEANS = (104.00699, 116.66877, 122.67892)
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions


class HolisticEdges(nn.Module):
    """HED. Keys: `blocks.0.0` ... `blocks.4.2` (3x3), `sides.0` ... `sides.4` and `fuse` (1x1), each with a bias."""

    def __init__(self):
        super().__init__()
        widths = [3, *(width for width, _ in _BLOCKS)]
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(width if layer else before, width, 3, padding=1) for layer in range(depth))
            for before, (width, depth) in zip(widths, _BLOCKS, strict=False))
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width, _ in _BLOCKS)
        self.fuse = nn.Conv2d(len(_BLOCKS), 1, 1)

    def forward(self, images):
        """Map (B, 3, H, W) float images, BGR in 0..255 less the means, to (B, 1, H, W) logits of contours."""
        x, maps = images, []
        for index, (block, side) in enumerate(zip(self.blocks, self.sides, strict=True)):
            if index:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            for convolution in block:
                x = F.relu(convolution(x), inplace=True)
            maps.append(F.interpolate(side(x), size=images.shape[-2:], mode='bilinear', align_corners=False))
        return self.fuse(torch.cat(maps, dim=1))


@functools.cache
def load_hed(path):
    """Return HED with the weights in a file, on the GPU where there is one; once in a process.

    CheckpointError: the file is missing or holds other weights.
    """
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # every processor has its own worker
    network = HolisticEdges()
    try:
        network.load_state_dict(read_checkpoint(path))
    except RuntimeError:
        raise CheckpointError(f'{path}: holds no weights of HED; delete it and fetch it again') from None
    return network.to(pick_device()).eval()


@torch.no_grad()
def contour_map(network, image):
    """Return the contours (H, W) float32 in 0..1 of an image (H, W, 3) uint8 RGB, the mean over SCALES."""
    device = next(network.parameters()).device
    height, width = image.shape[:2]
    pixels = image[..., ::-1].astype(np.float32)
    total = np.zeros((height, width), np.float32)
    for scale in SCALES:
        scale = min(scale, (_MOST_PIXELS / (height * width)) ** 0.5)
        size = max(1, round(scale * width)), max(1, round(scale * height))
        scaled = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR) - np.float32(_BGR_MEANS)
        contours = network(torch.from_numpy(scaled).permute(2, 0, 1)[None].to(device))[0, 0].sigmoid().cpu().numpy()
        total += cv2.resize(contours, (width, height), interpolation=cv2.INTER_LINEAR)
    return total / len(SCALES)
