import itertools

import numpy as np
import pytest

from spml.data.synthetic import class_names
from spml.data.synthetic_labels import box_labels, class_activations, draw_strokes, strokes, tag_labels
from spml.data.synthetic_regions import over_segmentation
from spml.data.synthetic_scene import render_scene


def test_every_object_is_annotated_even_when_one_pixel_wide():
    instance = np.zeros((40, 50), np.uint8)
    instance[10:13, 5:45] = 255
    instance[11, 6:44] = 1
    instance[30, 30] = 2
    for fraction, dilation in ((1.0, 3), (0.3, 3), (0.0, 6)):
        paths = strokes(np.random.default_rng(3), instance)
        labels = draw_strokes(paths, instance, [4, 2], fraction, dilation)
        assert set(labels[instance == 1]) <= {4, 254}
        assert 4 in labels[instance == 1]
        assert labels[30, 30] == 2
        assert set(np.unique(labels)) == {0, 2, 4, 254}


@pytest.mark.parametrize('image', [np.zeros((48, 48, 3), np.uint8),
                                   np.random.default_rng(5).integers(0, 256, (64, 90, 3), np.uint8)])
def test_over_segmentation_of_flat_and_of_random_images(image):
    regions = over_segmentation(image)
    assert regions.dtype == np.uint8
    assert regions.shape == image.shape[:2]
    assert regions.max() <= 254


def test_box_labels_follow_the_rule_on_overlapping_boxes():
    rng = np.random.default_rng(11)
    visible = np.zeros((30, 40), np.uint8)
    visible[4:20, 5:22] = 1
    visible[12:27, 15:36] = 2
    activations = {label - 1: rng.random((30, 40)).astype(np.float32) for label in (3, 5)}
    labels = box_labels(activations, visible, [3, 5])
    for y, x in itertools.product(range(30), range(40)):
        scores = {}
        for identity, label in ((1, 3), (2, 5)):
            ys, xs = np.nonzero(visible == identity)
            if ys.min() <= y <= ys.max() and xs.min() <= x <= xs.max():
                box = activations[label - 1][ys.min():ys.max() + 1, xs.min():xs.max() + 1].astype(np.float64)
                scores[label] = (activations[label - 1][y, x] - box.min()) / (box.max() - box.min())
        best = max(scores, key=scores.get) if scores else 0
        assert labels[y, x] == (best if not scores or scores[best] >= 0.5 else 254)


def test_tag_labels_of_two_known_maps():
    activations = {0: np.array([[0.0, 0.9, 0.3]], np.float32), 4: np.array([[0.1, 0.2, 0.6]], np.float32)}
    np.testing.assert_array_equal(tag_labels(activations), [[0, 1, 5]])


def test_twenty_one_classes_at_small_sizes_draw_and_annotate():
    for index in range(40):
        rng = np.random.default_rng([21, index])
        scene = render_scene(rng, 48, 70, 21, 1 + index % 20)
        assert scene.classes[0] == 1 + index % 20
        activations = class_activations(rng, scene.visible, scene.classes)
        assert {key + 1 for key in activations} == set(scene.classes)
    names = class_names(21)
    assert len(set(names)) == 21
    assert names[:6] == class_names(6)
