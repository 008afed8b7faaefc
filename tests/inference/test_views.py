
import naive_inference as naive
import numpy as np
import pytest
import torch

from spml.inference.views import pyramid, resize_view, single_scale_size, sliding_window, window_ends

CPU = torch.device('cpu')


@pytest.mark.parametrize(('size', 'crop', 'stride', 'expected'), [
    (512, 512, 512, [512]), (512, 512, 100, [512]), (513, 512, 512, [512, 513]), (1000, 512, 512, [512, 1000]),
    (1025, 512, 340, [512, 768, 1025]), (10, 4, 2, [4, 6, 8, 10]), (11, 4, 2, [4, 5, 7, 9, 11]), (6, 4, 4, [4, 6])])
def test_windows_end_where_the_formula_says(size, crop, stride, expected):
    assert window_ends(size, crop, stride) == expected


def test_large_windows_are_shown_one_by_one_and_many_small_ones_in_batches(monkeypatch):
    image = np.random.default_rng().normal(size=(3, 33, 41))
    for at_once in (1, 2, 7, 1000):
        monkeypatch.setattr('spml.inference.views._PIXELS_AT_ONCE', at_once * 8 * 10 + 79)
        network = naive.FakeNetwork()
        found = sliding_window(lambda crop: network(crop, resize_as_input=True), torch.from_numpy(image)[None],  # noqa: B023
                               (8, 10), (5, 4))
        np.testing.assert_allclose(found[0].numpy(), naive.windows(network.embed, image, (8, 10), (5, 4)), rtol=1e-10)
        assert {shape[1:] for shape in network.shown} == {(3, 8, 10)}
        sizes = [shape[0] for shape in network.shown]
        assert sum(sizes) == 6 * 9
        assert set(sizes[:-1]) <= {at_once}
        assert 1 <= sizes[-1] <= at_once


@pytest.mark.parametrize(('size', 'image_size', 'expected'), [
    ((375, 500), 512, (384, 512)), ((500, 375), 512, (512, 384)), ((100, 100), 512, (512, 512)),
    ((640, 480), 0, (640, 480)), ((1000, 3), 100, (100, 1)), ((281, 500), 512, (287, 512))])
def test_single_scale_fits_the_longer_side(size, image_size, expected):
    assert single_scale_size(size, image_size) == expected


def test_single_scale_truncates_in_float64(rng):
    for _ in range(200):
        size, target = tuple(int(side) for side in rng.integers(5, 800, 2)), int(rng.integers(50, 700))
        ratio = min(np.float64(target) / size[0], np.float64(target) / size[1])
        found = single_scale_size(size, target)
        assert found == tuple(max(1, int(ratio * side)) for side in size)
        assert max(found) in (target - 1, target)


def test_resizing_is_bilinear_with_half_pixel_centres(rng):
    for _ in range(5):
        image = rng.normal(size=(*rng.integers(5, 40, 2), 3)).astype(np.float32)
        size = tuple(int(side) for side in rng.integers(3, 60, 2))
        found = resize_view(image, size).image
        np.testing.assert_allclose(found, naive.resize(image.transpose(2, 0, 1), size).transpose(1, 2, 0), atol=2e-4)
        assert found.dtype == np.float32


def test_a_pyramid_truncates_sizes_and_mirrors_each_scale():
    image = np.random.default_rng().normal(size=(21, 35, 3)).astype(np.float32)
    found = list(pyramid(image, (0.5, 1.0, 1.5), mirrors=True))
    assert [(view.size, view.mirrored) for view in found] == [
        ((10, 17), False), ((10, 17), True), ((21, 35), False), ((21, 35), True), ((31, 52), False), ((31, 52), True)]
    for plain, mirrored in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_array_equal(mirrored.image, plain.image[:, ::-1])
    np.testing.assert_array_equal(found[2].image, image)
    assert [view.mirrored for view in pyramid(image, (0.5, 1.5), mirrors=False)] == [False, False]
    assert all(min(view.size) >= 1 for view in pyramid(image[:1, :1], (0.5,), mirrors=True))
