import numpy as np
import pytest

from spml.prepare.oversegmentation import boundary, boundary_recall


def naive_boundary(labels):
    height, width = labels.shape
    return {(y, x) for y in range(height) for x in range(width)
            if any(0 <= y + dy < height and 0 <= x + dx < width and labels[y + dy, x + dx] != labels[y, x]
                   for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))}


def naive_recall(regions, truth, tolerance):
    wanted, there = naive_boundary(truth), naive_boundary(regions)
    near = [any((y - v) ** 2 + (x - u) ** 2 <= tolerance ** 2 for v, u in there) for y, x in wanted]
    return sum(near), len(near)


@pytest.mark.parametrize('tolerance', [0, 1, 1.5, 2, 5])
def test_against_every_pair_of_pixels(tolerance, rng):
    truth = np.kron(rng.integers(0, 3, (3, 4)), np.ones((7, 5), int))
    regions = np.kron(rng.integers(0, 3, (2, 3)), np.ones((11, 8), int))[:21, :20]
    assert boundary_recall(regions, truth, tolerance) == naive_recall(regions, truth, tolerance)
    assert {(y, x) for y, x in np.argwhere(boundary(truth)).tolist()} == naive_boundary(truth)


def test_no_boundary_of_the_regions_finds_none_and_one_of_their_own_all():
    truth = np.kron(np.arange(6).reshape(2, 3), np.ones((5, 6), int))
    assert boundary_recall(np.zeros((10, 18), int), truth) == (0, len(naive_boundary(truth)))
    assert boundary_recall(truth, truth, tolerance=0) == (len(naive_boundary(truth)),) * 2
    assert boundary_recall(truth, np.zeros((10, 18), int)) == (0, 0)


def test_the_boundary_is_the_middle_of_a_band_of_void():
    truth = np.zeros((12, 30), np.uint8)
    truth[:, 13:18] = 255
    truth[:, 18:] = 4
    middle = np.arange(30) >= 15
    regions = np.broadcast_to(middle, truth.shape).astype(int)
    found, total = boundary_recall(regions, truth, tolerance=1)
    assert found == total == 24  # two columns
    regions = np.broadcast_to(np.arange(30) >= 20, truth.shape).astype(int)
    assert boundary_recall(regions, truth, tolerance=2)[0] == 0


def test_inside_large_void_nothing_is_counted():
    truth = np.zeros((9, 60), np.uint8)
    truth[:, 10:40] = 255
    truth[:, 40:] = 3
    assert boundary_recall(np.zeros((9, 60), int), truth) == (0, 0)
    assert boundary_recall(np.zeros((9, 60), int), np.full((9, 60), 255)) == (0, 0)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match='shape'):
        boundary_recall(np.zeros((3, 4)), np.zeros((4, 3)))
