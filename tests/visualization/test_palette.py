import numpy as np

from spml.visualization.palette import UNLABELLED_COLOUR, colourise, colourise_ids, voc_colour_map

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
