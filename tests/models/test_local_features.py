import math

import numpy as np
import pytest
import torch
from naive_layers import bilinear, embedding_network

from spml.models.embedding import ColourFeatures
from spml.segsort.segments import location_features


def naive_location(height, width):
    """Return (2, height, width): y, then x."""
    out = np.zeros((2, height, width))
    for i, j in np.ndindex(height, width):
        out[:, i, j] = (i / (height - 1) if height > 1 else 0) - 0.5, (j / (width - 1) if width > 1 else 0) - 0.5
    return out


def naive_colour(images, size):
    """Smooth without padding, resize, centre and scale (B, 3, H, W) images."""
    kernel = np.array([[math.hypot(i - 2, j - 2) for j in range(5)] for i in range(5)])
    kernel /= kernel.sum()
    batch, channels, height, width = images.shape
    smooth = np.zeros((batch, channels, height - 4, width - 4))
    for i, j in np.ndindex(height - 4, width - 4):
        smooth[:, :, i, j] = (images[:, :, i:i + 5, j:j + 5] * kernel).sum(axis=(2, 3))
    out = bilinear(smooth, size)
    for b, c in np.ndindex(batch, channels):
        out[b, c] -= out[b, c].mean()
        out[b, c] /= np.abs(out[b, c]).max()
    return out


@pytest.mark.parametrize('size', [(4, 7), (1, 3), (5, 1), (33, 32)])
def test_location_features(size):
    np.testing.assert_allclose(location_features(*size), naive_location(*size), atol=1e-6)


@pytest.mark.parametrize('size', [(4, 7), (20, 9)])
def test_colour_features(size):
    images = np.random.default_rng().standard_normal((2, 3, 17, 22)) * 2 + 1
    got = ColourFeatures().double()(torch.from_numpy(images), size)
    # The kernel is kept in float32.
    np.testing.assert_allclose(got, naive_colour(images, size), atol=1e-5)


def test_the_kernel_is_fixed_and_stored():
    features = ColourFeatures()
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert features.state_dict()['smooth_kernel.weight'].shape == (3, 1, 5, 5)


def test_an_image_of_one_colour_has_finite_features():
    got = ColourFeatures()(torch.full((1, 3, 12, 12), 0.25), (3, 3))
    assert torch.isfinite(got).all()


def test_order_of_the_features_in_the_network():
    images = np.random.default_rng().standard_normal((2, 3, 16, 20))
    tensor = torch.from_numpy(images).float()
    plain = embedding_network(14, 'deeplab', 2).local_features(tensor, (4, 5))
    np.testing.assert_allclose(plain, np.broadcast_to(naive_location(4, 5), (2, 2, 4, 5)), atol=1e-6)
    coloured = embedding_network(14, 'deeplab', 2, colour=True).local_features(tensor, (4, 5))
    np.testing.assert_allclose(coloured[:, :2], plain)
    np.testing.assert_allclose(coloured[:, 2:], naive_colour(images, (4, 5)), atol=1e-4)
