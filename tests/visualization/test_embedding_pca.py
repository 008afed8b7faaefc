import numpy as np
import pytest
import torch

from spml.visualization.tensorboard import embedding_pca


def naive_pca(embedding):
    """Return the picture by numpy's singular value decomposition instead of the covariance's eigenvectors."""
    pixels = embedding.reshape(len(embedding), -1).T.astype(np.float64)
    pixels = pixels - pixels.mean(0)
    axes = np.linalg.svd(pixels, full_matrices=False)[2][:3]
    axes = np.array([axis * np.sign(axis[np.abs(axis).argmax()]) for axis in axes])
    components = pixels @ axes.T
    low, high = components.min(0), components.max(0)
    return ((components - low) / (high - low) * 255).reshape(*embedding.shape[1:], 3)


def test_equals_singular_value_decomposition():
    embedding = np.random.default_rng().standard_normal((7, 9, 5)) * np.array([5, 4, 3, 1, 1, .5, .2])[:, None, None]
    rgb = embedding_pca(torch.from_numpy(embedding).requires_grad_())
    np.testing.assert_array_equal(embedding_pca(embedding), rgb)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (9, 5, 3))
    assert np.abs(rgb - naive_pca(embedding)).max() <= 0.501
    assert rgb.min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert rgb.max(axis=(0, 1)).tolist() == [255, 255, 255]


@pytest.mark.parametrize('value', [0.0, 0.1, 1e6])
def test_constant_embedding_is_grey(value):
    assert (embedding_pca(torch.full((6, 4, 4), value)) == 128).all()


def test_missing_components_are_grey():
    line = torch.rand(1, 6, 6)
    rgb = embedding_pca(torch.cat([line, 2 * line, -line]))
    assert (rgb[..., 1:] == 128).all()
    assert np.ptp(rgb[..., 0]) == 255
    assert embedding_pca(line).shape == (6, 6, 3)
