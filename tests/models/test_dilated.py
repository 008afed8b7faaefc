"""Dilated depthwise convolutions against PyTorch's own in float64."""
import copy

import pytest
import torch
from torch import nn

from spml.models.dilated import DilatedDepthwise, speed_up_dilated


@pytest.mark.parametrize(('kernel', 'dilation', 'size', 'bias'), [
    (5, 4, (16, 16), False), (3, 2, (7, 9), True), (5, (2, 3), (11, 4), False), ((3, 1), 2, (1, 6), True)])
def test_values_and_gradients_are_those_of_a_dilated_convolution(kernel, dilation, size, bias):
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    steps = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    padding = tuple(step * (side // 2) for side, step in zip(sides, steps, strict=True))
    plain = nn.Conv2d(6, 6, kernel, padding=padding, dilation=dilation, groups=6, bias=bias).double()
    network = nn.Sequential(nn.Sequential(plain))
    keys = list(network.state_dict())
    speed_up_dilated(network)
    assert isinstance(network[0][0], DilatedDepthwise)
    assert list(network.state_dict()) == keys
    x, weights = torch.randn(2, 2, 6, *size, dtype=torch.float64)
    results = []
    for module in (plain, network):
        values = x.clone().requires_grad_()
        output = module(values)
        found = torch.autograd.grad((output * weights).sum(), [values, *module.parameters()])
        results.append([output, *found])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(network(x), plain(x))


@pytest.mark.parametrize(('kernel', 'dilation'), [(5, 4), (3, 2)])
def test_bfloat16_rounds_maps_and_no_more_than_pytorch(kernel, dilation):
    """In units of the largest gradient; bfloat16 has 8 bits."""
    plain = nn.Conv2d(32, 32, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=32, bias=False)
    network = nn.Sequential(copy.deepcopy(plain))
    speed_up_dilated(network)
    x, weights = torch.randn(2, 2, 32, 16, 16)
    exact = torch.autograd.grad((plain.double()(x.double()) * weights).sum(), plain.weight)[0]
    with torch.autocast('cpu', torch.bfloat16):
        output = network(x)
    assert output.dtype == torch.bfloat16
    found = torch.autograd.grad((output.float() * weights).sum(), network[0].weight)[0]
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 2 ** -7 * exact.abs().max()


def test_only_dilated_depthwise_convolutions_that_keep_the_size_change():
    others = [nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.Conv2d(4, 4, 3, padding=1, groups=4),
              nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, stride=2), nn.Conv2d(4, 4, 3, dilation=2, groups=4),
              nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
              nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, padding_mode='reflect')]
    network = nn.ModuleList(others)
    speed_up_dilated(network)
    assert all(one is other for one, other in zip(network, others, strict=True))
