import numpy as np

from spml.visualization.palette import voc_colour_map
from spml.visualization.pictures import blend, class_shares, overlay

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
