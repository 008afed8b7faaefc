"""Masks and scribbles of every kind of PNG, pixel by pixel."""
import numpy as np
import pytest
from PIL import Image
from raw_files import png

from spml.errors import DataError
from spml.prepare.drawings import read_mask, read_scribbles

COLOURS = [(0, 0, 0), (250, 10, 10), (10, 250, 10), (240, 240, 240)]  # of three classes and void


@pytest.fixture
def plain(class_list):
    return class_list('ground\ncat\ntree\n')


@pytest.fixture
def coloured(class_list):
    names = ('ground', 'cat', 'tree', 'void')
    return class_list(''.join(f'{name} {r} {g} {b}\n' for name, (r, g, b) in zip(names, COLOURS, strict=True)))


@pytest.fixture
def ids():
    """Ids 0..3, each there, where 3 means void."""
    ids = np.random.default_rng().integers(0, 4, (9, 11))
    ids[0, :4] = range(4)
    return ids


def save(tmp_path, array, mode=None, palette=None):
    image = Image.fromarray(np.asarray(array, np.uint8))
    if palette is not None:
        image = Image.frombytes('P', image.size, image.tobytes())
        image.putpalette([value for colour in palette for value in colour])
    path = tmp_path / 'drawing.png'
    (image.convert(mode) if mode else image).save(path)
    return path


def test_masks_of_ids(tmp_path, plain, coloured, ids):
    labels = np.where(ids == 3, 255, ids)
    for classes in (plain, coloured):
        np.testing.assert_array_equal(read_mask(save(tmp_path, labels), classes), labels)
    palette = np.random.default_rng().integers(0, 256, (256, 3)).tolist()
    np.testing.assert_array_equal(read_mask(save(tmp_path, labels, palette=palette), plain), labels)
    labels[2, 2] = 254
    assert read_mask(save(tmp_path, labels), plain)[2, 2] == 254
    labels[4, 5] = 3
    with pytest.raises(DataError, match=r'drawing\.png: .*x = 5, y = 4 .*value 3, .*classes\.txt.* 0\.\.2'):
        read_mask(save(tmp_path, labels), plain)


def test_masks_in_colours(tmp_path, coloured, ids):
    labels = np.where(ids == 3, 255, ids)
    rgb = np.array(COLOURS)[ids]
    for mode in ('RGB', 'RGBA'):
        np.testing.assert_array_equal(read_mask(save(tmp_path, rgb, mode), coloured), labels)
    # The palette's order does not matter, its colours do.
    order = np.random.default_rng().permutation(4)
    shuffled = save(tmp_path, np.argsort(order)[ids], palette=[COLOURS[index] for index in order])
    np.testing.assert_array_equal(read_mask(shuffled, coloured), labels)
    rgb[6, 3] = (250, 10, 11)
    with pytest.raises(DataError, match=r'x = 3, y = 6 .*\(250, 10, 11\)'):
        read_mask(save(tmp_path, rgb), coloured)
    rgba = np.dstack([np.array(COLOURS)[ids], np.full(ids.shape, 255)])
    rgba[1, 1, 3] = 0
    with pytest.raises(DataError, match='transparent'):
        read_mask(save(tmp_path, rgba), coloured)


def test_masks_in_vocs_colours(tmp_path, plain, ids):
    voc = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (224, 224, 192)])
    np.testing.assert_array_equal(read_mask(save(tmp_path, voc[ids]), plain), np.where(ids == 3, 255, ids))


@pytest.mark.parametrize('undrawn', [3, 254, 255])
def test_scribbles_of_ids(tmp_path, plain, coloured, ids, undrawn):
    drawn = np.where(ids == 3, undrawn, ids)
    expected = np.where(ids == 3, 254, ids)
    for classes in (plain, coloured):
        for given in (None, undrawn, (undrawn,) * 3):
            np.testing.assert_array_equal(read_scribbles(save(tmp_path, drawn), classes, given), expected)


def test_scribbles_whose_zero_or_value_of_a_class_is_not_drawn(tmp_path, plain, ids):
    path = save(tmp_path, (ids + 1) % 4)  # the first class is 1, and so on
    np.testing.assert_array_equal(read_scribbles(path, plain, 0), np.where(ids == 3, 254, ids))
    np.testing.assert_array_equal(read_scribbles(save(tmp_path, ids), plain, 1), np.where(ids % 2 == 1, 254, ids))


def test_scribbles_in_colours(tmp_path, coloured, ids):
    # Void is drawn, too; white paper, and the soft edge of a brush, are not.
    colours = np.array([*COLOURS, (255, 255, 255), (250, 130, 130)])
    ids[5:7], ids[7:] = 4, 5
    expected = np.choose(ids, [0, 1, 2, 255, 254, 254])
    np.testing.assert_array_equal(read_scribbles(save(tmp_path, colours[ids]), coloured), expected)
    without_ground = read_scribbles(save(tmp_path, colours[ids]), coloured, (0, 0, 0))
    np.testing.assert_array_equal(without_ground, np.where(expected == 0, 254, expected))


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_transparent_pixels_are_not_drawn(tmp_path, plain, coloured, ids, mode):
    hidden = ids == 3
    if mode == 'P':
        path = save(tmp_path, ids, palette=COLOURS)
        Image.open(path).save(path, transparency=3)
    else:
        pixels = np.array(COLOURS)[np.where(hidden, 1, ids)] if mode == 'RGBA' else np.where(hidden, 1, ids)
        path = save(tmp_path, np.dstack([pixels, np.where(hidden, 0, 255)]))
    assert Image.open(path).mode == mode
    classes = coloured if mode == 'RGBA' else plain
    np.testing.assert_array_equal(read_scribbles(path, classes), np.where(hidden, 254, ids))


def test_scribbles_of_nothing_and_of_everything(tmp_path, plain):
    with pytest.raises(DataError, match=r'drawing\.png: nothing is drawn'):
        read_scribbles(save(tmp_path, np.full((4, 5), 254)), plain)
    with pytest.raises(DataError, match=r'drawing\.png: every pixel .*--undrawn'):
        read_scribbles(save(tmp_path, np.ones((4, 5))), plain)


@pytest.mark.parametrize(('write', 'words'), [
    (lambda path: Image.fromarray(np.zeros((4, 5), np.uint16)).save(path), '16-bit'),
    (lambda path: Image.new('1', (5, 4)).save(path), '1-bit'),
    (lambda path: path.write_bytes(png(4, 1, 2, 0, b'\0\x1b')), '2-bit PNG'),
    (lambda path: path.write_bytes(b''), 'not a readable PNG'),
    (lambda path: path.write_bytes(b'\x89PNG\r\n\x1a\n'), 'not a readable PNG'),
    (lambda path: Image.new('L', (5, 4)).save(path, format='JPEG'), 'not a readable PNG'),
    (lambda path: None, 'no such file')])
@pytest.mark.parametrize('read', [read_mask, read_scribbles])
def test_files_that_are_no_drawing(tmp_path, plain, read, write, words):
    path = tmp_path / 'drawing.png'
    write(path)
    with pytest.raises(DataError, match=rf'drawing\.png: .*{words}'):
        read(path, plain)
