"""ResNet with dilated last stages, output stride 8, and a deep stem (METHOD.md, "Network") or torchvision's.

The names of the modules are those of the authors' checkpoints: `conv1.conv1.{0,1,3,4,6}` (`conv1.conv1` is a single
convolution in torchvision's stem), `conv1.bn1`, `res2` ... `res5`.
"""
import math
import re

from torch import nn

from spml.names import STAGES

STAGE_BLOCKS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_EXPANSION = 4


def _conv3x3(in_channels, out_channels, stride=1, dilation=1):
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)


class Stem(nn.Module):
    """Convolution to stride 2 and a max pool: (B, 3, H, W) -> (B, out_channels, H/4, W/4).

    Three 3x3 convolutions to 128 channels (`deep`), or one to 64 (`7x7`), as in torchvision's ResNet.
    """

    def __init__(self, layout):
        super().__init__()
        if layout == 'deep':
            self.out_channels = 128
            self.conv1 = nn.Sequential(
                _conv3x3(3, 64, stride=2), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
                _conv3x3(64, 64), nn.BatchNorm2d(64), nn.ReLU(inplace=True), _conv3x3(64, 128))
        else:
            self.out_channels = 64
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x):
        """Map normalised images to features at stride 4."""
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with stride and dilation), 1x1, and a shortcut."""

    def __init__(self, in_channels, width, stride, dilation):
        super().__init__()
        out_channels = width * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                                            nn.BatchNorm2d(out_channels))

    def forward(self, x):
        """Map (B, in, h, w) to (B, 4 * width, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNetBackbone(nn.Module):
    """Dilated ResNet of depth 14, 50 or 101.

    Args:
        depth: 14 (one block a stage, for laptops and tests), 50 or 101.
        bn_momentum: momentum of every batch norm; 3e-4 in the release, where the backbone starts from ImageNet weights.
        stem: `deep`, or `7x7` for torchvision's ImageNet weights.
    """

    checkpoint_name = 'resnet_backbone'
    out_channels = 512 * _EXPANSION
    stride = 8

    def __init__(self, depth, bn_momentum=3e-4, stem='deep'):
        super().__init__()
        self.conv1 = Stem(stem)
        in_channels = self.conv1.out_channels
        widths, strides, dilations = (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4)
        for stage, blocks in enumerate(STAGE_BLOCKS[depth]):
            layers = []
            for block in range(blocks):
                # A stage's first block still uses the dilation of the stage before it.
                dilation = max(1, dilations[stage] // 2) if block == 0 else dilations[stage]
                layers.append(Bottleneck(in_channels, widths[stage], strides[stage] if block == 0 else 1, dilation))
                in_channels = widths[stage] * _EXPANSION
            setattr(self, f'res{stage + 2}', nn.Sequential(*layers))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = bn_momentum

    def stages(self):
        """Return its parts by the names of STAGES."""
        return {stage: self.conv1 if stage == 'stem' else getattr(self, stage) for stage in STAGES}

    @staticmethod
    def foreign_key(key):
        """Return the key here for one of a flat ImageNet state dict (`conv1`, `bn1`, `layer1` ...), or None."""
        if key.startswith(('conv1.', 'bn1.')):
            return f'conv1.{key}'
        match = re.match(r'layer([1-4])\.', key)
        return f'res{int(match[1]) + 1}.{key[match.end():]}' if match else None

    def forward(self, images):
        """Map (B, 3, H, W) normalised float images to (B, 2048, ceil(H/8), ceil(W/8)) features."""
        return self.res5(self.res4(self.res3(self.res2(self.conv1(images)))))


def build(name, bn_momentum, stem, timm_model):
    """Return the ResNet whose name is its depth."""
    return ResNetBackbone(int(name), bn_momentum, stem)
