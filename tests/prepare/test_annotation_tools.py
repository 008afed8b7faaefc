"""Annotations as people's tools write them, through prepare_custom.py: the right pixels, or a refusal that says why."""
import numpy as np
import pytest
from exif import save_turned
from originals import read
from own_photos import BLOCK, CORNERS, OUTLINE, of_all

from spml.data.readers import read_image

SQUARE = np.zeros(BLOCK.shape, bool)
SQUARE[30:41, 40:51] = True


def train_label(photos, name):
    return read(photos.list('train')[name].semantic)


@pytest.mark.parametrize('source', ['masks', 'labelme', 'coco'])
def test_photos_that_are_stored_turned_meet_labels_drawn_upright(photos, works, source):
    photos.masks(photos.names)
    photos.labelme(photos.names)
    photos.coco(of_all(segmentation=[OUTLINE]))  # with the upright size
    upright = {name: read_image(photos.folder / f'photos/{name}.png') for name in photos.names}
    for value in range(2, 9):
        save_turned(photos.folder / f'photos/0{value}.png', upright[f'0{value}'], value)
    printed = works('prepare_custom', *photos.arguments(source))
    for name, pixels in upright.items():
        np.testing.assert_array_equal(read_image(photos.out / f'VOC2012/JPEGImages/{name}.png'), pixels)
        np.testing.assert_array_equal(photos.label(name), BLOCK)
    assert 'photos that are stored turned (EXIF orientation): 7 of 12, ' in printed
    assert printed.count('--orientation stored') == 1


def test_labels_drawn_on_the_pixels_as_stored(photos, works, fails):
    """A tool that ignores the tag shows the photo on its side, and the block with it."""
    as_stored = dict.fromkeys(photos.names, BLOCK) | {'00': np.rot90(BLOCK), '01': np.rot90(BLOCK, 2)}
    for name, value in (('00', 6), ('01', 3)):
        path = photos.folder / f'photos/{name}.png'
        save_turned(path, read_image(path), value)
    for name, mask in as_stored.items():
        photos.save(f'masks/{name}.png', mask)
    fails('prepare_custom', *photos.arguments('masks'),
          naming=['masks/00.png', '48x64', '64x48', '--orientation stored'])
    printed = works('prepare_custom', *photos.arguments('masks', more=['--orientation', 'stored', '--overwrite']))
    assert 'stored turned (EXIF orientation): 2 of 12, ' in printed
    for name, mask in as_stored.items():
        np.testing.assert_array_equal(photos.label(name), mask)
        red = read_image(photos.out / f'VOC2012/JPEGImages/{name}.png')[..., 0]
        np.testing.assert_array_equal(red >= 130, mask)
    fails('prepare_custom', *photos.arguments('masks'), naming=['orientation', '--overwrite'])


def test_labelme_rectangles_as_regions_or_as_boxes(photos, works, fails, caplog):
    """Beside polygons in the same files, too, which are labels then."""
    photos.classes('background\ncat\ndog\n')
    photos.labelme(photos.names, ('cat', 'rectangle', CORNERS))
    photos.labelme(['01'], ('cat', 'rectangle', CORNERS[::2]),
                   ('dog', 'polygon', [[40, 30], [50, 30], [50, 40], [40, 40]]))
    fails('prepare_custom', *photos.arguments('labelme'),
          naming=['labelme/00.json: shape 0 is a rectangle', '--rectangles regions', '--boxes'])
    works('prepare_custom', *photos.arguments('labelme', more=['--rectangles', 'regions']))
    np.testing.assert_array_equal(photos.label('00'), BLOCK)
    np.testing.assert_array_equal(photos.label('01'), BLOCK + 2 * SQUARE)
    boxes = ['--boxes', photos.folder / 'labelme', '--overwrite']
    works('prepare_custom', *photos.arguments(more=boxes))
    for name in photos.names:
        np.testing.assert_array_equal(train_label(photos, name), BLOCK * 254)
    fails('prepare_custom', *photos.arguments('labelme', more=boxes), naming=['--rest unlabelled'])
    caplog.clear()
    works('prepare_custom', *photos.arguments('labelme', more=[*boxes, '--rest', 'unlabelled']))
    np.testing.assert_array_equal(train_label(photos, '00'), BLOCK * 254)
    np.testing.assert_array_equal(train_label(photos, '01'), np.where(SQUARE, 2, BLOCK * 254))
    assert (photos.list('train')['01'].tags, photos.list('train')['01'].kind) == ((1,), 'scribble')
    assert 'no rectangles' not in caplog.text


def test_a_coco_file_with_boxes_alone_beside_polygons(photos, works, fails):
    box = {'segmentation': [], 'bbox': [4, 4, 20, 16]}
    polygon = {'segmentation': [[40, 30, 51, 30, 51, 41, 40, 41]], 'bbox': [40, 30, 11, 11]}
    photos.coco([(0, 0, box), (1, 0, box), (1, 0, polygon), (2, 0, polygon)])
    boxes = ['--boxes', photos.folder / 'coco']
    fails('prepare_custom', *photos.arguments('coco'), naming=['coco: annotation 0', '--boxes'])
    fails('prepare_custom', *photos.arguments('coco', more=boxes), naming=['coco: annotation 0', '--rest unlabelled'])
    works('prepare_custom', *photos.arguments('coco', more=[*boxes, '--rest', 'unlabelled']))
    for name, in_box, in_polygon in (('00', BLOCK, False), ('01', BLOCK, SQUARE), ('02', False, SQUARE)):
        np.testing.assert_array_equal(train_label(photos, name), np.where(in_polygon, 1, np.where(in_box, 254, 0)))


def test_annotations_that_draw_nothing_are_counted_and_named_once(photos, works, caplog):
    photos.labelme(photos.names, ('cat', 'polygon', CORNERS), ('cat', 'polygon', [[9, 9], [12, 12], [15, 15]]),
                   ('cat', 'polygon', [[70, 9], [80, 9], [80, 20]]), imageHeight=48, imageWidth=64)
    works('prepare_custom', *photos.arguments('labelme'))
    np.testing.assert_array_equal(photos.label('00'), BLOCK)
    told, = [record.getMessage() for record in caplog.records if 'draw nothing' in record.getMessage()]
    assert told.startswith('WARNING: 24 annotations draw nothing, for example ')
    assert 'labelme/00.json: shape 1, a polygon of zero area' in told


def test_two_images_of_coco_of_one_name(photos, fails):
    photos.names = ['train/00', 'val/00']
    photos.coco([(image, 0, {'segmentation': [OUTLINE]}) for image in (0, 1)])
    fails('prepare_custom', *photos.arguments('coco'), naming=['coco', 'train/00.png', 'val/00.png'])
