import math

import pytest
import torch
from naive_layers import BLOCKS, backbone, embedding_network, randomise_batch_norms

from spml import models, names
from spml.models.backbones import build_backbone
from spml.models.backbones.resnet import ResNetBackbone
from spml.models.networks import EmbeddingNetwork
from spml.names import BACKBONES, STAGES

BN = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def backbone_keys(depth):
    """Return the keys of METHOD.md, "Checkpoint keys", without their prefix."""
    keys = {f'conv1.conv1.{i}.weight' for i in (0, 3, 6)}
    norms = ['conv1.conv1.1', 'conv1.conv1.4', 'conv1.bn1']
    for stage, blocks in enumerate(BLOCKS[depth], start=2):
        for block in range(blocks):
            keys |= {f'res{stage}.{block}.conv{i}.weight' for i in (1, 2, 3)}
            norms += [f'res{stage}.{block}.bn{i}' for i in (1, 2, 3)]
        keys.add(f'res{stage}.0.downsample.0.weight')
        norms.append(f'res{stage}.0.downsample.1')
    return keys | {f'{norm}.{part}' for norm in norms for part in BN}


def head_keys(head):
    """Return the keys of a head, with their prefix."""
    if head == 'deeplab':
        return {f'aspp.aspp_{i}.0.{part}' for i in range(1, 5) for part in ('weight', 'bias')}
    keys = {f'pspp.0.pspp_{i}.1.weight' for i in range(1, 5)} | {'pspp.0.conv.0.weight', 'pspp.1.weight', 'pspp.1.bias'}
    norms = [f'pspp.0.pspp_{i}.2' for i in range(1, 5)] + ['pspp.0.conv.1']
    return keys | {f'{norm}.{part}' for norm in norms for part in BN}


@pytest.mark.parametrize(('head', 'dim', 'colour', 'values', 'tensors'), [
    ('deeplab', 64, False, 47_448_618, 644), ('pspnet', 64, False, 65_841_519, 668),
    ('pspnet', 32, True, 65_825_178, 669)])
def test_keys_and_counts_are_those_of_the_released_weights(head, dim, colour, values, tensors):
    with torch.device('meta'):
        state = embedding_network(101, head, dim, colour=colour).state_dict()
    want = {f'resnet_backbone.{key}' for key in backbone_keys(101)} | head_keys(head)
    assert set(state) == want | ({'lfn.smooth_kernel.weight'} if colour else set())
    assert len(state) == tensors
    assert sum(value.numel() for value in state.values()) == values


@pytest.mark.parametrize('stem', ['deep', '7x7'])
@pytest.mark.parametrize('name', [name for name in BACKBONES if name != 'timm'])
def test_every_backbone_states_what_the_network_needs(name, stem):
    with torch.device('meta'):
        backbone = build_backbone(name, stem=stem)
        features = backbone(torch.empty(2, 3, 64, 96))
    assert features.shape == (2, backbone.out_channels, 64 // backbone.stride, 96 // backbone.stride)
    stages = backbone.stages()
    assert tuple(stages) == STAGES
    parts = [id(parameter) for stage in stages.values() for parameter in stage.parameters()]
    assert sorted(parts) == sorted(map(id, backbone.parameters()))


def test_heads_have_the_names_that_configurations_know():
    assert tuple(models.heads.HEADS) == names.HEADS


def test_a_backbone_of_another_stride_and_name_fits_the_network():
    class Small(torch.nn.Sequential):
        checkpoint_name, out_channels, stride = 'small', 6, 16

    model = EmbeddingNetwork(Small(torch.nn.Conv2d(3, 6, 16, stride=16)), 'deeplab', 5)
    assert {key.split('.')[0] for key in model.state_dict()} == {'small', 'aspp'}
    assert model(torch.zeros(2, 3, 32, 48)).shape == (2, 5, 8, 12)


@pytest.mark.parametrize('depth', [14, 50, 101])
@torch.no_grad()
def test_forward_equals_functional_reference(depth):
    model = ResNetBackbone(depth).eval()
    randomise_batch_norms(model)
    images = torch.randn(1, 3, 41, 64)
    want = backbone(model.state_dict(), images, depth)
    torch.testing.assert_close(model(images), want, rtol=1e-4, atol=1e-4 * want.abs().max().item())


@pytest.mark.parametrize('momentum', [3e-4, 0.1])
def test_batch_norm_momentum(momentum):
    with torch.device('meta'):
        model = ResNetBackbone(14, momentum) if momentum != 3e-4 else ResNetBackbone(14)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 3 + 4 * 4
    assert {norm.momentum for norm in norms} == {momentum}


def test_initialisation():
    model = ResNetBackbone(14)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            weight, count = module.weight.detach(), module.weight.numel()
            std = math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels))
            # Six standard errors of the sample's moments.
            assert weight.std().item() == pytest.approx(std, rel=6 / math.sqrt(2 * count))
            assert abs(weight.mean().item()) < 6 * std / math.sqrt(count)
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
