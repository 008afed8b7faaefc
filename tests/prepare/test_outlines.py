"""Outlines and run lengths, against pycocotools, Pillow and floods by hand; and what prepare reads from them."""
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from spml.names import VOID
from spml.prepare import export as outlines
from spml.prepare import shapes
from spml.prepare.export import Export

SIZES = [(1, 1), (1, 7), (6, 1), (2, 2), (5, 9), (17, 23)]


def blobs(rng, size):
    """Blocks with specks: holes in holes, corners that touch, lines of one pixel."""
    labels = np.kron(rng.integers(0, 3, (size[0] // 3 + 1, size[1] // 3 + 1)), np.ones((3, 3), int))
    labels = labels[:size[0], :size[1]]
    return np.where(rng.random(size) < 0.25, rng.integers(0, 3, size), labels).astype(np.uint8)


def rings():
    """A square in a ring of another class in a square, and the first class again in the middle."""
    label = np.zeros((11, 13), np.uint8)
    for step, value in enumerate((1, 0, 2, 0, 1)):
        label[step + 1:10 - step, step + 1:12 - step] = value
    return label


@pytest.fixture(params=[*SIZES, 'rings', 'one class', 'pinch'])
def label(request, rng):
    special = {'rings': rings(), 'one class': np.ones((4, 5), np.uint8), 'pinch': np.uint8(
        [[1, 1, 1, 0], [1, 2, 0, 0], [1, 1, 1, 2], [0, 0, 2, 2]])}
    return special[request.param] if request.param in special else blobs(rng, request.param)


def flooded(label):
    """The connected regions as sets of pixels, one by one."""
    left, found = {(y, x) for y in range(label.shape[0]) for x in range(label.shape[1])}, []
    while left:
        todo, region = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            region.add((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left and label[near] == label[y, x]:
                    left.remove(near)
                    todo.append(near)
        found.append(frozenset(region))
    return set(found)


def test_regions_are_what_a_flood_finds(label):
    found = set()
    for region in outlines.connected_regions(label):
        pixels = np.argwhere(region.mask) + np.array([region.top, region.left])
        assert (label[tuple(pixels.T)] == region.value).all()
        found.add(frozenset(map(tuple, pixels.tolist())))
    assert found == flooded(label)


def test_run_lengths_are_cocos(label):
    seen = np.zeros(label.shape, int)
    for region in outlines.connected_regions(label):
        record = outlines.coco_runs(region, label.shape)
        packed = coco.frPyObjects(record['segmentation'], *label.shape)
        decoded = coco.decode(packed).astype(bool)
        assert (label[decoded] == region.value).all()
        assert decoded.sum() == record['area'] == coco.area(packed)
        assert record['bbox'] == coco.toBbox(packed).tolist()
        seen += decoded
    assert (seen == 1).all()


@pytest.mark.parametrize('rest', [0, VOID])
def test_polygons_of_coco_give_the_pixels_in_their_order(label, rest):
    drawn = np.full(label.shape, rest)
    for region in outlines.regions_to_draw(label, rest):
        record = outlines.coco_polygon(region)
        packed = coco.merge(coco.frPyObjects(record['segmentation'], *label.shape))
        assert (coco.area(packed), coco.toBbox(packed).tolist()) == (record['area'], record['bbox'])
        drawn[coco.decode(packed).astype(bool)] = region.value
    np.testing.assert_array_equal(drawn, label)


@pytest.mark.parametrize('rest', [0, VOID])
def test_shapes_of_labelme_give_the_pixels_in_their_order(label, rest):
    drawn = Image.fromarray(np.full(label.shape, rest, np.uint8))
    for region in outlines.regions_to_draw(label, rest):
        shape = outlines.labelme_shape(region, 'x')
        if shape['shape_type'] == 'polygon':
            ImageDraw.Draw(drawn).polygon([tuple(point) for point in shape['points']], fill=region.value)
        else:
            area = np.array(drawn)
            area[region.box][region.filled] = region.value
            drawn = Image.fromarray(area)
    np.testing.assert_array_equal(np.array(drawn), label)


def test_what_is_wide_is_a_polygon_and_what_is_not_a_mask():
    label = np.zeros((20, 20), np.uint8)
    label[2:10, 3:9] = 1
    label[12, 4:15] = 2
    kinds = {region.value: outlines.labelme_shape(region, 'x') for region in outlines.regions_to_draw(label, 0)}
    assert {value: shape['shape_type'] for value, shape in kinds.items()} == {1: 'polygon', 2: 'mask'}
    assert sorted(kinds[1]['points']) == [[3, 2], [3, 9], [8, 2], [8, 9]]
    assert kinds[2]['points'] == [[4, 12], [14, 12]]


def test_background_is_drawn_only_where_something_lies_under_it():
    assert [region.value for region in outlines.regions_to_draw(rings(), 0)] == [1, 0, 2, 0, 1]
    assert [region.value for region in outlines.regions_to_draw(rings(), VOID)] == [0, 1, 0, 2, 0, 1]
    assert outlines.regions_to_draw(np.zeros((3, 4), np.uint8), 0) == []


def test_a_tolerance_leaves_points_out_and_stays_near_the_outline():
    y, x = np.mgrid[:80, :90]
    distance = np.hypot(y - 40, x - 45)
    region, = outlines.regions_to_draw((distance < 30).astype(np.uint8), 0)
    for outline in (outlines.along_edges, outlines.through_pixels):
        assert 8 <= len(outline(region, 1.5)) < len(outline(region)) / 2
    polygon = outlines.coco_polygon(region, 1.5)['segmentation']
    drawn = coco.decode(coco.merge(coco.frPyObjects(polygon, 80, 90))).astype(bool)
    assert drawn[distance < 28].all()
    assert not drawn[distance > 32].any()


@pytest.mark.parametrize('has_background', [True, False])
def test_prepares_own_readers_give_the_same_label_map(tmp_path, class_list, label, has_background):
    classes = class_list('background\ncat\ndog\n')
    Image.fromarray(np.zeros((*label.shape, 3), np.uint8)).save(tmp_path / 'a.png')
    export = Export(tmp_path / 'out', ('labelme', 'coco', 'coco_rle'), classes.names, None, has_background)
    export.add('a', tmp_path / 'a.png', label)
    export.close()
    rules, notes = shapes.ShapeRules(0 if has_background else VOID, None, 3), []
    found = [shapes.draw_labelme(tmp_path / 'out/labelme/a.json', label.shape, classes, rules, notes)]
    for name in ('coco', 'coco_rle'):
        image = shapes.read_coco(tmp_path / f'out/{name}.json', classes, rules)['a.png']
        found.append(shapes.draw_coco(image, label.shape, rules, notes))
        content = json.loads((tmp_path / f'out/{name}.json').read_text())
        assert [record['id'] for record in content['annotations']] == list(range(1, len(image.annotations) + 1))
    for drawn in found:
        np.testing.assert_array_equal(drawn, label)
    assert notes == []
