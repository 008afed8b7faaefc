"""Shapes of LabelMe and COCO as label maps, pixel by pixel."""
import base64
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from spml.errors import DataError
from spml.prepare.shapes import ShapeRules, draw_coco, draw_labelme, read_coco

SIZE = (40, 50)
DENSE, SPARSE = ShapeRules(0, None, 3), ShapeRules(254, None, 3)


@pytest.fixture
def classes(class_list):
    return class_list('ground\ncat\npalm tree\nroad\n')


@pytest.fixture
def labelme(tmp_path, classes):
    """A function from shapes (label, type, points, further fields) to the map they are drawn as."""
    def draw(shapes, rules=DENSE, **fields):
        path = tmp_path / 'a.json'
        shapes = [{'label': label, 'shape_type': kind, 'points': points, 'group_id': None, 'flags': {}} | dict(*more)
                  for label, kind, points, *more in shapes]
        path.write_text(json.dumps({'version': '5.4.1', 'flags': {}, 'shapes': shapes, 'imagePath': 'a.jpg',
                                    'imageData': None, 'imageHeight': SIZE[0], 'imageWidth': SIZE[1]} | fields))
        return draw_labelme(path, SIZE, classes, rules)
    return draw


def block(top, left, bottom, right):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom + 1, left:right + 1] = True
    return mask


def signed_distance(points):
    """Distance of every pixel to a polygon's outline, positive inside (OpenCV's, in float)."""
    contour = np.array(points, np.float32)
    return np.array([[cv2.pointPolygonTest(contour, (x, y), True) for x in range(SIZE[1])] for y in range(SIZE[0])])


def test_the_later_shape_lies_over_the_earlier(labelme):
    labels = labelme([('cat', 'polygon', [[5, 4], [30, 4], [30, 20], [5, 20]]),
                      ('palm tree', 'rectangle', [[40, 30], [20, 10]]),
                      ('_background_', None, [[8, 8], [12, 8], [12, 12], [8, 12]]),
                      ('__ignore__', 'rectangle', [[0, 30], [5, 35]])])
    expected = np.zeros(SIZE, int)
    for area, value in ((block(4, 5, 20, 30), 1), (block(10, 20, 30, 40), 2), (block(8, 8, 12, 12), 0),
                        (block(30, 0, 35, 5), 255)):
        expected[area] = value
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8


def test_polygons_and_circles_cover_what_is_in_them(labelme, rng):
    angles = np.sort(rng.random(9) * 2 * np.pi)
    radii = rng.uniform(6, 18, 9)
    points = np.stack([25 + radii * np.cos(angles), 20 + radii * np.sin(angles)], 1)
    labels = labelme([('road', 'polygon', points.tolist())])
    distance = signed_distance(points)
    # LabelMe's outline is a pixel wide and its corners are cut off to whole pixels.
    assert (labels[distance > 1.5] == 3).all()
    assert (labels[distance < -2] == 0).all()
    labels = labelme([('cat', 'circle', [[24, 18], [24, 29]])])
    y, x = np.mgrid[:SIZE[0], :SIZE[1]]
    away = np.hypot(x - 24, y - 18)
    assert (labels[away <= 10.5] == 1).all()
    assert (labels[away > 12] == 0).all()


def test_lines_and_points_are_scribbles_on_what_is_unlabelled(labelme):
    labels = labelme([('cat', 'linestrip', [[4, 6], [20, 6], [20, 25]]), ('road', 'line', [[30, 10], [45, 10]]),
                      ('ground', 'point', [[40, 30]]), ('palm tree', 'points', [[3, 35], [30, 35]])], SPARSE)
    y, x = np.mgrid[:SIZE[0], :SIZE[1]]

    def near(x0, y0, x1, y1):
        return np.hypot(x - np.clip(x, x0, x1), y - np.clip(y, y0, y1)) <= 1.5

    expected = np.full(SIZE, 254)
    for area, value in ((near(4, 6, 20, 6) | near(20, 6, 20, 25), 1), (near(30, 10, 45, 10), 3),
                        (near(40, 30, 40, 30), 0), (near(3, 35, 3, 35) | near(30, 35, 30, 35), 2)):
        expected[area] = value
    np.testing.assert_array_equal(labels, expected)
    polygon = labelme([('cat', 'rectangle', [[5, 5], [9, 9]])], SPARSE)
    np.testing.assert_array_equal(polygon, np.where(block(5, 5, 9, 9), 1, 254))


