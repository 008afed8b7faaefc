import itertools

import numpy as np
import pytest
from PIL import Image

from spml.data.lists import read_list
from spml.data.tags import read_tags, sharing_pairs
from spml.errors import DataError


def test_the_share_is_that_of_a_loop_over_pairs(rng):
    tags = rng.random((23, 6)) < rng.random()
    pairs = [any(one & other) for one, other in itertools.combinations(tags, 2)]
    assert sharing_pairs(tags) == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize(('rows', 'share'), [
    ([[1, 0]], 0), ([[1, 0], [1, 0]], 1), ([[1, 0], [0, 1]], 0), ([[0, 0], [0, 0]], 0),
    ([[1, 0], [1, 1], [0, 1], [0, 0]], 2 / 6)])
def test_the_share_of_few_images(rows, share):
    assert sharing_pairs(np.array(rows, bool)) == pytest.approx(share)


def test_tags_are_what_labels_and_lists_say(tmp_path):
    for name, values in (('a', [0, 2, 254]), ('b', [255, 1])):
        Image.fromarray(np.array([values], np.uint8)).save(tmp_path / f'{name}.png')
    path = tmp_path / 'list.txt'
    path.write_text('a.jpg a.png r.png\nb.jpg b.png r.png 3 scribble\nc.jpg - r.png 1,4 tag\n')
    found = [set(np.flatnonzero(row)) for row in read_tags(read_list(path, tmp_path))]
    assert [row & {*range(10), 255} for row in found] == [{0, 2}, {255, 1, 3}, {1, 4}]
    (tmp_path / 'b.png').write_bytes(b'no image')
    with pytest.raises(DataError, match=f'^{path}:2: .*b.png'):
        read_tags(read_list(path, tmp_path))
