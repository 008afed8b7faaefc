"""Class activation maps and their losses against loops in float64."""
import math

import numpy as np
import pytest
import torch

from spml.models.networks import CamHead, equivariance_loss, relative, tag_loss, tag_scores


def naive_loss(features, weight, tags):
    """The loss of averaged features, class by class: features (B, D, h, w), weight (K, D), tags (B, K)."""
    total = 0
    for image, present in zip(features, tags, strict=True):
        pooled = image.reshape(len(image), -1).mean(axis=1)
        for row, tag in zip(weight, present, strict=True):
            score = float(row @ pooled)
            likelihood = 1 / (1 + math.exp(-score))
            total -= math.log(likelihood if tag else 1 - likelihood) / len(weight)
    return total / len(features)


def test_the_loss_is_the_soft_margin_of_the_head_on_averaged_features(rng):
    features, weight = rng.standard_normal((3, 7, 4, 5)), rng.standard_normal((6, 7))
    tags = rng.integers(0, 2, (3, 6))
    tags[1] = 0  # an image of background alone
    head = CamHead(7, 6).double()
    head.cam_classifier.weight.data.copy_(torch.from_numpy(weight)[:, :, None, None])
    assert [name for name, _ in head.named_parameters()] == ['cam_classifier.weight']  # no bias
    maps = head(torch.from_numpy(features))
    loss = tag_loss(maps, torch.from_numpy(tags).double())
    assert loss.item() == pytest.approx(naive_loss(features, weight, tags), rel=1e-12)
    # By the closed form of its derivative: (sigmoid(score) - tag) / (B K), spread over the cells.
    maps.retain_grad()
    loss.backward()
    slope = (tag_scores(maps).detach().sigmoid().numpy() - tags) / tags.size / 20
    np.testing.assert_allclose(maps.grad.numpy(), np.broadcast_to(slope[:, :, None, None], maps.shape), rtol=1e-9)


def test_equivariance_of_halved_maps(rng):
    """Halved bilinearly, a map is its means over 2 x 2 cells; one without a positive value is zero."""
    maps, scaled = rng.standard_normal((2, 3, 4, 6)), rng.standard_normal((2, 3, 2, 3))
    scaled[0, 2] = -np.abs(scaled[0, 2])
    tags = np.array([[1, 0, 1], [0, 0, 1]])
    distances = []
    for image, klass in zip(*np.nonzero(tags), strict=True):
        large, small = (np.maximum(values[image, klass], 0) for values in (maps, scaled))
        large, small = (values / values.max() if values.any() else values for values in (large, small))
        distances.append(np.abs(large.reshape(2, 2, 3, 2).mean(axis=(1, 3)) - small).mean())
    loss = equivariance_loss(torch.from_numpy(maps), torch.from_numpy(scaled), torch.from_numpy(tags).double())
    assert loss.item() == pytest.approx(np.mean(distances), rel=1e-9)


def test_equivariance_of_equal_maps_and_of_no_tags_is_nothing(rng):
    maps = torch.from_numpy(rng.random((2, 3, 4, 6)) + 0.1).requires_grad_()
    tags = torch.ones(2, 3).double()
    assert equivariance_loss(maps, 7 * maps, tags).item() == pytest.approx(0, abs=1e-12)
    loss = equivariance_loss(maps, maps.flip(-1), 0 * tags)
    loss.backward()
    assert loss.item() == 0
    assert not maps.grad.any()


def test_maps_without_a_positive_value_are_zero():
    maps = torch.tensor([[[[-1.0, -2.0]], [[-3.0, 4.0]]]])
    assert relative(maps).tolist() == [[[[0, 0]], [[0, 1]]]]