def test_masks_within_the_file(labelme):
    inner = np.random.default_rng().random((8, 11)) < 0.5
    stream = io.BytesIO()
    Image.fromarray(inner).save(stream, format='PNG')
    text = base64.b64encode(stream.getvalue()).decode()
    labels = labelme([('cat', 'mask', [[7, 20], [17, 27]], {'mask': text})])
    expected = np.zeros(SIZE, int)
    expected[20:28, 7:18] = inner
    np.testing.assert_array_equal(labels, expected)
    for points, mask in (([[45, 20], [55, 27]], text), ([[7, 20], [17, 27]], text[:40]), ([[7, 20], [17, 27]], None)):
        with pytest.raises(DataError, match='shape 0'):
            labelme([('cat', 'mask', points, {'mask': mask})])


@pytest.mark.parametrize(('shape', 'words'), [
    (('dog', 'rectangle', [[1, 1], [2, 2]]), "'dog' is not in .*classes"),
    (('cat', 'line', [[1, 1], [9, 9]]), '--rest unlabelled'),
    (('cat', 'polygon', [[1, 1], [2, 2]]), 'at least 3'), (('cat', 'circle', [[1, 1]]), 'at least 2'),
    (('cat', 'polygon', [[1, 1], [2, 2], [3]]), 'pairs'), (('cat', 'polygon', [[1, 1], [2, 2], [3, '4']]), 'pairs'),
    (('cat', 'polygon', [[1, 1], [2, 2], [3, float('nan')]]), 'pairs'), (('cat', 'polygon', None), 'pairs'),
    (('cat', 'polygon', [[1, 1], [2, 2], [3, 1e9]]), 'near the image'), (('cat', 'cube', [[1, 1]]), 'a cube; known'),
    ((None, 'point', [[1, 1]]), 'no label'),
])
def test_shapes_that_cannot_be_drawn(labelme, shape, words):
    with pytest.raises(DataError, match=rf'a\.json: shape 1.*{words}'):
        labelme([('cat', 'rectangle', [[1, 1], [2, 2]]), shape])


def test_labels_of_other_classes_by_request(labelme):
    shapes = [('cat', 'rectangle', [[1, 1], [9, 9]]), ('dog', 'rectangle', [[5, 5], [12, 12]])]
    for others in (0, 255):
        expected = np.where(block(5, 5, 12, 12), others, block(1, 1, 9, 9))
        np.testing.assert_array_equal(labelme(shapes, ShapeRules(0, others, 3)), expected)


def test_files_of_another_image_or_none(labelme, tmp_path, classes):
    with pytest.raises(DataError, match=r'50x41 pixels .* 50x40; .*EXIF'):
        labelme([], imageHeight=41)
    path = tmp_path / 'b.json'
    for written, words in ((b'{"shapes": [', 'not valid JSON'), (b'[]', 'no list of shapes'),
                           (b'\xff', 'not valid JSON'), (b'[' * 100000, 'not valid JSON')):
        path.write_bytes(written)
        with pytest.raises(DataError, match=words):
            draw_labelme(path, SIZE, classes, DENSE)
    with pytest.raises(DataError, match='cannot read'):
        draw_labelme(tmp_path / 'c.json', SIZE, classes, DENSE)


def annotation(identity, category, segmentation, image=7):
    return {'id': identity, 'image_id': image, 'category_id': category, 'segmentation': segmentation, 'iscrowd': 0}


