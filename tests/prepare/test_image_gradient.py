"""The tensor of change, against a naive one in float64 and on images whose contours are known."""
import cv2
import numpy as np
import pytest
from scipy.stats import norm

from spml.evaluation.boundary_recall import boundary_recall
from spml.prepare import image_gradient
from spml.prepare.image_gradient import change_tensor
from spml.prepare.oversegmentation import oversegment
from spml.prepare.owt_ucm import principal
from spml.scenes.regions import over_segmentation
from spml.scenes.scene import render_scene


def blurred(plane, sigma):
    """Gaussian smoothing in float64 with OpenCV's kernel length for floats and its mirrored border."""
    size = int(np.rint(8 * sigma + 1)) | 1
    kernel = np.exp(-(np.arange(size) - size // 2) ** 2 / (2 * sigma ** 2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(plane, [(size // 2,) * 2 if a == axis else (0, 0) for a in (0, 1)], mode='reflect')
        plane = np.apply_along_axis(np.convolve, axis, padded, kernel, mode='valid')
    return plane


def hellinger(one, other):
    """Half the squared distance of the roots of histograms along the last axis."""
    return ((np.sqrt(one) - np.sqrt(other)) ** 2).sum(-1) / 2


def naive_change(image, axis):
    """Mean squared change along an axis, but for textons: (H, W) float64, not smoothed."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(np.float64)
    height, width = lab.shape[:2]
    total = np.zeros((height, width))
    for scale in (2, 4):
        before, after = (np.clip(np.arange((height, width)[axis]) + step, 0, (height, width)[axis] - 1)
                         for step in (-scale, scale))
        for channel, (low, high) in enumerate(((0, 100), (-60, 60), (-60, 60))):
            plain = blurred(lab[..., channel], scale) / 30
            total += (np.take(plain, after, axis) - np.take(plain, before, axis)) ** 2
            centres = np.linspace(low, high, 12)
            share = np.stack([np.interp(lab[..., channel], centres, row) for row in np.eye(12)], -1)
            histogram = np.stack([blurred(share[..., index], scale) for index in range(12)], -1)
            total += hellinger(np.take(histogram, after, axis), np.take(histogram, before, axis)) / 3
    return total / 6


@pytest.mark.parametrize('axis', [0, 1])
def test_colour_against_histograms_one_by_one(monkeypatch, axis):
    monkeypatch.setattr(image_gradient, '_texton_planes', lambda lightness: iter(()))
    monkeypatch.setattr(image_gradient, '_TENSOR_SIGMA', 1e-3)
    rng = np.random.default_rng()
    image = np.kron(rng.integers(0, 256, (4, 5, 3)), np.ones((9, 9, 1), int)) + rng.integers(-20, 20, (36, 45, 3))
    image = np.clip(image, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(change_tensor(image)[2 * axis], naive_change(image, axis), atol=2e-4)


def test_a_step_of_colour_changes_as_much_as_the_normal_distribution_says():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 255
    strength, angle = principal(change_tensor(image))
    # Black and white share no bin of L, nor a texton; a and b are alike. The middle lies half a pixel off any.
    parts = []
    for scale, weight in ((2, 1 / 3), (4, 1 / 3)):
        share = norm.cdf([scale + 0.5, 0.5 - scale], scale=scale)
        parts.append(weight * hellinger(np.stack([share, 1 - share], -1)[0], np.stack([share, 1 - share], -1)[1])
                     + (100 / 30 * np.diff(share)[0]) ** 2)
    lowest = sum(parts) / 6
    peak = strength[:, 29:31]
    assert (peak > 0.9 * lowest).all()
    assert (peak < lowest + 2 / 6).all()  # and the textons' change, at most complete at both scales
    np.testing.assert_allclose(np.minimum(angle, np.pi - angle)[:, 29:31], 0, atol=1e-3)
    assert strength[:, :12].max() < 0.03 * peak.min()


def test_nothing_changes_in_a_flat_image():
    assert change_tensor(np.full((20, 30, 3), 77, np.uint8)).max() < 1e-9


def test_texture_parts_where_colour_does_not():
    y, x = np.mgrid[:80, :120]
    stripes = np.where(x < 60, y // 3 % 2, x // 3 % 2)  # lying and standing, of the same two greys
    image = np.repeat((90 + 60 * stripes)[..., None], 3, 2).astype(np.uint8)
    regions = oversegment(image, threshold=0.25, max_regions=2)
    assert (regions[:, :55] == regions[40, 20]).mean() > 0.97
    assert (regions[:, 65:] == regions[40, 100]).mean() > 0.97
    assert regions[40, 20] != regions[40, 100]


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (2, 2), (5, 3)])
def test_tiny_images(shape):
    image = np.random.default_rng().integers(0, 256, (*shape, 3), np.uint8)
    tensor = change_tensor(image)
    assert tensor.shape == (3, *shape)
    assert np.isfinite(tensor).all()
    assert oversegment(image).shape == shape


def test_the_same_image_has_the_same_regions():
    rng = np.random.default_rng()
    image = render_scene(rng, 60, 80, 6, first_class=1).image
    np.testing.assert_array_equal(oversegment(image), oversegment(image.copy()))


def test_finds_more_of_the_built_in_boundaries_than_the_built_in_regions_do():
    rng = np.random.default_rng()
    ours, theirs, total = 0, 0, 0
    for first_class in range(1, 6):
        scene = render_scene(rng, 120, 160, 6, first_class)
        given = over_segmentation(scene.image)
        regions = oversegment(scene.image, threshold=1e-6, max_regions=int(given.max()) + 1)
        ours += boundary_recall(regions, scene.instance, tolerance=1)[0]
        found, count = boundary_recall(given, scene.instance, tolerance=1)
        theirs, total = theirs + found, total + count
    assert ours > theirs
    assert ours > 0.75 * total
