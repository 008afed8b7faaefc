"""Colours of labels, images under them, and text in pictures: as it is written, or as what says that it is not."""
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageDraw

from spml.visualization import legend as fonts
from spml.visualization.legend import escaped, font_for, shown_names
from spml.visualization.palette import UNLABELLED_COLOUR, colourise, colourise_ids, voc_colour_map
from spml.visualization.pictures import blend, class_shares, overlay

# The VOC devkit's colours of background, its 20 classes and void.
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
       (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128),
       (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128)]


def test_colours_are_those_of_voc():
    colours = voc_colour_map()
    assert (colours.dtype, colours.shape) == (np.uint8, (256, 3))
    assert [tuple(colour) for colour in colours[:21].tolist()] == VOC
    assert tuple(colours[255].tolist()) == (224, 224, 192)
    assert len({tuple(colour) for colour in colours.tolist()}) == 256


def test_colourise_shows_unlabelled_and_void_apart():
    label = np.array([[0, 1, 20], [21, 254, 255]], np.uint8)
    rgb = colourise(label, 21)
    assert rgb.dtype == np.uint8
    grey = list(UNLABELLED_COLOUR)
    assert rgb.tolist() == [[list(VOC[0]), list(VOC[1]), list(VOC[20])], [grey, grey, [224, 224, 192]]]
    assert colourise(label)[1, 0].tolist() == voc_colour_map(22)[21].tolist()


def test_colours_of_ones_own_are_the_classes_alone():
    rgb = colourise(np.array([[0, 1], [2, 255]], np.uint8), 2, [[9, 8, 7], [250, 0, 1]])
    assert rgb.tolist() == [[[9, 8, 7], [250, 0, 1]], [list(UNLABELLED_COLOUR), [224, 224, 192]]]


def test_ids_keep_their_colour_and_differ():
    ids = np.array([[-1, 0, 1], [255, 256, 5000]])
    rgb = colourise_ids(ids)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (2, 3, 3))
    assert rgb[0, 0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in rgb.reshape(-1, 3).tolist()}) == 6
    np.testing.assert_array_equal(colourise_ids(ids[1:]), rgb[1:])


NAMES = ('background', 'cat', 'dog', 'cow')


def random_case():
    rng = np.random.default_rng()
    label = np.kron(rng.integers(0, 4, (4, 5)), np.ones((6, 7), int)).astype(np.uint8)
    return rng.integers(0, 256, (*label.shape, 3), dtype=np.uint8), label


def test_every_pixel_is_blended_by_the_rule():
    image, label = random_case()
    colours, opacity = np.random.default_rng().integers(0, 256, (4, 3)), 0.3
    result = blend(image, label, opacity, colours)
    height, width = label.shape
    for y in range(height):
        for x in range(width):
            around = [label[ny, nx] for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                      if 0 <= ny < height and 0 <= nx < width]
            if label[y, x] == 0:
                expected = image[y, x]
            elif any(other != label[y, x] for other in around):
                expected = colours[label[y, x]]
            else:
                expected = (1 - opacity) * image[y, x] + opacity * colours[label[y, x]]
            assert np.abs(result[y, x] - expected).max() <= 0.5 + 1e-9


def test_shares_are_counted():
    label = np.array([[0, 2, 2, 2], [0, 2, 9, 0]], np.uint8)
    assert class_shares(label) == [(2, 0.5), (0, 0.375), (9, 0.125)]


def test_the_picture_holds_the_blended_image_and_a_legend_of_what_occurs():
    image, label = random_case()
    label[label == 3] = 1
    picture = overlay(image, label, NAMES, opacity=0.6)
    height, width = label.shape
    np.testing.assert_array_equal(picture[:height, :width], blend(image, label, 0.6))
    legend = {tuple(pixel) for pixel in picture[height:].reshape(-1, 3).tolist()}
    colours = [tuple(colour) for colour in voc_colour_map(4).tolist()]
    assert [colour in legend for colour in colours] == [(label == index).any() for index in range(4)]
    assert picture[height:].min() < 100  # names are drawn


def test_colours_of_ones_own_and_a_wide_image():
    image, label = np.zeros((10, 700, 3), np.uint8), np.ones((10, 700), np.uint8)
    picture = overlay(image, label, NAMES, 1, [(1, 2, 3), (4, 250, 6), (7, 8, 9), (10, 11, 12)])
    assert picture.shape[1] == 700
    assert (picture[:10] == (4, 250, 6)).all()
    assert (4, 250, 6) in {tuple(pixel) for pixel in picture[10:].reshape(-1, 3).tolist()}


def test_without_a_background_class_0_is_blended_too():
    image, label = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)
    colours = [(100, 50, 20), (0, 0, 0)]
    assert (blend(image, label, 0.5, colours) == 0).all()
    assert (blend(image, label, 0.5, colours, background=False) == (50, 25, 10)).all()


CYRILLIC, NOWHERE = 'кошка', '\ue123'  # the second is for private use: no font has to have it


@pytest.fixture(autouse=True)
def _no_memory():
    for function in (font_for, fonts._machines):
        function.cache_clear()
    yield
    for function in (font_for, fonts._machines):
        function.cache_clear()


def fonts_with(letters):
    codes = ' '.join(f'{ord(letter):x}' for letter in letters)
    try:
        return subprocess.run(['fc-list', f':charset={codes}'], capture_output=True, text=True, check=True).stdout
    except OSError:
        return ''


def drawn(text):
    picture = Image.new('L', (300, 30))
    ImageDraw.Draw(picture).text((5, 5), text, fill=255, font=font_for(text))
    return np.asarray(picture)


@pytest.mark.skipif(not fonts_with(CYRILLIC), reason='no font of this machine has Cyrillic letters')
def test_another_script_is_drawn_as_it_is_written():
    assert shown_names(['cat', CYRILLIC, 'dog']) == ['cat', CYRILLIC, 'dog']
    letters = [drawn(letter) for letter in sorted(set(CYRILLIC))]
    for number, one in enumerate(letters):
        assert one.any()
        assert not any((one == other).all() for other in letters[:number])  # no box that stands for all of them


@pytest.mark.parametrize('command', ['fc-list', 'no-such-program'])
def test_a_class_whose_letters_no_font_has_is_shown_by_its_number(monkeypatch, command):
    run = subprocess.run
    monkeypatch.setattr(subprocess, 'run', lambda words, **options: run([command, *words[1:]], **options))
    names = ['sky', f'a{NOWHERE}', 'cat']
    assert shown_names(names) == ['sky', 'class 1', 'cat']
    image, label = np.zeros((9, 400, 3), np.uint8), np.ones((9, 400), np.uint8)
    np.testing.assert_array_equal(overlay(image, label, names), overlay(image, label, ['sky', 'class 1', 'cat']))


def test_a_font_that_lies_about_its_letters_is_not_used(monkeypatch, tmp_path):
    (tmp_path / 'a.ttf').write_bytes(b'junk')
    others = ''.join(line.partition(':')[0] + '\n' for line in fonts_with('a').splitlines()[:3])
    listed = f'{tmp_path / "a.ttf"}\n{tmp_path / "absent.ttf"}\n{others}'
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: subprocess.CompletedProcess([], 0, listed))
    assert font_for(NOWHERE) is None


def test_english_needs_no_program(monkeypatch):
    monkeypatch.setattr(subprocess, 'run', None)
    assert drawn('cat 1.5%').any()


def test_letters_as_codes():
    assert escaped('cat 猫 é') == 'cat \\u732b \\xe9'
