import itertools

import numpy as np
import pytest
from scipy import ndimage

from spml.scenes.dataset import class_names
from spml.scenes.labels import class_activations, draw_strokes, object_boxes, strokes
from spml.scenes.regions import _connected, _merge, over_segmentation
from spml.scenes.scene import render_scene


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
    assert (regions.dtype, regions.shape) == (np.uint8, image.shape[:2])
    assert regions.max() <= 254


def naive_merge(regions, features, fewest, most, merge_cost):
    """Merge the two neighbours of the least Ward cost, found anew each time, as long as `_merge` would."""
    groups = {int(index): index == regions for index in np.unique(regions)}
    size = {index: float(mask.sum()) for index, mask in groups.items()}
    # Rounded once to float32, as the features are.
    mean = {index: features[mask].mean(0, dtype=np.float64).astype(np.float32).astype(np.float64)
            for index, mask in groups.items()}
    while len(groups) > fewest:
        best = (np.inf, None, None)
        for one, other in itertools.combinations(sorted(groups), 2):
            cost = size[one] * size[other] / (size[one] + size[other]) * ((mean[one] - mean[other]) ** 2).sum()
            if cost < best[0] and (ndimage.binary_dilation(groups[one]) & groups[other]).any():
                best = (cost, one, other)
        cost, one, other = best
        if cost > merge_cost and len(groups) <= most:
            break
        mean[one] = (size[one] * mean[one] + size[other] * mean[other]) / (size[one] + size[other])
        size[one] += size.pop(other)
        groups[one] = groups[one] | groups.pop(other)
    return {frozenset(np.flatnonzero(mask)) for mask in groups.values()}


@pytest.mark.parametrize(('fewest', 'most', 'cost'), [(1, 255, 0), (4, 9, 1e9), (1, 12, 3.0), (3, 3, 0)])
def test_regions_merge_along_wards_criterion(fewest, most, cost, rng):
    regions = _connected(rng.integers(0, 3, (9, 11)))
    features = rng.normal(size=(9, 11, 4)).astype(np.float32)
    found = _merge(regions, features, fewest, most, cost)
    parts = {frozenset(np.flatnonzero(found == index)) for index in np.unique(found)}
    assert parts == naive_merge(regions, features, fewest, most, cost)


def test_boxes_just_hold_their_objects(rng):
    visible = np.zeros((30, 40), np.uint8)
    visible[4:20, 5:22] = rng.integers(0, 2, (16, 17))
    visible[25:27, 30:40] = 2
    boxes = object_boxes(visible, [3, 5])
    assert boxes[1] == (5, (30, 25, 40, 27))
    pixels = list(zip(*np.nonzero(visible == 1), strict=True))
    rows, columns = [y for y, _ in pixels], [x for _, x in pixels]
    assert boxes[0] == (3, (min(columns), min(rows), max(columns) + 1, max(rows) + 1))


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
