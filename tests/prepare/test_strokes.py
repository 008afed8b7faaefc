import itertools
import math

import numpy as np
import pytest

from spml.prepare.shapes import draw_strokes as draw
from spml.prepare.shapes import middle


def distance_to_segment(point, start, end):
    """The distance of a point to a segment, by the angles at its ends."""
    ahead, back = math.dist(point, start), math.dist(point, end)
    length = math.dist(start, end)
    if length == 0:
        return ahead
    if ahead ** 2 >= back ** 2 + length ** 2:
        return back
    if back ** 2 >= ahead ** 2 + length ** 2:
        return ahead
    half = (ahead + back + length) / 2
    return 2 * math.sqrt(max(0, half * (half - ahead) * (half - back) * (half - length))) / length  # Heron


@pytest.mark.parametrize('radius', [0.5, 1.5, 3, 4.7])
def test_a_pixel_takes_the_nearest_stroke_within_the_radius(radius, rng):
    shape = (23, 31)
    strokes = [(label, rng.uniform(-4, 34, (count, 2))) for label, count in ((0, 3), (7, 2), (20, 1), (3, 4))]
    labels = draw(strokes, shape, radius)
    assert labels.dtype == np.uint8
    for y, x in np.ndindex(shape):
        distances = [(min(distance_to_segment((x, y), start, end) for start, end in
                          zip(path, path[1:] if len(path) > 1 else path, strict=False)), label)
                     for label, path in strokes]
        ordered = sorted(distances)
        if abs(ordered[0][0] - radius) < 1e-6 or ordered[1][0] - ordered[0][0] < 1e-6:
            continue  # where rounding may decide
        assert labels[y, x] == (ordered[0][1] if ordered[0][0] <= radius else 254), (y, x)


def picture(labels):
    return [''.join('.' if value == 254 else str(value) for value in row) for row in labels]


def test_a_dot_of_six_pixels():
    assert picture(draw([(5, np.array([[4., 3.]]))], (7, 9), 3)) == [
        '....5....',
        '..55555..',
        '..55555..',
        '.5555555.',
        '..55555..',
        '..55555..',
        '....5....']


def test_crossing_strokes_share_the_pixels_by_distance_and_ties_by_order():
    rows, columns = np.array([[0., 2.], [6., 2.]]), np.array([[3., 0.], [3., 4.]])
    assert picture(draw([(1, rows), (2, columns)], (5, 7), 1)) == [
        '..222..',
        '1112111',
        '1111111',
        '1112111',
        '..222..']
    assert picture(draw([(2, columns), (1, rows)], (5, 7), 1)) == [
        '..222..',
        '1122211',
        '1112111',
        '1122211',
        '..222..']


def test_the_middle_of_a_path():
    path = np.array([[0., 0.], [6., 0.], [6., 4.]])
    np.testing.assert_array_equal(middle(path, 1.0), path)
    np.testing.assert_allclose(middle(path, 0.5), [[2.5, 0], [6, 0], [6, 1.5]])
    np.testing.assert_allclose(middle(path, 0.1), [[4.5, 0], [5.5, 0]])
    np.testing.assert_array_equal(middle(path, 0), [[5, 0]])
    np.testing.assert_array_equal(middle(path[:1], 0), path[:1])
    np.testing.assert_array_equal(middle(np.array([[2., 3.], [2., 3.]]), 0.5)[0], [2, 3])


@pytest.mark.parametrize('fraction', [0.3, 0.5, 0.8, 1.0])
def test_the_middle_has_its_share_of_the_length_on_either_side(fraction):
    path = np.random.default_rng().uniform(0, 100, (9, 2))
    kept = middle(path, fraction)

    def length(points):
        return sum(math.dist(a, b) for a, b in itertools.pairwise(points))

    assert length(kept) == pytest.approx(fraction * length(path))
    # The vertices that stay tell how much was cut off before the first of them.
    vertices = [index for index in range(9) if any(np.array_equal(path[index], point) for point in kept)]
    if vertices:
        ahead = length(path[:vertices[0] + 1]) - math.dist(kept[0], path[vertices[0]])
        assert ahead == pytest.approx((1 - fraction) / 2 * length(path), abs=1e-6)
