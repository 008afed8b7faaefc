"""METHOD.md, "Network", in torch functions on a state dict, and bilinear resizing in loops: the tests' oracle."""
import math

import numpy as np
import torch
import torch.nn.functional as F

from spml.models.backbones import build_backbone
from spml.models.embedding import EmbeddingNetwork

BLOCKS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def embedding_network(depth, head, dim, colour=False, stem='deep'):
    """Return the network under test."""
    return EmbeddingNetwork(build_backbone(str(depth), stem=stem), head, dim, colour)


def bilinear(values, size):
    """Resize the last two axes of a float64 numpy array, half-pixel centres, without antialiasing."""
    out = np.zeros((*values.shape[:-2], *size))
    taps = []
    for old, new in zip(values.shape[-2:], size, strict=True):
        axis = []
        for i in range(new):
            centre = min(max((i + 0.5) * old / new - 0.5, 0), old - 1)
            low = math.floor(centre)
            axis.append((low, min(low + 1, old - 1), centre - low))
        taps.append(axis)
    for i, (top, bottom, y) in enumerate(taps[0]):
        for j, (left, right, x) in enumerate(taps[1]):
            out[..., i, j] = ((1 - y) * ((1 - x) * values[..., top, left] + x * values[..., top, right])
                              + y * ((1 - x) * values[..., bottom, left] + x * values[..., bottom, right]))
    return out


def bn(x, state, name):
    """Batch norm in eval mode."""
    return F.batch_norm(x, state[f'{name}.running_mean'], state[f'{name}.running_var'], state[f'{name}.weight'],
                        state[f'{name}.bias'])


def backbone(state, images, depth):
    """ResNet with a deep stem, from keys without prefix."""
    x = F.relu(bn(F.conv2d(images, state['conv1.conv1.0.weight'], stride=2, padding=1), state, 'conv1.conv1.1'))
    x = F.relu(bn(F.conv2d(x, state['conv1.conv1.3.weight'], padding=1), state, 'conv1.conv1.4'))
    x = F.relu(bn(F.conv2d(x, state['conv1.conv1.6.weight'], padding=1), state, 'conv1.bn1'))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    first_dilations, dilations, strides = (1, 1, 1, 2), (1, 1, 2, 4), (1, 2, 1, 1)
    for stage in range(4):
        for block in range(BLOCKS[depth][stage]):
            name = f'res{stage + 2}.{block}'
            stride = strides[stage] if block == 0 else 1
            dilation = first_dilations[stage] if block == 0 else dilations[stage]
            shortcut = x
            if block == 0:
                shortcut = bn(F.conv2d(x, state[f'{name}.downsample.0.weight'], stride=stride), state,
                              f'{name}.downsample.1')
            y = F.relu(bn(F.conv2d(x, state[f'{name}.conv1.weight']), state, f'{name}.bn1'))
            y = F.conv2d(y, state[f'{name}.conv2.weight'], stride=stride, padding=dilation, dilation=dilation)
            y = F.conv2d(F.relu(bn(y, state, f'{name}.bn2')), state[f'{name}.conv3.weight'])
            x = F.relu(bn(y, state, f'{name}.bn3') + shortcut)
    return x


def deeplab(state, x):
    """Sum of four dilated convolutions, keys without prefix."""
    total = 0
    for i, dilation in enumerate((6, 12, 18, 24), start=1):
        total = total + F.conv2d(x, state[f'aspp_{i}.0.weight'], state[f'aspp_{i}.0.bias'], padding=dilation,
                                 dilation=dilation)
    return total


def pspnet(state, x):
    """Pyramid pooling, bottleneck, projection, keys without prefix."""
    features = [x]
    for i, bins in enumerate((1, 2, 3, 6), start=1):
        pooled = F.conv2d(F.adaptive_avg_pool2d(x, bins), state[f'0.pspp_{i}.1.weight'])
        pooled = F.relu(bn(pooled, state, f'0.pspp_{i}.2'))
        features.append(torch.from_numpy(bilinear(pooled.numpy(), x.shape[-2:])).to(x.dtype))
    fused = F.conv2d(torch.cat(features, dim=1), state['0.conv.0.weight'], padding=1)
    return F.conv2d(F.relu(bn(fused, state, '0.conv.1')), state['1.weight'], state['1.bias'])


def randomise_batch_norms(model):
    """Draw the scales, shifts and statistics of every batch norm, in place."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
