import sys

import cv2
import numpy as np
import pytest
from originals import check_form
from scipy import ndimage

from spml.errors import SpmlError
from spml.prepare.owt_ucm import cut_regions, direction, regions_from_contours


def blobs(rng, shape=(40, 56), sigma=2.0):
    """A random smooth map in 0..1."""
    values = ndimage.gaussian_filter(rng.random(shape), sigma)
    return (values - values.min()) / np.ptp(values)


def partition(regions):
    return {frozenset(np.flatnonzero(regions.ravel() == index).tolist()) for index in np.unique(regions)}


def test_lines_part_what_lies_between_them():
    contours = np.zeros((41, 61))
    contours[20, :] = 0.4
    contours[:, 30] = 0.9
    # Thin lines lose strength to their flanks when plateaus are smoothed away.
    assert regions_from_contours(contours, 0.05).max() + 1 == 4
    halves = regions_from_contours(contours, 0.3)
    assert halves.max() + 1 == 2
    assert len(np.unique(halves[:, :29])) == len(np.unique(halves[:, 32:])) == 1
    assert halves[0, 0] != halves[0, -1]
    assert regions_from_contours(contours, 0.95).max() == 0


@pytest.mark.parametrize('angle', np.arange(0, 180, 22.5))
def test_an_edge_counts_as_much_in_every_direction(angle):
    y, x = np.mgrid[-30:31, -30:31]
    normal = np.deg2rad(angle)
    distance = x * np.cos(normal) + y * np.sin(normal) + 0.3
    contours = 0.6 * np.exp(-distance ** 2 / 18)
    assert regions_from_contours(contours, 0.35).max() + 1 == 2
    assert regions_from_contours(contours, 0.65).max() + 1 == 1
    regions = regions_from_contours(contours, 0.35)
    sides = distance[np.abs(distance) > 2.5] > 0
    of_sides = regions[np.abs(distance) > 2.5]
    assert len(set(of_sides[sides])) == len(set(of_sides[~sides])) == 1


def test_an_arc_across_the_contour_counts_less_than_one_along_it():
    strength = np.full((30, 60), 0.1)
    strength[:, 29:31] = 0.8
    along = cut_regions(strength, np.zeros(strength.shape), 0.5)
    across = cut_regions(strength, np.full(strength.shape, np.pi / 2), 0.5)
    assert along.max() + 1 == 2
    assert across.max() + 1 == 1


@pytest.mark.parametrize('levels', [None, 255, 6])
def test_regions_are_connected_numbered_and_nested(levels, rng):
    contours = blobs(rng)
    if levels:
        contours = np.round(contours * levels) / levels
    finer = None
    for threshold in (0.0, 0.2, 0.4, 0.6, 0.9):
        regions = regions_from_contours(contours, threshold)
        check_form(regions, contours.shape, 255)
        if finer is not None:
            assert all(any(part <= whole for whole in partition(regions)) for part in partition(finer))
        finer = regions


def test_at_most_so_many_regions_and_those_of_the_strongest_contours(rng):
    contours = blobs(rng, (110, 140), 1.2)
    everything = regions_from_contours(contours, 0)
    assert everything.max() + 1 > 200
    for most in (1, 2, 7, 40):
        regions = regions_from_contours(contours, 0, most)
        check_form(regions, contours.shape, most)
        assert regions.max() + 1 >= most / 2
        assert all(any(part <= whole for whole in partition(regions)) for part in partition(everything))
    # The threshold rises only where there are too many.
    threshold, few = next((threshold, regions) for threshold in np.linspace(0.1, 0.7, 21)
                          if (regions := regions_from_contours(contours, threshold)).max() < 150)
    assert few.max() > 0
    np.testing.assert_array_equal(regions_from_contours(contours, threshold, int(few.max()) + 1), few)


def test_no_region_is_tiny():
    contours = ndimage.gaussian_filter(np.random.default_rng().random((250, 300)), 0.8)
    assert np.bincount(regions_from_contours(contours, 0.0, 255).ravel()).min() >= 15  # 2e-4 of 75,000 pixels


@pytest.mark.parametrize('shape', [(1, 1), (1, 2), (2, 1), (1, 9), (2, 2), (3, 3), (3, 50)])
@pytest.mark.parametrize('value', [0.0, 1.0, None])
def test_flat_maps_and_tiny_images(shape, value):
    contours = np.random.default_rng().random(shape) if value is None else np.full(shape, value)
    regions = regions_from_contours(contours, 0.1)
    check_form(regions, shape, 255)
    if value is not None:
        assert regions.max() == 0


def test_the_direction_is_that_of_the_largest_eigenvector():
    yy, xy, xx = np.random.default_rng().normal(size=(3, 5, 7))
    angle = direction(yy, xy, xx)
    _, vectors = np.linalg.eigh(np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -1))
    along = np.stack([np.cos(angle), np.sin(angle)], -1)
    np.testing.assert_allclose(np.abs((along * vectors[..., 1]).sum(-1)), 1, atol=1e-9)
    assert ((angle >= 0) & (angle < np.pi)).all()


def test_what_is_smooth_does_not_depend_on_threads():
    contours = blobs(np.random.default_rng(), (80, 100))
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = regions_from_contours(contours, 0.3)
        cv2.setNumThreads(4)
        np.testing.assert_array_equal(regions_from_contours(contours, 0.3), one)
    finally:
        cv2.setNumThreads(before)


def test_without_higra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'higra', None)
    with pytest.raises(SpmlError, match='pip install higra'):
        regions_from_contours(np.zeros((4, 4)), 0.5)
