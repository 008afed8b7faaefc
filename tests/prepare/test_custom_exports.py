"""prepare_custom.py on what annotation tools export: the right pixels, or one line that names file and way out."""
import json
import shutil

import numpy as np
import pytest
from own_photos import BLOCK, OUTLINE, of_all
from PIL import Image

from spml.prepare import notes
from spml.prepare.boxes import find_boxes

OBJECT = '<object><name>cat</name><bndbox>{}</bndbox></object>'


def box_label(photos, name='00'):
    return np.asarray(Image.open(photos.out / f'VOC2012/box/{name}.png'))


def texts(photos, folder, ending, text):
    (photos.folder / folder).mkdir()
    for name in photos.names:
        (photos.folder / folder / f'{name}.{ending}').write_text(text)


def test_masks_among_the_photos(photos, fails):
    """As Roboflow exports them: each mask would be a photo whose label it is."""
    photos.masks([f'{name}_mask' for name in photos.names], folder='photos')
    fails('prepare_custom', *photos.arguments(more=['--masks', photos.folder / 'photos']),
          naming=['photos/00', 'a folder of their own'])


def test_names_of_labels_that_are_none_of_images(photos, fails):
    photos.masks([f'task-{name}-annotation-1-by-1-tag-cat-0' for name in photos.names])
    fails('prepare_custom', *photos.arguments('masks'), naming=['masks', 'task-00-annotation', 'first image is 00'])


def test_links_to_nothing(photos, fails):
    photos.masks(photos.names)
    for path in (photos.folder / 'masks/03.png', photos.folder / 'photos/02.png'):
        path.unlink()
        path.symlink_to('/nowhere/at/all.png')
        fails('prepare_custom', *photos.arguments('masks'), naming=[path, '/nowhere/at/all.png'])


@pytest.mark.parametrize('augmented', [True, False])
def test_copies_of_photos_to_train_on_are_named_where_they_are_scored_on(photos, works, caplog, augmented):
    """Copies of one content, and what Roboflow makes of one photo."""
    more = ('_jpg.rf.a1', '_jpg.rf.b2') if augmented else (' (1)', ' (2)')
    copies = {name: [name + one for one in more] for name in photos.names}
    for name, (first, second) in copies.items():
        original = photos.folder / f'photos/{name}.png'
        shutil.copy(original, photos.folder / f'photos/{first}.png')
        original.rename(photos.folder / f'photos/{second}.png')
        if augmented:
            photos.photo(f'{second}.png')
        photos.masks([first, second])
    works('prepare_custom', *photos.arguments('masks'))
    assert len(photos.list('val')) == 4
    assert '4 of 4 images to score on are copies of images to train on' in caplog.text
    caplog.clear()
    val = photos.folder / 'val.txt'
    val.write_text('\n'.join(copies['07'] + copies['09']))
    works('prepare_custom', *photos.arguments('masks', more=['--val', val]))
    assert 'copies' not in caplog.text


@pytest.mark.parametrize(('option', 'folder'), [('boxes', 'xml'), ('coco', 'file'), ('labelme', 'json')])
def test_formats_that_are_not_read(photos, fails, option, folder):
    cvat = ('<annotations><image name="00.png" width="64" height="48"><box label="cat" xtl="4" ytl="4" xbr="24" '
            'ybr="20"/></image></annotations>')
    darwin = json.dumps({'version': '2.0', 'item': {}, 'annotations': [{'name': 'cat'}], 'objects': []})
    if folder == 'file':
        path = photos.folder / 'labels'
        for text in (cvat, darwin, 'cat,4,4,20,16,00.png,64,48\n', '[{"annotations": []}]'):
            path.write_text(text)
            fails('prepare_custom', *photos.arguments(more=[f'--{option}', path]), naming=[path, 'JSON of COCO'])
    else:
        texts(photos, 'labels', folder, cvat if folder == 'xml' else darwin)
        fails('prepare_custom', *photos.arguments(more=[f'--{option}', photos.folder / 'labels']),
              naming=['labels/00.', 'COCO'])


def test_keypoints_of_yolo_are_no_outlines(photos, works):
    texts(photos, 'boxes', 'txt', f'0 {14 / 64} {12 / 48} {20 / 64} {16 / 48} 0.9 0.9 1 0.1 0.1 1\n')
    (photos.folder / 'data.yaml').write_text('kpt_shape: [2, 3]\nnames: [cat]\n')
    works('prepare_custom', *photos.arguments('boxes'))
    np.testing.assert_array_equal(box_label(photos), BLOCK * 254)


def test_numbers_of_yolo_in_quotes(photos, class_list):
    texts(photos, 'boxes', 'txt', '1 0.5 0.5 0.2 0.2\n')
    (photos.folder / 'data.yaml').write_text("names: {'1': cat, '0': dog}\n")
    found = find_boxes(photos.folder / 'boxes', class_list('background\ncat\ndog\n'))
    assert found['00.txt'].content[1] == ['dog', 'cat']


@pytest.mark.parametrize(('names', 'words'), [('{0: cat, 2: dog}', ['[0, 2]', 'without a gap']),
                                              ('cat', ['no list `names`', 'classes.txt'])])
def test_names_of_yolo_that_have_no_numbers(photos, fails, names, words):
    photos.classes('background\ncat\ndog\n')
    texts(photos, 'boxes', 'txt', '1 0.5 0.5 0.2 0.2\n')
    (photos.folder / 'data.yaml').write_text(f'names: {names}\n')
    fails('prepare_custom', *photos.arguments('boxes'), naming=['data.yaml', *words])


