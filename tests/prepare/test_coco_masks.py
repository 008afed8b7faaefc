import sys

import numpy as np
import pytest
from pycocotools import mask as coco

from spml.errors import DataError, SpmlError
from spml.prepare.coco_masks import decode_mask, is_rectangle


def blobs(rng, size):
    """A mask of some rectangles, sometimes none or all."""
    mask = np.zeros(size, bool)
    for _ in range(rng.integers(0, 5)):
        (top, left), (bottom, right) = np.sort(rng.integers(0, np.array(size) + 1, (2, 2)), axis=0)
        mask[top:bottom, left:right] ^= True
    return mask


def compressed(mask):
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': encoded['size'], 'counts': encoded['counts'].decode()}


def runs(mask):
    """The lengths of the runs down the columns, the first one of zeros."""
    lengths, value = [0], False
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


def test_run_lengths_of_both_kinds(rng):
    for size in [(256, 256), (7, 300), *map(tuple, rng.integers(1, 60, (30, 2)).tolist())]:
        for mask in (blobs(rng, size), rng.random(size) < 0.5, np.zeros(size, bool), np.ones(size, bool)):
            for segmentation in (compressed(mask), {'size': list(size), 'counts': runs(mask)}):
                found = decode_mask(segmentation, size, 'here')
                assert found.dtype == bool
                np.testing.assert_array_equal(found, mask)


def test_polygons_have_the_pixels_of_coco(rng):
    size = (30, 40)
    for _ in range(20):
        polygons = [rng.uniform(0, 30, 2 * count).round(2).tolist() for count in rng.integers(3, 8, 2)]
        want = coco.decode(coco.frPyObjects(polygons, *size)).any(-1)
        np.testing.assert_array_equal(decode_mask(polygons, size, 'here'), want)
    square = np.zeros(size, bool)
    square[3:8, 2:6] = True
    np.testing.assert_array_equal(decode_mask([[2, 3, 6, 3, 6, 8, 2, 8]], size, 'here'), square)
    np.testing.assert_array_equal(decode_mask([[2, 3, 6, 3, 6, 8, 2, 8], [1, 1, 5, 5]], size, 'here'), square)
    assert not decode_mask([], size, 'here').any()


@pytest.mark.parametrize('segmentation', [
    None, 'text', 5, {'counts': [12]}, {'size': [3, 5], 'counts': [15]}, {'size': [3, 4], 'counts': [13]},
    {'size': [3, 4], 'counts': [11]}, {'size': [3, 4], 'counts': [-1, 13]}, {'size': [3, 4], 'counts': [6.0, 6.0]},
    {'size': [3, 4], 'counts': ''}, {'size': [3, 4], 'counts': 'zzzz'}, {'size': [3, 4], 'counts': 'P' * 100},
    {'size': [3, 4], 'counts': 'é'}, {'size': [3, 4]}, [[1, 2, 3, 4, float('nan'), 5]], [[1, 2, 3, 4, 1e9, 5]],
    [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 'x', 5]], [3], [[True, 2, 3, 4, 5, 6]]])
def test_other_segmentations_are_refused(segmentation):
    with pytest.raises(DataError, match=r'^file: annotation 7: .*\Z'):  # one line
        decode_mask(segmentation, (3, 4), 'file: annotation 7')


def test_without_pycocotools_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    assert decode_mask({'size': [1, 2], 'counts': [1, 1]}, (1, 2), 'here').tolist() == [[False, True]]
    with pytest.raises(SpmlError, match=r"pip install -e '\.\[data\]'"):
        decode_mask([[0, 0, 2, 0, 2, 2]], (3, 3), 'here')


def test_a_polygon_that_is_not_in_a_list_of_its_own():
    block = np.zeros((48, 64), bool)
    block[4:20, 4:24] = True
    np.testing.assert_array_equal(decode_mask([4, 4, 24, 4, 24, 20, 4, 20], (48, 64), 'here'), block)


def test_polygons_in_shares_of_the_image():
    with pytest.raises(DataError, match=r'here: all x and y are in 0\.\.1; they must be pixels'):
        decode_mask([[.0625, .08, .375, .08, .375, .4, .0625, .4]], (48, 64), 'here')


def test_which_segmentations_are_rectangles(rng):
    (left, right), (top, bottom) = (np.sort(rng.random((2, 2))) * 60).tolist()
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    for turned in (corners, corners[::-1], corners[1:] + corners[:1], [*corners, corners[0]]):
        assert is_rectangle([[number for corner in turned for number in corner]])
    for other in (corners[:3], [*corners[:3], [left, bottom + 1]], [*corners, corners[1]], [*corners, [0, 0]],
                  [corners[0], corners[1], corners[0], corners[2]]):
        assert not is_rectangle([[number for corner in other for number in corner]])
    assert not is_rectangle({'size': [48, 64], 'counts': [48 * 64]})
    assert not is_rectangle([[4, 4, 24, 4, 24, 20, 4, 20]] * 2)
