"""Shapes of LabelMe and COCO as label maps, pixel by pixel."""
import base64
import io
import json
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from spml.errors import DataError
from spml.prepare import notes as noted
from spml.prepare.shapes import BOXES, REGIONS, CocoImage, ShapeRules, draw_coco, draw_labelme, read_coco

SIZE = (40, 50)
DENSE, SPARSE = ShapeRules(0, None, 3, REGIONS), ShapeRules(254, None, 3, REGIONS)


@pytest.fixture
def classes(class_list):
    return class_list('ground\ncat\npalm tree\nroad\n')


@pytest.fixture
def labelme(tmp_path, classes):
    """A function from shapes (label, type, points, further fields) to the map they are drawn as."""
    def draw(shapes, rules=DENSE, notes=None, **fields):
        path = tmp_path / 'a.json'
        shapes = [{'label': label, 'shape_type': kind, 'points': points, 'group_id': None, 'flags': {}} | dict(*more)
                  for label, kind, points, *more in shapes]
        path.write_text(json.dumps({'version': '5.4.1', 'flags': {}, 'shapes': shapes, 'imagePath': 'a.jpg',
                                    'imageData': None, 'imageHeight': SIZE[0], 'imageWidth': SIZE[1]} | fields))
        return draw_labelme(path, SIZE, classes, rules, [] if notes is None else notes)
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


@pytest.mark.parametrize('points', [
    [[4, 4], [23, 19]], [[23, 4], [4, 19]],
    [[4, 4], [23, 4], [23, 19], [4, 19]], [[23, 19], [4, 19], [4, 4], [23, 4]],  # all corners, any order
    [[4, 4], [23, 4], [23, 19], [4, 19], [4, 4]], [[4.0, 4.2], [23.1, 4.0], [23.0, 19.0], [4.1, 19.1]]])
def test_a_rectangle_of_two_or_four_corners_is_filled(labelme, points):
    np.testing.assert_array_equal(labelme([('cat', 'rectangle', points)]), block(4, 4, 19, 23))


def test_rectangles_are_refused_unless_they_are_said_to_be_regions(labelme):
    shapes = [('road', 'polygon', [[1, 1], [9, 1], [9, 9], [1, 9]]), ('cat', 'rectangle', [[4, 4], [23, 19]])]
    with pytest.raises(DataError, match=r'a\.json: shape 1 is a rectangle; .*--rectangles regions; .*--boxes'):
        labelme(shapes, ShapeRules(0, None, 3))
    np.testing.assert_array_equal(labelme(shapes, ShapeRules(0, None, 3, BOXES)), 3 * block(1, 1, 9, 9))


@pytest.mark.parametrize(('shape', 'why'), [
    (('rectangle', [[4, 4], [4, 19]]), 'zero area'), (('circle', [[9, 9], [9, 9]]), 'zero area'),
    (('polygon', [[4, 4], [9, 9], [19, 19]]), 'zero area'), (('polygon', [[4, 4], [4, 4], [4, 4]]), 'zero area'),
    (('rectangle', [[60, 4], [70, 19]]), 'outside the image'), (('point', [[70, 3]]), 'outside the image'),
    (('linestrip', [[-20, -20], [-9, -30]]), 'outside the image'),
    (('polygon', [[-9, -9], [-2, -9], [-2, -2]]), 'outside the image')])
def test_shapes_that_draw_nothing_are_noted(labelme, shape, why):
    notes = []
    labels = labelme([('road', 'point', [[3, 3]]), ('cat', *shape)], SPARSE, notes)
    assert set(np.unique(labels)) == {3, 254}
    (kind, text), = notes
    assert kind == noted.NOTHING
    assert text.endswith(f'a.json: shape 1, a {shape[0]} of {why}' if 'zero' in why else f'shape 1, a {shape[0]} {why}')


def test_what_draws_something_is_not_noted(labelme, rng):
    notes = []
    labelme([('cat', 'polygon', [[-9, -9], [9, -9], [9, 9]]), ('road', 'line', [[-9, 5], [9, 5]]),
             ('cat', 'rectangle', [[45, 35], [70, 60]]), ('cat', 'circle', [[0, 0], [2, 2]])], SPARSE, notes)
    assert notes == []


def test_a_file_that_names_another_image_is_noted(labelme):
    for path, expected in (('a.jpg', 0), ('..\\photos\\a.png', 0), ('/home/me/a.JPG', 0), ('b.jpg', 1), (None, 0)):
        notes = []
        labelme([], notes=notes, imagePath=path)
        assert [kind for kind, _ in notes] == [noted.RENAMED] * expected


