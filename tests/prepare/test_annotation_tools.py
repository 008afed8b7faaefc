"""Annotations as people's tools write them, through prepare_custom.py: the right pixels, or a refusal that says why.

Photos are 64 x 48 with a red block at x 4..23, y 4..19, 320 pixels.
"""
import json

import numpy as np
import pytest
from exif import save_turned
from originals import read
from PIL import Image

from spml.data.lists import read_list
from spml.data.readers import read_image

BLOCK = np.zeros((48, 64), bool)
BLOCK[4:20, 4:24] = True
PHOTO = np.where(BLOCK[..., None], (200, 20, 20), (20, 120, 60)).astype(np.uint8)
CORNERS = [[4, 4], [23, 4], [23, 19], [4, 19]]


class Place:
    """Folders of photos and of annotations, and the command that brings them in."""

    def __init__(self, folder, works, fails):
        self.folder, self.out, self.works, self.fails_with = folder, folder / 'data', works, fails
        for name in ('photos', 'masks', 'labelme'):
            (folder / name).mkdir()
        self.write_classes('background', 'cat')

    def write_classes(self, *names):
        (self.folder / 'classes.txt').write_text(''.join(f'{name}\n' for name in names))

    def photo(self, name, orientation=None, ending='png'):
        path = self.folder / f'photos/{name}.{ending}'
        if orientation is None:
            Image.fromarray(PHOTO).save(path)
        else:
            save_turned(path, PHOTO, orientation)
        return path

    def photos(self, *names):
        for name in names:
            self.photo(name)

    def labelme(self, name, *shapes, **fields):
        """Write a JSON of LabelMe; shapes are (label, kind, points)."""
        shapes = [{'label': label, 'shape_type': kind, 'points': points} for label, kind, points in shapes]
        path = self.folder / f'labelme/{name}.json'
        path.write_text(json.dumps({'shapes': shapes, 'imageHeight': 48, 'imageWidth': 64} | fields))
        return path

    def coco(self, images, annotations, categories=({'id': 1, 'name': 'cat'},)):
        path = self.folder / 'coco.json'
        path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': list(categories)}))
        return path

    def arguments(self, source, *more):
        path = self.folder / ('coco.json' if source == 'coco' else source)
        return ['--images', self.folder / 'photos', '--classes', self.folder / 'classes.txt', '--out', self.out,
                '--base', 'demo', '--num_workers', 0, f'--{source}', path, *more]

    def run(self, source, *more):
        """Bring the photos in and return what is printed."""
        return self.works('prepare_custom', *self.arguments(source, *more))

    def fails(self, source, *more, naming):
        self.fails_with('prepare_custom', *self.arguments(source, *more), naming=naming)

    def labels(self):
        """Dict from the name of each image that has a label to its pixels and its label map."""
        entries = [entry for path in (self.out / 'lists').glob('*.txt') for entry in read_list(path, self.out)]
        return {entry.name: (read_image(entry.image), read(entry.semantic)) for entry in entries if entry.semantic}


@pytest.fixture
def place(tmp_path, works, fails):
    return Place(tmp_path, works, fails)


@pytest.mark.parametrize('source', ['masks', 'labelme'])
def test_photos_that_are_stored_turned_meet_labels_drawn_upright(place, source):
    for value in range(2, 9):
        place.photo(f'p{value}', value)
        place.labelme(f'p{value}', ('cat', 'polygon', CORNERS))
        Image.fromarray(BLOCK.astype(np.uint8)).save(place.folder / f'masks/p{value}.png')
    place.photo('plain')
    printed = place.run(source)
    labels = place.labels()
    assert set(labels) == {f'p{value}' for value in range(2, 9)}
    for image, label in labels.values():
        np.testing.assert_array_equal(image, PHOTO)
        np.testing.assert_array_equal(label, BLOCK)
    assert 'photos that are stored turned (EXIF orientation): 7 of 8, ' in printed
    assert printed.count('--orientation stored') == 1


