import itertools

import numpy as np
import pytest

from spml.data.cam_labels import box_labels, tag_labels


def random_cams(rng, shape, labels):
    """CAMs whose maximum is 1, as SEAM stores them, rather dim elsewhere."""
    cams = {label - 1: rng.random(shape).astype(np.float32) ** 3 for label in labels}
    return {key: cam / cam.max() for key, cam in cams.items()}


@pytest.mark.parametrize('normalised', [False, True])
@pytest.mark.parametrize(('power', 'threshold'), [(6, 0.2), (2, 0.45)])
def test_tag_labels_follow_the_rule_pixel_by_pixel(normalised, power, threshold, rng):
    shape, classes = (13, 17), [3, 7, 20]
    cams = random_cams(rng, shape, classes)
    labels = tag_labels(cams, shape, power, threshold, normalised)
    assert labels.dtype == np.uint8
    for pixel in np.ndindex(shape):
        scores = {label: float(cams[label - 1][pixel]) for label in classes}
        scores[0] = (1 - max(scores.values())) ** power
        total = sum(scores.values()) if normalised else 1
        winner = max(scores, key=scores.get)
        if abs(scores[winner] / total - threshold) < 1e-5 or sorted(scores.values())[-2] > scores[winner] - 1e-5:
            continue  # where float32 may fall on either side
        assert labels[pixel] == (winner if scores[winner] / total >= threshold else 254)


def test_tag_labels_of_known_maps():
    cams = {0: np.array([[0.0, 0.9, 0.3, 0.25]], np.float32), 4: np.array([[0.1, 0.2, 0.6, 0.25]], np.float32)}
    np.testing.assert_array_equal(tag_labels(cams, (1, 4)), [[0, 1, 5, 1]])
    # The last pixel's scores 0.178 (background), 0.25, 0.25 sum to 0.678: 0.369 each.
    np.testing.assert_array_equal(tag_labels(cams, (1, 4), threshold=0.4, normalised=True), [[0, 1, 5, 254]])
    np.testing.assert_array_equal(tag_labels(cams, (1, 4), threshold=0.4), [[0, 1, 5, 254]])
    np.testing.assert_array_equal(tag_labels(cams, (1, 4), threshold=0.3, normalised=True), [[0, 1, 5, 1]])
    np.testing.assert_array_equal(tag_labels(cams, (1, 4), threshold=0.3), [[0, 1, 5, 254]])
    np.testing.assert_array_equal(tag_labels({}, (2, 3)), np.zeros((2, 3)))
    grid = np.linspace(0, 1, 2001, dtype=np.float32)[None]
    assert 254 not in tag_labels({2: grid}, grid.shape)  # the bare rule at its defaults


@pytest.mark.parametrize('threshold', [0.5, 0.3])
def test_box_labels_follow_the_rule_on_overlapping_boxes(threshold, rng):
    shape = (30, 40)
    boxes = [(3, (5, 4, 22, 20)), (5, (15, 12, 36, 27)), (3, (18, 2, 40, 16))]
    cams = {label - 1: rng.random(shape).astype(np.float32) for label in (3, 5)}
    labels = box_labels(cams, boxes, shape, threshold)
    for y, x in itertools.product(range(30), range(40)):
        scores = []
        for label, (left, top, right, bottom) in boxes:
            if left <= x < right and top <= y < bottom:
                box = cams[label - 1][top:bottom, left:right].astype(np.float64)
                scores.append(((float(cams[label - 1][y, x]) - box.min()) / (box.max() - box.min()), label))
        best, label = max(scores, default=(1, 0))
        assert labels[y, x] == (label if best >= threshold else 254)


def test_of_equals_the_earlier_box_counts():
    both = {key: np.eye(3, 5, dtype=np.float32) for key in (3, 7)}
    for first, second in ((4, 8), (8, 4)):
        assert box_labels(both, [(first, (0, 0, 5, 3)), (second, (0, 0, 5, 3))], (3, 5))[1, 1] == first


def test_a_box_of_a_class_without_cam_is_unlabelled():
    labels = box_labels({}, [(4, (1, 0, 3, 2))], (3, 5))
    np.testing.assert_array_equal(labels, [[0, 254, 254, 0, 0], [0, 254, 254, 0, 0], [0, 0, 0, 0, 0]])
    # A flat map has no 0..1: nothing in it stands out.
    flat = {3: np.full((3, 5), 0.7, np.float32)}
    np.testing.assert_array_equal(box_labels(flat, [(4, (1, 0, 3, 2))], (3, 5)), labels)


def test_without_a_background_class_0_has_a_map_and_the_rest_is_unlabelled():
    cams = {0: np.array([[0.1, 0.9, 0.3, 0.19]], np.float32), 2: np.array([[0.15, 0.2, 0.6, 0.1]], np.float32)}
    np.testing.assert_array_equal(tag_labels(cams, (1, 4), background=False), [[254, 0, 2, 254]])
    normalised = tag_labels(cams, (1, 4), threshold=0.65, normalised=True, background=False)
    np.testing.assert_array_equal(normalised, [[254, 0, 2, 0]])  # 0.6, 0.82, 0.67, 0.66
    np.testing.assert_array_equal(tag_labels({}, (1, 4), background=False), [[254] * 4])
    found = box_labels(cams, [(0, (0, 0, 2, 1)), (3, (3, 0, 4, 1))], (1, 4), background=False)
    np.testing.assert_array_equal(found, [[254, 0, 254, 254]])
