import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from spml.data.lists import read_list
from spml.errors import DataError
from spml.report import pictures


def pixels_of(cell):
    kind, content = re.fullmatch(r'data:image/(\w+);base64,(.*)', cell.source).groups()
    return kind, np.array(Image.open(io.BytesIO(base64.b64decode(content))).convert('RGB'))


def naive_score(pred, truth):
    """The mean IoU by sets of pixels, over classes that occur in either."""
    scored = truth < 3
    values = []
    for index in range(3):
        both = (scored & (pred == index) & (truth == index)).sum()
        either = (scored & ((pred == index) | (truth == index))).sum()
        if either:
            values.append(both / either)
    return sum(values) / len(values)


def test_images_are_ranked_by_their_own_mean_iou(made):
    entries = read_list(made.data / 'val.txt', made.data)
    truths = pictures.read_truths(made.data / 'val.txt', made.data)
    found = pictures.scored_images(entries, truths, made.runs[0] / 'predicted' / 'semantic_gray', 3)
    expected = {name: naive_score(pred, made.truths[name]) for name, pred in made.final.items()}
    assert {entry.name: value for entry, value in found} == pytest.approx(expected)
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)


def test_images_without_prediction_or_truth_are_left_out(made):
    entries = read_list(made.data / 'val.txt', made.data)
    folder = made.runs[0] / 'predicted' / 'semantic_gray'
    (folder / 'v0.png').unlink()
    (made.data / 'truth' / 'v1.png').unlink()
    Image.fromarray(np.full((40, 36), 255, np.uint8)).save(made.data / 'truth' / 'v2.png')
    truths = pictures.read_truths(made.data / 'val.txt', made.data)
    assert [entry.name for entry, _ in pictures.scored_images(entries, truths, folder, 3)] == ['v3']
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(made.data / 'truth' / 'v3.png')
    with pytest.raises(DataError, match=r'v3\.png'):
        pictures.scored_images(entries, truths, folder, 3)


@pytest.mark.parametrize('size', [0, 1, 2, 3, 5, 6, 8, 9, 40])
@pytest.mark.parametrize('count', [0, 1, 3])
def test_best_worst_and_random_images_are_different_ones(size, count):
    ranked = list(range(size))
    best, worst, others = pictures.choose(ranked, count)
    chosen = [*best, *worst, *others]
    assert len(set(chosen)) == len(chosen) == min(3 * count, size)
    assert best == ranked[:count]
    assert worst == ranked[count:][::-1][:count]
    assert pictures.choose(ranked, count)[2] == others


def test_cells_show_the_image_and_the_labels_in_colour(made):
    entry = read_list(made.data / 'train.txt', made.data)[1]
    given = np.zeros((40, 36), np.uint8)
    given[0, :9] = [1, 2, 3, 254, 255, 255, 1, 1, 1]
    row = pictures.make_row('title', entry, [('weak', entry.semantic), ('mine', given), ('gone', None),
                                             ('lost', made.data / 'nothing.png')], made.class_names)
    image, weak, mine, *absent = row.cells
    assert [cell.caption for cell in row.cells] == ['image', 'weak', 'mine', 'gone', 'lost']
    assert [cell.source for cell in absent] == [None, None]
    kind, pixels = pixels_of(image)
    assert (kind, pixels.shape) == ('jpeg', (40, 36, 3))
    kind, pixels = pixels_of(mine)
    assert kind == 'png'
    expected = np.zeros((40, 36, 3), np.uint8)
    cat, dog, unlabelled, void = (128, 0, 0), (0, 128, 0), (72, 72, 72), (224, 224, 192)
    expected[0, :9] = [cat, dog, unlabelled, unlabelled, void, void, cat, cat, cat]
    np.testing.assert_array_equal(pixels, expected)
    assert weak.text.startswith('weak of t1: ')
    assert mine.text == f'mine of t1: sky 99 %, cat 0 %, void 0 %, {made.class_names[2]} 0 %, unlabelled 0 %'


def test_labels_are_shown_in_the_colours_given(made):
    entry = read_list(made.data / 'train.txt', made.data)[0]
    colours = np.random.default_rng().integers(0, 256, (3, 3))
    cell = pictures.make_row('x', entry, [('truth', made.truths['t0'])], made.class_names, colours.tolist()).cells[1]
    expected = np.concatenate([colours, np.zeros((252, 3), int), [[224, 224, 192]]])[made.truths['t0']]
    np.testing.assert_array_equal(pixels_of(cell)[1], expected)


def test_large_images_are_made_small(made):
    large = np.random.default_rng().integers(0, 3, (1000, 500), dtype=np.uint8)
    Image.fromarray(np.stack([large] * 3, axis=-1)).save(made.data / 'image' / 't0.png')
    entry = read_list(made.data / 'train.txt', made.data)[0]
    cells = pictures.make_row('x', entry, [('label', large)], made.class_names).cells
    assert [pixels_of(cell)[1].shape for cell in cells] == [(320, 160, 3)] * 2


def test_a_label_of_another_size_is_named(made):
    entry = read_list(made.data / 'train.txt', made.data)[0]
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(entry.semantic)
    with pytest.raises(DataError, match=r'train\.txt:1: .*t0\.png'):
        pictures.make_row('x', entry, [('weak', entry.semantic)], made.class_names)


def test_descriptions_add_up_unlabelled_values():
    label = np.array([[0, 1, 7, 9], [254, 255, 0, 0]], np.uint8)
    assert pictures.describe(label, ['sky', 'cat']) == 'sky 38 %, cat 12 %, unlabelled 38 %, void 12 %'