def test_a_turned_jpeg_and_a_coco_file_that_states_the_upright_size(place):
    for name in 'abc':
        place.photo(name, 6, 'jpg')
    images = [{'id': index, 'file_name': f'{name}.jpg', 'width': 64, 'height': 48} for index, name in enumerate('abc')]
    place.coco(images, [{'id': index, 'image_id': index, 'category_id': 1,
                         'segmentation': [[4, 4, 24, 4, 24, 20, 4, 20]]} for index in range(3)])
    assert 'stored turned (EXIF orientation): 3 of 3, ' in place.run('coco')
    for image, label in place.labels().values():
        assert abs(image.astype(int) - PHOTO).mean() < 4
        np.testing.assert_array_equal(label, BLOCK)


def test_labels_drawn_on_the_pixels_as_stored(place):
    """A tool that ignores the tag shows the photo on its side, and the block with it."""
    place.photo('a', 6)
    place.photo('b', 3)
    place.photo('c')
    as_stored = {'a': np.rot90(BLOCK), 'b': np.rot90(BLOCK, 2), 'c': BLOCK}
    for name, mask in as_stored.items():
        Image.fromarray(mask.astype(np.uint8)).save(place.folder / f'masks/{name}.png')
    place.fails('masks', naming=['masks/a.png', '48x64', '64x48', '--orientation stored'])
    printed = place.run('masks', '--orientation', 'stored', '--overwrite')
    assert 'stored turned (EXIF orientation): 2 of 3, ' in printed
    for name, (image, label) in place.labels().items():
        np.testing.assert_array_equal(label, as_stored[name])
        np.testing.assert_array_equal(image[..., 0] == 200, as_stored[name])
    place.fails('masks', naming=['orientation', '--overwrite'])


def test_labelme_rectangles_with_four_corners(place):
    place.photos(*'abc')
    for name, points in zip('abc', (CORNERS, [[4, 4], [23, 19]], [*CORNERS[2:], *CORNERS[:2]]), strict=True):
        place.labelme(name, ('cat', 'rectangle', points))
    place.fails('labelme', naming=['labelme/a.json: shape 0 is a rectangle', '--rectangles regions', '--boxes'])
    place.run('labelme', '--rectangles', 'regions')
    assert [np.array_equal(label, BLOCK) for _, label in place.labels().values()] == [True] * 3
    place.labelme('d', ('cat', 'rectangle', [[14, 2], [26, 12], [14, 22], [2, 12]]))
    place.photo('d')
    place.fails('labelme', '--rectangles', 'regions', naming=['labelme/d.json: shape 0', '4 points', 'polygon'])


def test_labelme_rectangles_as_boxes(place):
    """Beside polygons in the same files, too, which are labels then."""
    place.photos(*'abc')
    place.labelme('a', ('cat', 'rectangle', CORNERS))
    place.labelme('b', ('cat', 'rectangle', CORNERS[::2]), ('cat', 'polygon', [[40, 30], [50, 30], [50, 40], [40, 40]]))
    folder = place.folder / 'labelme'
    place.works('prepare_custom', *place.arguments('boxes')[:-1], folder)
    labels = place.labels()
    for name in 'ab':
        np.testing.assert_array_equal(labels[name][1], np.where(BLOCK, 254, 0))
    place.fails('labelme', '--boxes', folder, naming=['--rest unlabelled'])
    place.run('labelme', '--boxes', folder, '--rest', 'unlabelled', '--overwrite')
    labels, square = place.labels(), np.zeros(BLOCK.shape, bool)
    square[30:41, 40:51] = True
    np.testing.assert_array_equal(labels['a'][1], np.where(BLOCK, 254, 0))
    np.testing.assert_array_equal(labels['b'][1], np.where(square, 1, np.where(BLOCK, 254, 0)))


