import math

import numpy as np
import pytest
from naive_layers import bilinear, nearest

from spml.data import transforms


def sample(rng, height, width):
    return rng.random((height, width, 3), np.float32), rng.integers(0, 256, (2, height, width), np.uint8)


def test_mirror(rng):
    image, labels = sample(rng, 5, 7)
    got, got_labels = transforms.mirror(image, labels)
    for i, j in np.ndindex(5, 7):
        np.testing.assert_array_equal(got[i, j], image[i, 6 - j])
        np.testing.assert_array_equal(np.array(got_labels)[:, i, j], labels[:, i, 6 - j])


def test_swap_parts_touches_only_the_paired_classes():
    pairs = {2: 3, 4: 5, 6: 7, 8: 9, 10: 11, 12: 13}
    both = pairs | {right: left for left, right in pairs.items()}
    expected = [both.get(value, value) for value in range(256)]
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    got = transforms.swap_parts(label)
    assert got.dtype == np.uint8
    assert got.ravel().tolist() == expected
    np.testing.assert_array_equal(transforms.swap_parts(got), label)


@pytest.mark.parametrize('size', [(9, 14), (5, 7), (3, 4), (1, 1), (23, 2)])
def test_resize(rng, size):
    image, labels = sample(rng, 9, 14)
    got, got_labels = transforms.resize(image, labels, size)
    expected = bilinear(image.transpose(2, 0, 1).astype(np.float64), size).transpose(1, 2, 0)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    for before, after in zip(labels, got_labels, strict=True):
        assert after.dtype == np.uint8
        np.testing.assert_array_equal(after, nearest(before, size))


def test_nearest_is_exact_where_the_quotient_is_whole():
    label = np.array([[0, 1]], np.uint8)
    for width in range(1, 300):
        _, (got,) = transforms.resize(np.zeros((1, 2, 3), np.float32), (label,), (1, width))
        assert got[0].tolist() == [j * 2 // width for j in range(width)]


def test_random_scale_truncates_and_stays_in_range(rng):
    image, labels = sample(rng, 21, 34)
    seen = set()
    for seed in range(200):
        got, got_labels = transforms.random_scale(image, labels, (0.5, 1.5), np.random.default_rng(seed))
        factor = 0.5 + np.random.default_rng(seed).random()
        assert got.shape[:2] == (int(21 * factor), int(34 * factor))
        assert all(label.shape == got.shape[:2] for label in got_labels)
        seen.add(got.shape[0])
    assert seen <= set(range(10, 32))
    assert len(seen) > 15


def test_random_scale_of_a_tiny_image_keeps_a_pixel(rng):
    image, labels = sample(rng, 1, 1)
    assert transforms.random_scale(image, labels, (0.5, 0.6), rng)[0].shape == (1, 1, 3)


@pytest.mark.parametrize('size', [(8, 9), (4, 9), (8, 3), (5, 6), (2, 2)])
def test_pad_to(rng, size):
    image, labels = sample(rng, 5, 6)
    means = rng.random(3)
    got, got_labels = transforms.pad_to(image, labels, size, means)
    height, width = max(5, size[0]), max(6, size[1])
    assert (got.dtype, got.shape) == (np.float32, (height, width, 3))
    for i, j in np.ndindex(height, width):
        inside = i < 5 and j < 6
        np.testing.assert_allclose(got[i, j], image[i, j] if inside else means, atol=1e-7)
        np.testing.assert_array_equal(np.array(got_labels)[:, i, j], labels[:, i, j] if inside else 255)


def test_random_crop_places(rng):
    image, labels = sample(rng, 7, 9)
    offsets = set()
    for seed in range(300):
        got, got_labels = transforms.random_crop(image, labels, (4, 6), np.random.default_rng(seed))
        oracle = np.random.default_rng(seed)
        top, left = math.floor(oracle.random() * 3), math.floor(oracle.random() * 3)
        np.testing.assert_array_equal(got, image[top:top + 4, left:left + 6])
        np.testing.assert_array_equal(got_labels, labels[:, top:top + 4, left:left + 6])
        offsets.add((top, left))
    assert offsets == {(top, left) for top in range(3) for left in range(3)}
    np.testing.assert_array_equal(transforms.random_crop(image, labels, (7, 9), rng)[0], image)


def test_to_grey(rng):
    image, _ = sample(rng, 4, 5)
    got = transforms.to_grey(image)
    assert got.dtype == np.float32
    for i, j in np.ndindex(4, 5):
        red, green, blue = (float(value) for value in image[i, j])
        np.testing.assert_allclose(got[i, j], [0.3 * red + 0.59 * green + 0.11 * blue] * 3, atol=1e-6)


@pytest.mark.parametrize('sigma', [0.1, 0.7, 2.5, 5.0])
def test_blur(rng, sigma):
    height, width = 6, 8
    image, _ = sample(rng, height, width)

    def reflect(place, size):
        place = abs(place)
        return place if place < size else 2 * (size - 1) - place

    taps = {(y, x): math.exp(-(x * x + y * y) / sigma ** 2) for y in range(-2, 3) for x in range(-2, 3)}
    total = sum(taps.values())
    expected = np.zeros((height, width, 3))
    for i, j in np.ndindex(height, width):
        for (y, x), weight in taps.items():
            pixel = image[reflect(i + y, height), reflect(j + x, width)].astype(np.float64)
            expected[i, j] += weight / total * pixel
    got = transforms.blur(image, sigma)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_normalise(rng):
    image, _ = sample(rng, 3, 4)
    means, stds = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    got = transforms.normalise(image, means, stds)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, (image.astype(np.float64) - means) / stds, atol=1e-5)


def test_inputs_are_left_alone(rng):
    image, labels = sample(rng, 6, 6)
    before, labels_before = image.copy(), labels.copy()
    transforms.pad_to(image, labels, (9, 9), (0, 0, 0))
    transforms.to_grey(image)
    transforms.blur(image, 1.0)
    transforms.normalise(image, (0.5, 0.5, 0.5), (1, 1, 1))
    transforms.swap_parts(labels[0])
    transforms.random_scale(image, labels, (0.5, 1.5), rng)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(labels, labels_before)