def test_background_and_ignore_are_labels_of_labelme(labelme):
    shapes = [('__ignore__', 'circle', [[9, 9], [12, 9]]), ('_background_', 'circle', [[9, 9], [10, 9]])]
    assert labelme(shapes)[9, 9] == 0
    with pytest.raises(DataError, match='_background_'):
        labelme(shapes, ShapeRules(255, None, 3, has_background=False))
    assert set(np.unique(labelme(shapes[:1], ShapeRules(0, None, 3)))) == {0, 255}


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
    np.testing.assert_array_equal(  # four corners, the last pixel not counted in
        labelme([('cat', 'mask', [[7, 20], [18, 20], [18, 28], [7, 28]], {'mask': text})]), expected)
    for points, mask in (([[45, 20], [55, 27]], text), ([[7, 20], [30, 27]], text), ([[7, 20], [8, 27]], text),
                         ([[7, 20], [17, 27]], text[:40]), ([[7, 20], [17, 27]], None)):
        with pytest.raises(DataError, match='shape 0'):
            labelme([('cat', 'mask', points, {'mask': mask})])


@pytest.mark.parametrize(('shape', 'words'), [
    (('dog', 'rectangle', [[1, 1], [2, 2]]), "'dog' is not in .*classes"),
    (('cat', 'line', [[1, 1], [9, 9]]), '--rest unlabelled'),
    (('cat', 'polygon', [[1, 1], [2, 2]]), 'at least 3'), (('cat', 'circle', [[1, 1]]), 'of 1 points; it must have 2'),
    (('cat', 'circle', [[5, 5], [9, 9], [7, 7]]), 'of 3 points; it must have 2'),
    (('cat', 'line', [[1, 1]]), 'at least 2'), (('cat', 'rectangle', [[1, 1]]), '2 or 4'),
    (('cat', 'rectangle', [[5, 1], [9, 5], [5, 9], [1, 5]]), 'not the corners of an upright'),
    (('cat', 'rectangle', [[1, 1], [9, 1], [9, 9], [1, 9], [1, 1], [9, 9]]), '2 or 4'),
    ((9, 'point', [[1, 1]]), 'no label'),
    (('cat', ['point'], [[1, 1]]), 'known'), (('cat', 'polygon', []), 'at least 3'),
    (('cat', 'polygon', [[1, 1], [2, 2], [3]]), 'pairs'), (('cat', 'polygon', [[1, 1], [2, 2], [3, '4']]), 'pairs'),
    (('cat', 'polygon', [[1, 1], [2, 2], [3, float('nan')]]), 'pairs'), (('cat', 'polygon', None), 'pairs'),
    (('cat', 'polygon', [[1, 1], [2, 2], [3, 1e9]]), 'near the image'),
    (('cat', 'cube', [[1, 1]]), "the type 'cube'; known"),
    ((None, 'point', [[1, 1]]), 'no label'),
])
def test_shapes_that_cannot_be_drawn(labelme, shape, words):
    with pytest.raises(DataError, match=rf'a\.json: shape 1.*{words}'):
        labelme([('cat', 'rectangle', [[1, 1], [2, 2]]), shape])


def test_labels_of_other_classes_by_request(labelme):
    shapes = [('Cat ', 'rectangle', [[1, 1], [9, 9]]), ('dog', 'rectangle', [[5, 5], [12, 12]])]
    for others in (0, 255):  # a name in another case is of no other class
        expected = np.where(block(5, 5, 12, 12), others, block(1, 1, 9, 9))
        np.testing.assert_array_equal(labelme(shapes, ShapeRules(0, others, 3, REGIONS)), expected)


def test_files_of_another_image_or_none(labelme, tmp_path, classes):
    for stated in ({'imageWidth': None, 'imageHeight': 41}, {'imageHeight': None, 'imageWidth': '51'},
                   {'imageHeight': 0}, {'imageWidth': 'wide'}):
        with pytest.raises(DataError, match=r'a\.json: .* 50x40'):
            labelme([], **stated)
    for stated in ({'imageHeight': None, 'imageWidth': None}, {'imageHeight': 40.0, 'imageWidth': '50'}):
        assert labelme([], **stated).shape == SIZE
    with pytest.raises(DataError, match=r'50x41 pixels .* 50x40; .*EXIF'):
        labelme([], imageHeight=41)
    path = tmp_path / 'b.json'
    for written, words in ((b'{"shapes": [', 'not valid JSON'), (b'[]', 'no list of shapes'),
                           (b'\xff', 'not valid JSON'), (b'[' * 100000, 'not valid JSON')):
        path.write_bytes(written)
        with pytest.raises(DataError, match=words):
            draw_labelme(path, SIZE, classes, DENSE, [])
    with pytest.raises(DataError, match='cannot read'):
        draw_labelme(tmp_path / 'c.json', SIZE, classes, DENSE, [])


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
        assert images['b.jpg'].annotations == []
        labels = draw_coco(images['train/a.jpg'], SIZE, DENSE, [])
        # COCO's polygons end where their last pixel does.
        np.testing.assert_array_equal(labels, np.where(block(10, 10, 19, 19), 1, 3))
    labels = draw_coco(read(tmp_path, classes, [annotation(2, 44, runs)])['train/a.jpg'], SIZE, SPARSE, [])
    np.testing.assert_array_equal(labels, np.where(speckles, 3, 254))