def test_a_coco_file_with_boxes_alone_beside_polygons(place):
    place.photos(*'abc')
    polygon = {'segmentation': [[40, 30, 51, 30, 51, 41, 40, 41]], 'bbox': [40, 30, 11, 11]}
    box = {'segmentation': [], 'bbox': [4, 4, 20, 16]}
    path = place.coco([{'id': index, 'file_name': f'{name}.png'} for index, name in enumerate('abc')], [
        {'id': number, 'image_id': image, 'category_id': 1, **fields}
        for number, (image, fields) in enumerate([(0, box), (1, box), (1, polygon), (2, polygon)])])
    place.fails('coco', naming=['coco.json: annotation 0', '--boxes'])
    place.fails('coco', '--boxes', path, naming=['coco.json: annotation 0', '--rest unlabelled'])
    place.run('coco', '--boxes', path, '--rest', 'unlabelled')
    labels, square = place.labels(), np.zeros(BLOCK.shape, bool)
    square[30:41, 40:51] = True
    for name, in_box, in_polygon in (('a', BLOCK, False), ('b', BLOCK, square), ('c', False, square)):
        np.testing.assert_array_equal(labels[name][1], np.where(in_polygon, 1, np.where(in_box, 254, 0)))


def test_a_coco_file_that_states_another_size(place):
    place.photos(*'abc')
    images = [{'id': index, 'file_name': f'{name}.png', 'width': 128, 'height': 96} for index, name in enumerate('abc')]
    place.coco(images, [{'id': index, 'image_id': index, 'category_id': 1,
                         'segmentation': [[8, 8, 48, 8, 48, 40, 8, 40]]} for index in range(3)])
    place.fails('coco', naming=['coco.json: image', '128x96', '64x48', 'the photo that was annotated'])


@pytest.mark.parametrize('kind', [str, float])
def test_a_coco_file_with_ids_of_another_type(place, kind):
    place.photos(*'abc')
    place.coco([{'id': kind(index), 'file_name': f'{name}.png'} for index, name in enumerate('abc')],
               [{'id': kind(index), 'image_id': index, 'category_id': kind(1),
                 'segmentation': [[4, 4, 24, 4, 24, 20, 4, 20]]} for index in range(3)])
    place.run('coco')
    assert [np.array_equal(label, BLOCK) for _, label in place.labels().values()] == [True] * 3


def test_annotations_that_draw_nothing_are_counted_and_named_once(place, caplog):
    place.photos(*'abc')
    for name in 'abc':
        place.labelme(name, ('cat', 'polygon', CORNERS), ('cat', 'polygon', [[9, 9], [12, 12], [15, 15]]),
                      ('cat', 'polygon', [[70, 9], [80, 9], [80, 20]]))
    place.run('labelme')
    assert [np.array_equal(label, BLOCK) for _, label in place.labels().values()] == [True] * 3
    told = [record.getMessage() for record in caplog.records if 'draw nothing' in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith('WARNING: 6 annotations draw nothing, for example ')
    assert 'labelme/a.json: shape 1, a polygon of zero area' in told[0]


def test_what_no_shape_covers_where_there_is_no_background(place):
    place.write_classes('sky', 'cat')
    place.photos(*'abc')
    for name in 'abc':
        place.labelme(name, ('cat', 'polygon', CORNERS), ('sky', 'polygon', [[0, 40], [63, 40], [63, 47], [0, 47]]))
    place.fails('labelme', naming=['sky', '--background'])
    place.fails('labelme', '--background', 'none', naming=['--rest void'])
    place.run('labelme', '--background', 'none', '--rest', 'void')
    expected = np.where(BLOCK, 1, 255)
    expected[40:] = 0
    for _, label in place.labels().values():
        np.testing.assert_array_equal(label, expected)


def test_two_labels_or_two_photos_of_one_name(place):
    place.photos(*'abc')
    images = [{'id': 1, 'file_name': 'train/a.png'}, {'id': 2, 'file_name': 'val/a.png'}]
    place.coco(images, [{'id': index, 'image_id': index, 'category_id': 1, 'segmentation': [[4, 4, 24, 4, 24, 20]]}
                        for index in (1, 2)])
    place.fails('coco', naming=['coco.json', 'train/a.png', 'val/a.png'])
    images[1]['id'] = 1
    place.coco(images, [])
    place.fails('coco', naming=['coco.json', 'id 1', 'train/a.png', 'val/a.png'])
    place.photo('a', ending='jpg')
    place.fails('coco', naming=['photos/a.jpg', 'photos/a.png'])