def read(tmp_path, classes, annotations, rules=DENSE, **groups):
    path = tmp_path / 'coco.json'
    images = [{'id': number, 'file_name': name, 'height': SIZE[0], 'width': SIZE[1]}
              for number, name in ((7, 'train/a.jpg'), (8, 'b.jpg'))]
    categories = [{'id': number, 'name': name} for number, name in ((44, 'road'), (3, 'cat'), (90, 'zebra'))]
    path.write_text(json.dumps({'images': images, 'categories': categories, 'annotations': annotations} | groups))
    return read_coco(path, classes, rules)


def test_polygons_and_run_lengths_of_coco(tmp_path, classes, rng):
    """The smaller are drawn over the larger, whatever their order."""
    speckles = np.asfortranarray((rng.random(SIZE) < 0.2).astype(np.uint8))
    runs = {'size': list(SIZE), 'counts': coco_mask.encode(speckles)['counts'].decode()}
    square = [10, 10, 20, 10, 20, 20, 10, 20]
    whole = [0, 0, 50, 0, 50, 40, 0, 40]
    annotations = [annotation(1, 3, [square]), annotation(2, 44, runs), annotation(3, 44, [whole])]
    for order in (annotations, annotations[::-1]):
        images = read(tmp_path, classes, order)
        assert set(images) == {'train/a.jpg', 'b.jpg'}
        assert images['b.jpg'] == []
        labels = draw_coco(images['train/a.jpg'], SIZE, DENSE)
        # COCO's polygons end where their last pixel does.
        np.testing.assert_array_equal(labels, np.where(block(10, 10, 19, 19), 1, 3))
    labels = draw_coco(read(tmp_path, classes, [annotation(2, 44, runs)])['train/a.jpg'], SIZE, SPARSE)
    np.testing.assert_array_equal(labels, np.where(speckles, 3, 254))


def test_categories_that_are_not_listed(tmp_path, classes):
    zebra = [annotation(5, 90, [[0, 0, 9, 0, 9, 9]])]
    with pytest.raises(DataError, match=r"coco\.json: category 90: 'zebra' is not in .*classes"):
        read(tmp_path, classes, zebra)
    for others in (0, 255):
        assert read(tmp_path, classes, zebra, rules=ShapeRules(0, others, 3))['train/a.jpg'][0][1] == others
    # One that no annotation uses does not matter.
    assert read(tmp_path, classes, [annotation(5, 3, [[0, 0, 9, 0, 9, 9]])])['train/a.jpg'][0][1] == 1


@pytest.mark.parametrize(('annotations', 'groups', 'words'), [
    ([annotation(5, 3, [[0, 0, 9, 0, 9, 9]], image=9)], {}, 'annotation 5: is of the image 9'),
    ([annotation(5, 6, [[0, 0, 9, 0, 9, 9]])], {}, 'annotation 5.* category 6'),
    ([annotation(5, 3, [])], {}, 'annotation 5: has no segmentation'),
    ([{'id': 5, 'image_id': 7}], {}, 'annotations has category_id = '), (['x'], {}, 'no list of annotations'),
    ([annotation(5, [3], [])], {}, 'annotations has category_id = '), ([], {'images': {}}, 'no list of images'),
    ([], {'images': [{'id': 1}]}, 'images has file_name = '), ([], {'categories': None}, 'no list of categories'),
])
def test_files_that_are_no_coco(tmp_path, classes, annotations, groups, words):
    with pytest.raises(DataError, match=rf'coco\.json: .*{words}'):
        read(tmp_path, classes, annotations, **groups)


def test_segmentations_of_another_size(tmp_path, classes):
    wrong = {'size': [41, 50], 'counts': [41 * 50]}
    images = read(tmp_path, classes, [annotation(5, 3, wrong)])
    with pytest.raises(DataError, match=r'coco\.json: annotation 5'):
        draw_coco(images['train/a.jpg'], SIZE, DENSE)
