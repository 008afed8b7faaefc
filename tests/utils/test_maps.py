import numpy as np
import pytest
from naive_layers import nearest

from spml.utils.maps import nearest_resize, tags_of


@pytest.mark.parametrize('channels', [(), (3,)])
def test_nearest_resize_takes_the_row_floor_i_in_out(channels, rng):
    for _ in range(5):
        values = rng.integers(0, 256, (*rng.integers(1, 30, 2), *channels)).astype(np.uint8)
        size = tuple(int(side) for side in rng.integers(1, 40, 2))
        found = nearest_resize(values, size)
        np.testing.assert_array_equal(found, nearest(values, size))
        assert found.dtype == np.uint8


def test_tags_are_the_values_in_the_label():
    label = np.array([[0, 3, 255], [200, 3, 0]], np.uint8)
    np.testing.assert_array_equal(tags_of(label, 5), [True, False, False, True, False])
    assert np.flatnonzero(tags_of(label)).tolist() == [0, 3, 200, 255]
