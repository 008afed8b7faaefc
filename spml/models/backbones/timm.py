"""Networks of PyTorch Image Models (timm) as backbones: their features at stride 8 (METHOD.md, "Network").

A network that timm can dilate has output stride 8, and its last feature map is taken. Of any other it is the deepest
map of stride 16 or less, resized; what follows in the network is left out.
"""
import difflib
import itertools
import math
import re

import torch
import torch.nn.functional as F
from torch import nn

from spml.errors import first_line
from spml.models.dilated import speed_up_dilated
from spml.names import STAGES
from spml.utils.timm_models import known_model, refusal, require_timm

_STRIDE = 8
_COARSEST = 16
# Options with which timm's models take images of any size, most wanted first; each model knows some of them.
_OPTIONS = ({'output_stride': _STRIDE}, {'dynamic_img_size': True}, {})
_ALWAYS_ABLE = ['convnext_tiny', 'resnet50']


class TimmBackbone(nn.Module):
    """A network of timm up to the feature map that is used.

    Images are padded with 0 on the right and bottom to a multiple of the map's stride and of 8, so that every cell
    of the map covers as many pixels, whichever way a network rounds. `name` is that of the model, as timm lists it,
    with or without a tag of weights; `bn_momentum` that of every batch norm. ConfigError: timm is not installed, has no
    such model, or gets no such features from it.
    """

    checkpoint_name = 'timm_backbone'
    stride = _STRIDE

    def __init__(self, name, bn_momentum=3e-4):
        super().__init__()
        known_model(name)
        self.features, is_dilated, reason = _able_network(name)
        if self.features is None:
            raise refusal(name, reason, _near_models(name))
        info = self.features.feature_info
        self.out_channels = info.channels()[-1]
        self._multiple = math.lcm(info.reduction()[-1], _STRIDE)
        self._stages = _assign_stages(self.features, is_dilated)
        speed_up_dilated(self.features)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = bn_momentum
        self._flat_keys = {_flat(key): key for key in self.state_dict()}

    def stages(self):
        """Return its parts by the names of STAGES, each part by the stride that it has where nothing is dilated.

        `res2` ends with the map of stride 4, `res3` of stride 8, and so on; what comes before is the stem.
        """
        named = list(self.features.named_parameters())
        return {stage: nn.ParameterList(parameter for name, parameter in named if self._stages.get(name) == stage)
                for stage in STAGES}

    def foreign_key(self, key):
        """Return the key here for one of timm's own state dicts, or None for what is not used, such as its head."""
        return self._flat_keys.get(f'features_{_flat(key)}')

    def forward(self, images):
        """Map (B, 3, H, W) normalised float images to (B, out_channels, ceil(H/8), ceil(W/8)) features."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self._multiple, 0, -height % self._multiple))
        x = _last_map(self.features, padded)
        size = [side // _STRIDE for side in padded.shape[-2:]]
        if list(x.shape[-2:]) != size:
            x = F.interpolate(x, size=size, mode='bilinear', align_corners=False)
        return x[..., :math.ceil(height / _STRIDE), :math.ceil(width / _STRIDE)]


def build(name, bn_momentum, stem, timm_model):
    """Return the backbone of a model of timm; neither its name among the backbones nor a stem matters."""
    return TimmBackbone(timm_model, bn_momentum)


def _able_network(name):
    """Return timm's network from images to feature maps, whether it is dilated, and '', or None, False and why not."""
    reason = ''
    for options in _OPTIONS:
        is_dilated = 'output_stride' in options
        try:
            network = _network(name, _STRIDE if is_dilated else _COARSEST, options)
        except Exception as error:  # each model refuses options and sizes in its own way
            reason = first_line(error).rstrip('.')[:200]
            continue
        return network, is_dilated, ''
    return None, False, reason


def _network(name, coarsest, options):
    """Return timm's network up to its last map of a stride up to `coarsest`, tried on images; any error if it fails."""
    create = require_timm().create_model
    network = create(name, features_only=True, in_chans=3, **options)
    fine = [index for index, stride in zip(network.feature_info.out_indices, network.feature_info.reduction(),
                                           strict=True) if stride <= coarsest]
    if not fine:
        raise ValueError(f'its finest features have stride {min(network.feature_info.reduction())}')
    if len(fine) < len(network.feature_info.out_indices):
        network = create(name, features_only=True, in_chans=3, out_indices=fine, **options)
    channels, stride = network.feature_info.channels()[-1], network.feature_info.reduction()[-1]
    unit = math.lcm(stride, _STRIDE)
    size = 7 * unit, 9 * unit  # no size that a model may be made for is such a multiple
    is_training = network.training
    with torch.enable_grad():
        found = _last_map(network.eval(), torch.zeros(1, 3, *size))
        if found.shape != (1, channels, *(side // stride for side in size)):
            raise ValueError(f'features of {size[0]} x {size[1]} pixels have the shape {tuple(found.shape)}')
        found.sum().backward()
    # What does not lead to the map would never learn.
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return network.train(is_training)


def _last_map(network, images):
    x = network(images)[-1]
    return x.permute(0, 3, 1, 2) if str(getattr(network, 'output_fmt', 'NCHW')).endswith('NHWC') else x


def _near_models(name):
    """Return names of a few models, spelt like `name`, that can be backbones."""
    near = difflib.get_close_matches(name.partition('.')[0], require_timm().list_models(), n=6, cutoff=0.5)
    with torch.device('meta'):
        able = (other for other in near[1:] if _able_network(other)[0] is not None)
        return list(itertools.islice(able, 3)) or _ALWAYS_ABLE


def _assign_stages(network, is_dilated):
    """Return dict from a parameter's name to its stage; parameters that nothing learns from have none.

    A parameter belongs to the first feature map that does not come before its module.
    """
    places = {_flat(re.sub(r'^(model|body)\.', '', name)): place
              for place, (name, _) in enumerate(network.named_modules())}
    ends, stages, stride, begin = [], [], 0, None
    for feature in network.feature_info.info[:max(network.feature_info.out_indices) + 1]:
        own = [place for name, place in places.items() if f'{name}_'.startswith(f'{_flat(feature["module"])}_')]
        # A dilated network has its further maps at the stride where it stopped.
        deeper = is_dilated and feature['reduction'] == _STRIDE and stride >= _STRIDE
        stride = 2 * stride if deeper else feature['reduction']
        ends.append(max(own))
        stages.append(STAGES[min(max(round(math.log2(stride)) - 1, 0), len(STAGES) - 1)])
        begin = min(own) if begin is None else begin
    found = {}
    for place, (module_name, module) in enumerate(network.named_modules()):
        stage = 'stem' if place < begin else next(
            (stage for end, stage in zip(ends, stages, strict=True) if place <= end), stages[-1])
        found |= {f'{module_name}.{name}'.lstrip('.'): stage
                  for name, parameter in module.named_parameters(recurse=False) if parameter.requires_grad}
    return found


def _flat(name):
    return name.replace('.', '_')