@pytest.mark.parametrize(('folder', 'ending', 'text'), [
    ('labelme', 'json', json.dumps({'shapes': [{'label': 'cat', 'shape_type': 'polygon', 'points': [
        [.1, .1], [.4, .1], [.4, .4]]}]})),
    ('boxes', 'json', json.dumps({'shapes': [{'label': 'cat', 'shape_type': 'rectangle', 'points': [
        [.1, .1], [.4, .4]]}]})),
    ('boxes', 'xml', f'<annotation>{OBJECT}</annotation>'.format(
        '<xmin>0.1</xmin><ymin>0.1</ymin><xmax>0.4</xmax><ymax>0.4</ymax>')),
    ('points', 'json', json.dumps({'shapes': [{'label': 'cat', 'shape_type': 'point', 'points': [[.1, .3]]}]}))])
def test_shares_of_the_image_instead_of_pixels(photos, fails, folder, ending, text):
    texts(photos, folder, ending, text)
    fails('prepare_custom', *photos.arguments(folder), naming=[f'{folder}/00.{ending}', 'pixels, not shares'])


def test_corners_instead_of_a_width_and_a_height(photos, fails, works, class_list):
    photos.coco(of_all(bbox=[40, 30, 60, 45]), 'boxes')
    fails('prepare_custom', *photos.arguments('boxes'), naming=[photos.folder / 'boxes', 'x1, y1, x2, y2', '12 of 12'])
    for corners in ([30, 20, 34, 29], [-3, 4, 20, 16]):  # large ones, and some that leave the image a little
        photos.coco(of_all(bbox=corners), 'boxes')
        assert len(find_boxes(photos.folder / 'boxes', class_list('background\ncat\n'))) == 12
    photos.coco(of_all(bbox=[4, 4, 20, 16]), 'boxes')
    works('prepare_custom', *photos.arguments('boxes'))
    np.testing.assert_array_equal(box_label(photos), BLOCK * 254)


def test_a_crowd_as_run_lengths_whose_category_is_not_the_first(photos, works):
    flat = np.flatnonzero(np.diff(BLOCK.T.ravel(), prepend=0, append=0))
    runs = np.diff(flat, prepend=0, append=BLOCK.size).tolist()
    crowd = {'segmentation': {'size': [48, 64], 'counts': runs}, 'iscrowd': 1, 'bbox': [4, 4, 20, 16]}
    photos.coco([(image, 1, crowd) for image in range(12)], categories=['animal', 'cat'])
    works('prepare_custom', *photos.arguments('coco'))
    np.testing.assert_array_equal(photos.label('00'), BLOCK)


@pytest.mark.parametrize('option', ['coco', 'boxes'])
def test_images_that_nobody_has_annotated_are_counted(photos, works, caplog, option):
    photos.coco(of_all(bbox=[4, 4, 20, 16], segmentation=[OUTLINE])[:9], option)
    works('prepare_custom', *photos.arguments(option))
    assert f'3 {notes.EMPTY}, for example {photos.folder}/photos/09.png' in caplog.text


def test_the_first_class_all_over_an_image_is_an_annotation(photos, works, caplog):
    photos.classes('cat\ndog\n')
    whole = {'segmentation': [[0, 0, 64, 0, 64, 48, 0, 48]]}
    photos.coco([(image, int(image == 5), whole) for image in range(12)], categories=['cat', 'dog'])
    works('prepare_custom', *photos.arguments('coco', more=['--background', 'none', '--rest', 'void']))
    assert (photos.label('00') == 0).all()
    assert notes.EMPTY not in caplog.text


@pytest.mark.parametrize(('option', 'annotations'), [
    ('coco', []), ('boxes', []), ('boxes', of_all(bbox=[4.2, 4.2, .3, .3])),
    ('coco', of_all(segmentation=[[4.2, 4.2, 4.4, 4.2, 4.4, 4.4]]))])
def test_labels_that_show_a_single_class(photos, fails, option, annotations):
    photos.coco(annotations, option)
    fails('prepare_custom', *photos.arguments(option), naming=['lists/train.txt', 'show background alone'])


def test_white_strokes_on_black(photos, fails, works):
    """255 would be what is not drawn, and all that is black the background."""
    for name in photos.names:
        drawn = BLOCK * 255
        drawn[30:36] = 255
        photos.save(f'scribbles/{name}.png', drawn)
    fails('prepare_custom', *photos.arguments('scribbles'), naming=['background alone', '--undrawn'])


def test_ids_that_count_from_1_beside_what_is_no_class(photos, fails, works):
    """As in ADE20K, where 0 is what has no class."""
    photos.classes('wall\nsky\ncat\n')
    ids = np.where(BLOCK, 3, 1)
    ids[30:] = 2
    ids[40:] = 0
    for name in photos.names:
        photos.save(f'masks/{name}.png', ids)
    arguments = photos.arguments('masks', more=['--background', 'none'])
    fails('prepare_custom', *arguments, naming=['masks/00.png', 'value 3', '--fix 0=void 1=0 2=1 ...'])
    works('prepare_custom', *arguments, '--fix', '0=void', '1=0', '2=1', '3=2')
    np.testing.assert_array_equal(photos.label('00'), np.where(ids == 0, 255, ids - 1))


def test_ids_in_three_channels(photos, fails):
    for name in photos.names:
        photos.save(f'masks/{name}.png', np.repeat(BLOCK[..., None], 3, 2))
    fails('prepare_custom', *photos.arguments('masks'), naming=['masks/00.png', '(1, 1, 1)', 'saved as grey'])
