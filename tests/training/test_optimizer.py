"""The optimiser against METHOD.md, "Optimisation", written out parameter by parameter in float64, and its rates."""
import copy

import numpy as np
import pytest
import torch
from torch import nn

from spml.models.backbones.resnet import ResNetBackbone
from spml.models.heads import DeepLabHead, SoftmaxClassifier
from spml.names import STAGES
from spml.training.optimizer import FoldedSGD, freeze_stages, learning_rate, parameter_groups

MOMENTUM, DECAY = 0.9, 5e-2


class SmallBackbone(nn.ModuleDict):
    """Five stages of a convolution and a batch norm each."""

    def __init__(self):
        super().__init__({stage: nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)) for stage in STAGES})

    def stages(self):
        return dict(self)


def expected_rule(backbone, heads):
    """Map each parameter that moves to (factor, decay), by the type of the module that owns it."""
    rule = {}
    stages = [backbone[stage] for stage in ('res3', 'res4', 'res5')]
    for factor, root in [(1, stage) for stage in stages] + [(10, head) for head in heads]:
        for module in root.modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                rule[module.weight] = (factor, DECAY)
                if module.bias is not None:
                    rule[module.bias] = (2 * factor, 0.0)
    return rule


def test_updates_equal_a_hand_written_loop(rng):
    backbone, heads = SmallBackbone(), [DeepLabHead(3, 2), SoftmaxClassifier(2, 4, 0.5)]
    freeze_stages(backbone, ['stem', 'res2'])
    optimizer = FoldedSGD(parameter_groups(backbone, heads, DECAY), MOMENTUM)
    rule = expected_rule(backbone, heads)
    everything = [p for module in (backbone, *heads) for p in module.parameters()]
    start = [p.detach().clone() for p in everything]
    values = {p: p.detach().double().numpy().copy() for p in rule}
    buffers = {p: np.zeros(p.shape) for p in rule}
    for lr in (1e-3, 3e-2, 1e-4, 0.0, 2e-3, 5e-2):
        for p in everything:
            gradient = rng.normal(size=p.shape).astype(np.float32)
            p.grad = torch.from_numpy(gradient) if p.requires_grad else None
            if p in rule:
                factor, decay = rule[p]
                buffers[p] = 0.9 * buffers[p] + lr * factor * (gradient.astype(float) + decay * values[p])
                values[p] = values[p] - buffers[p]
        optimizer.step(lr)
        for p, value in values.items():
            np.testing.assert_allclose(p.detach().numpy(), value, rtol=2e-5, atol=2e-6)
    for p, before in zip(everything, start, strict=True):
        assert torch.equal(p, before) == (p not in rule)


def test_a_parameter_without_gradient_stays_and_has_no_decay():
    parameter = nn.Parameter(torch.ones(3))
    FoldedSGD([{'params': [parameter], 'lr_factor': 1.0, 'weight_decay': 0.1}], 0.9).step(1.0)
    assert torch.equal(parameter, torch.ones(3))


def test_every_trainable_parameter_stands_in_one_group():
    backbone, head = ResNetBackbone(14), DeepLabHead(2048, 4)
    freeze_stages(backbone, ['res4'])
    groups = parameter_groups(backbone, [head], DECAY)
    listed = [id(p) for group in groups for p in group['params']]
    wanted = [id(p) for name, p in backbone.named_parameters() if not name.startswith('res4.')]
    assert sorted(listed) == sorted(wanted + [id(p) for p in head.parameters()])
    assert [(g['lr_factor'], g['weight_decay']) for g in groups] == [(1, DECAY), (2, 0), (10, DECAY), (20, 0)]


@pytest.mark.usefixtures('one_thread')
def test_frozen_stages_stay_while_their_statistics_move():
    backbone, head = ResNetBackbone(14, bn_momentum=0.1), DeepLabHead(2048, 4)
    freeze_stages(backbone, ['stem', 'res2'])
    optimizer = FoldedSGD(parameter_groups(backbone, [head], DECAY), MOMENTUM)
    before = copy.deepcopy(backbone.state_dict())
    for _ in range(2):
        optimizer.zero_grad()
        head(backbone.train()(torch.randn(2, 3, 24, 24))).square().mean().backward()
        optimizer.step(1e-3)
    for name, value in backbone.state_dict().items():
        frozen = name.startswith(('conv1.', 'res2.'))
        moved = not torch.equal(value, before[name])
        assert moved == (not frozen or 'running_' in name or 'num_batches' in name), name


def test_freezing_again_releases_stages():
    backbone = SmallBackbone()
    freeze_stages(backbone, ['stem', 'res5'])
    freeze_stages(backbone, ['res3'])
    assert [all(p.requires_grad for p in backbone[stage].parameters()) for stage in STAGES] == [
        True, True, False, True, True]


def warm(base, t, warmup):
    return base * (0.1 * (1 - t / warmup) + t / warmup)


def test_poly_is_the_smaller_of_decay_and_warm_up(rng):
    for _ in range(20):
        base, total = rng.uniform(1e-4, 1), int(rng.integers(2, 500))
        warmup = int(rng.integers(0, total + 50))  # may outlast the training
        for t in range(total):
            expected = base * (1 - t / total) ** 0.9
            if t < warmup:
                expected = min(expected, warm(base, t, warmup))
            assert learning_rate(t, base, 'poly', total, warmup) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('warmup', [0, 20])
def test_step_divides_by_ten_from_each_decay_iteration_on_once_the_warm_up_is_over(warmup):
    for t in range(40):
        expected = warm(0.2, t, warmup) if t < warmup else 0.2 * 0.1 ** ((t >= 10) + (t >= 25))
        assert learning_rate(t, 0.2, 'step', 100, warmup, [10, 25]) == pytest.approx(expected)
