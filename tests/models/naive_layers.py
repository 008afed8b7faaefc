"""METHOD.md, "Network", in torch functions on a state dict; and resizing: the tests' oracle."""
import numpy as np
import torch
import torch.nn.functional as F

from spml.models.backbones import build_backbone
from spml.models.networks import EmbeddingNetwork

BLOCKS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def embedding_network(depth, head, dim, colour=False, stem='deep'):
    """Return the network under test."""
    return EmbeddingNetwork(build_backbone(str(depth), stem=stem), head, dim, colour)


def bilinear(values, size):
    """Resize the last two axes of a numpy array, half-pixel centres, without antialiasing."""
    for axis, out in zip((-2, -1), size, strict=True):
        length = values.shape[axis]
        source = np.maximum((np.arange(out) + 0.5) * length / out - 0.5, 0)
        low = np.floor(source).astype(int)
        share = (source - low).reshape((-1, 1) if axis == -2 else -1)
        high = np.minimum(low + 1, length - 1)
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values


def nearest(labels, size):
    """Resize (H, W), or the first two axes of more, pixel by pixel."""
    height, width = labels.shape[:2]
    return np.array([[labels[y * height // size[0], x * width // size[1]] for x in range(size[1])]
                     for y in range(size[0])])


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