def test_hundreds_of_annotations_are_drawn_one_at_a_time(rng):
    """The smaller over the larger, of equal ones the later; the mask of each, 12 MB on a large photo, is held alone."""
    size, squares, expected = (200, 300), [], np.zeros((200, 300), int)
    for value in range(1, 101):
        side = int(rng.choice([20, 40, 60]))
        squares.append((value, side, int(rng.integers(0, 300 - side)), int(rng.integers(0, 200 - side))))
    for value, side, x, y in sorted(squares, key=lambda square: (-square[1], square[0])):
        expected[y:y + side, x:x + side] = value
    annotations = [(f'annotation {value}', value, [[x, y, x + side, y, x + side, y + side, x, y + side]])
                   for value, side, x, y in squares]
    tracemalloc.start()
    labels = draw_coco(CocoImage('image', list(size), annotations), size, DENSE, [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(labels, expected)
    assert peak < 20 * labels.nbytes


SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]


def test_shapes_of_a_larger_photo_are_noted(labelme):
    """Without a size that the file states; those that leave the image by a pixel are not."""
    near = [[0, 0], [SIZE[1] + 1, 0], [SIZE[1] + 1, SIZE[0] + 1], [-1, SIZE[0]]]
    far = [[x + 2, y] for x, y in near]
    for points, count in ((near, 0), (far, 1)):
        notes = []
        labelme([('cat', 'polygon', points)], notes=notes, imageHeight=None, imageWidth=None)
        flat = np.ravel(points).tolist()
        for polygons in ([flat], flat):
            draw_coco(CocoImage('x.json: image 1', None, [['x.json: annotation 1', 1, polygons]]), SIZE, DENSE, notes)
        assert [kind for kind, _ in notes] == [noted.OUTSIDE] * (3 * count)


def test_a_stated_size_is_compared_with_the_image(tmp_path, classes):
    for stated in ({'height': 80, 'width': 100}, {'height': 50, 'width': 40}, {'height': '40', 'width': '51'}):
        image = read(tmp_path, classes, [annotation(5, 3, SQUARE)], images=[
            {'id': 7, 'file_name': 'a.jpg', **stated}])['a.jpg']
        with pytest.raises(DataError, match=r'coco\.json: image 7: .* 50x40; '):
            draw_coco(image, SIZE, DENSE, [])
    for stated in ({}, {'height': '40', 'width': 50.0}, {'height': None, 'width': None}):
        image = read(tmp_path, classes, [annotation(5, 3, SQUARE)], images=[
            {'id': 7, 'file_name': 'a.jpg', **stated}])['a.jpg']
        np.testing.assert_array_equal(draw_coco(image, SIZE, DENSE, []), block(10, 10, 19, 19))
    with pytest.raises(DataError, match='alone'):
        read(tmp_path, classes, [], images=[{'id': 7, 'file_name': 'a.jpg', 'height': 40}])


@pytest.mark.parametrize(('as_written', 'as_referred'), [
    ('7', 7), (7, '7'), (7.0, 7), (7, 7.0), ('7', 7.0), (' 7 ', 7), ('7.0', 7), ('image-a', 'image-a'), (-7, '-7')])
def test_ids_as_text_and_as_floats(tmp_path, classes, as_written, as_referred):
    image = read(tmp_path, classes, [annotation('x', as_referred, SQUARE, image=as_referred)],
                 images=[{'id': as_written, 'file_name': 'a.jpg'}],
                 categories=[{'id': as_written, 'name': 'cat'}])['a.jpg']
    np.testing.assert_array_equal(draw_coco(image, SIZE, DENSE, []), block(10, 10, 19, 19))
    assert 'annotation x' in image.annotations[0][0]


@pytest.mark.parametrize('identity', [1.5, float('nan'), float('inf'), True, None, [], {}, ''])
def test_ids_that_mean_nothing(tmp_path, classes, identity):
    with pytest.raises(DataError, match=r'coco\.json: one of the images has id = .*neither a whole number nor a text'):
        read(tmp_path, classes, [], images=[{'id': identity, 'file_name': 'a.jpg'}])
    with pytest.raises(DataError, match='annotation 5 has image_id = '):
        read(tmp_path, classes, [annotation(5, 3, SQUARE, image=identity)])
    with pytest.raises(DataError, match='has no id'):
        read(tmp_path, classes, [], categories=[{'name': 'cat'}])


def test_ids_and_names_that_come_twice(tmp_path, classes):
    for one, other in ((1, 1), (1, '1'), ('1', 1.0)):
        with pytest.raises(DataError, match=r'two of the images have the id 1, a\.jpg and b\.jpg'):
            read(tmp_path, classes, [], images=[{'id': one, 'file_name': 'a.jpg'}, {'id': other, 'file_name': 'b.jpg'}])
        with pytest.raises(DataError, match='two of the categories have the id 1, cat and road'):
            read(tmp_path, classes, [], categories=[{'id': one, 'name': 'cat'}, {'id': other, 'name': 'road'}])
    assert set(read(tmp_path, classes, [], images=[{'id': 1, 'file_name': 'train\\a.jpg'}])) == {'train/a.jpg'}
    with pytest.raises(DataError, match=r'image 2: has the file name of .*image 1, a\.jpg'):
        read(tmp_path, classes, [], images=[{'id': 1, 'file_name': 'a.jpg'}, {'id': 2, 'file_name': 'a.jpg'}])


@pytest.mark.parametrize(('segmentation', 'why', 'covered'), [
    ([[5, 5, 9, 9]], 'a polygon of 2 points', 0), ([[]], 'a polygon of 0 points', 0),
    ([SQUARE[0], [5, 5, 9, 9]], 'a polygon of 2 points', 100), ([[4, 4, 9, 4, 20, 4]], 'covers no pixel', 0),
    ([[60, 9, 70, 9, 70, 20]], 'covers no pixel', 0), ({'size': list(SIZE), 'counts': [2000]}, 'covers no pixel', 0)])
def test_annotations_of_coco_that_draw_nothing_are_noted(tmp_path, classes, segmentation, why, covered):
    notes = []
    image = read(tmp_path, classes, [annotation(5, 3, segmentation), annotation(6, 44, [[0, 30, 9, 30, 9, 39, 0, 39]])])
    labels = draw_coco(image['train/a.jpg'], SIZE, DENSE, notes)
    assert (labels == 1).sum() == covered
    (kind, text), = notes
    assert kind == noted.NOTHING
    assert 'coco.json: annotation 5, ' in text
    assert why in text


def test_categories_that_are_not_listed(tmp_path, classes):
    zebra = [annotation(5, 90, [[0, 0, 9, 0, 9, 9]])]
    with pytest.raises(DataError, match=r"coco\.json: category 90: 'zebra' is not in .*classes"):
        read(tmp_path, classes, zebra)
    for others in (0, 255):
        image = read(tmp_path, classes, zebra, rules=ShapeRules(0, others, 3))['train/a.jpg']
        assert image.annotations[0][1] == others
    # One that no annotation uses does not matter.
    assert read(tmp_path, classes, [annotation(5, 3, [[0, 0, 9, 0, 9, 9]])])['train/a.jpg'].annotations[0][1] == 1


@pytest.mark.parametrize(('annotations', 'groups', 'words'), [
    ([annotation(5, 3, [[0, 0, 9, 0, 9, 9]], image=9)], {}, 'annotation 5: is of the image 9'),
    ([annotation(5, 6, [[0, 0, 9, 0, 9, 9]])], {}, 'annotation 5.* category 6'),
    ([annotation(5, 3, [])], {}, 'annotation 5: has no segmentation'),
    ([{'id': 5, 'image_id': 7}], {}, 'annotation 5 has no category_id'), (['x'], {}, 'no list of annotations'),
    ([annotation(5, [3], [])], {}, r'annotation 5 has category_id = \[3\]'), ([], {'images': {}}, 'no list of images'),
    ([], {'images': [{'id': 1}]}, 'images has file_name = '), ([], {'categories': None}, 'no list of categories'),
])
def test_files_that_are_no_coco(tmp_path, classes, annotations, groups, words):
    with pytest.raises(DataError, match=rf'coco\.json: .*{words}'):
        read(tmp_path, classes, annotations, **groups)
