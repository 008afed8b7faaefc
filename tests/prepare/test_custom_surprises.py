"""prepare_custom.py on labels as people's tools write them: nothing is dropped or understood wrongly without a word."""
import json
import unicodedata

import numpy as np
import pytest
from originals import indexed, read
from own_photos import BLOCK, OUTLINE, of_all
from PIL import Image


@pytest.mark.parametrize(('value', 'meaning'), [(255, 'void'), (254, 'unlabelled')])
def test_masks_of_a_single_class_and_a_value_that_is_none(photos, works, fails, value, meaning):
    photos.masks(photos.names, (0, value))
    fails('prepare_custom', *photos.arguments('masks'),
          naming=['masks/00.png', f'{value}, which means {meaning}', f'--fix {value}=cat', f'--fix {value}={meaning}'])
    works('prepare_custom', *photos.arguments('masks', more=['--fix', f'{value}=1']))
    for name in photos.names:
        np.testing.assert_array_equal(photos.label(name), BLOCK)
    photos.masks(photos.names, (value, 1))
    fails('prepare_custom', *photos.arguments('masks'), naming=['masks/00.png', f'--fix {value}=background'])
    works('prepare_custom', *photos.arguments('masks', more=['--fix', f'{value}=background', '--overwrite']))
    np.testing.assert_array_equal(photos.label('05'), BLOCK)


def test_masks_to_score_on_of_0_and_255(photos, works, fails, caplog):
    photos.scribbles(photos.names[:8])
    photos.masks(photos.names[8:], (0, 255))
    fails('prepare_custom', *photos.arguments('scribbles', 'masks'), naming=['--fix 255=cat'])
    works('prepare_custom', *photos.arguments('scribbles', 'masks', more=['--fix', '255=cat']))
    np.testing.assert_array_equal(photos.label('09'), BLOCK)
    assert 'void' not in caplog.text
    # That is what it may mean, too.
    works('prepare_custom', *photos.arguments('scribbles', 'masks', more=['--fix', '255=void', '--overwrite']))
    np.testing.assert_array_equal(photos.label('09'), BLOCK * 255)
    assert 'no label to score on has cat' in caplog.text


def test_255_beside_a_class_that_never_occurs(photos, works, caplog):
    photos.classes('background\ncat\ndog\n')
    photos.masks(photos.names[:6])
    photos.masks(photos.names[6:], (0, 255))
    works('prepare_custom', *photos.arguments('masks'))
    assert '6 of 12 masks of ids hold 255' in caplog.text
    assert '--fix 255=dog' in caplog.text


def test_a_value_that_means_void(photos, works, fails):
    photos.masks(photos.names, (11, 1))
    photos.masks(['05'])
    fails('prepare_custom', *photos.arguments('masks'), naming=['masks/00.png', 'value 11', '--fix 11=void'])
    works('prepare_custom', *photos.arguments('masks', more=['--fix', '11=void']))
    np.testing.assert_array_equal(photos.label('00'), np.where(BLOCK, 1, 255))
    for wrong in ('11', '11=5', 'a=1', '256=1', '11=horse'):
        fails('prepare_custom', *photos.arguments('masks', more=['--fix', wrong]), naming=[f'--fix {wrong}'])


def test_palettes_that_number_anew_in_every_file(photos, works):
    photos.classes('background\ncat\ndog\n')
    colours = {'cat': (128, 0, 0), 'dog': (0, 128, 0)}
    (photos.folder / 'masks').mkdir()
    for number, name in enumerate(photos.names):
        palette = [(0, 0, 0), colours['dog' if number % 2 else 'cat']]
        indexed(BLOCK, palette).save(photos.folder / f'masks/{name}.png')
    works('prepare_custom', *photos.arguments('masks'))
    for number, name in enumerate(photos.names):
        np.testing.assert_array_equal(photos.label(name), BLOCK * (1 + number % 2))


def test_a_class_list_without_background(photos, works, fails):
    photos.classes('sky\ncat\n')
    photos.labelme(photos.names)
    path = photos.folder / 'labelme/05.json'
    path.write_text(path.read_text().replace('"cat"', '"sky"'))
    arguments = photos.arguments('labelme')
    fails('prepare_custom', *arguments, naming=['classes.txt', 'sky', '--background first', '--background none'])
    fails('prepare_custom', *arguments, '--background', 'none', naming=['--rest void'])
    fails('prepare_custom', *arguments, '--background', 'none', '--rest', 'void', '--others', 'background',
          naming=['--others'])
    works('prepare_custom', *arguments, '--background', 'none', '--rest', 'void')
    np.testing.assert_array_equal(photos.label('00'), np.where(BLOCK, 1, 255))
    other = ['--cfg_dir', photos.folder / 'other']
    works('prepare_custom', *arguments, '--background', 'first', '--overwrite', *other)
    np.testing.assert_array_equal(photos.label('00'), BLOCK)


@pytest.mark.parametrize('ending', ['jpg', 'webp', 'gif'])
def test_masks_that_cannot_hold_classes(photos, fails, ending):
    photos.masks(photos.names[:2])
    photos.masks(photos.names[2:4], ending=ending)
    fails('prepare_custom', *photos.arguments('masks'), naming=[f'masks/02.{ending}', 'PNG'])


def test_masks_in_several_formats(photos, works, fails):
    photos.masks(photos.names[:2])
    photos.masks(photos.names[2:7], ending='tif')
    photos.masks(photos.names[7:], ending='BMP')
    works('prepare_custom', *photos.arguments('masks'))
    assert [len(photos.list(name)) for name in ('train_full', 'val', 'test')] == [10, 2, 0]
    for name in photos.names:
        np.testing.assert_array_equal(photos.label(name), BLOCK)
    photos.masks(photos.names[:1], ending='tif')
    fails('prepare_custom', *photos.arguments('masks'), naming=['two labels of the image 00'])


def test_files_that_are_not_used_are_counted(photos, works, caplog):
    photos.masks(photos.names)
    photos.masks(['00'], ending='jpg')  # a preview of one that is there
    (photos.folder / 'masks/notes.txt').write_text('')
    photos.masks(['elsewhere'])
    works('prepare_custom', *photos.arguments('masks'))
    assert '2 files are not used, for example 00.jpg' in caplog.text
    assert '1 labels have no image and are left out, for example of elsewhere' in caplog.text
    caplog.clear()
    photos.folder.joinpath('masks').rename(photos.folder / 'old')
    photos.out = photos.folder / 'beside'
    photos.labelme(photos.names)
    for path in (photos.folder / 'labelme').iterdir():  # as LabelMe writes them
        path.rename(photos.folder / 'photos' / path.name)
    works('prepare_custom', *photos.arguments(more=['--labelme', photos.folder / 'photos']))
    assert 'not used' not in caplog.text


@pytest.mark.parametrize(('option', 'ending'), [('scribbles', 'jpg'), ('labelme', 'xml'), ('scribbles', None)])
def test_a_folder_in_which_nothing_is_usable(photos, fails, option, ending):
    photos.masks(photos.names[:4])
    (photos.folder / option).mkdir()
    for name in photos.names[4:] if ending else ():
        if ending == 'jpg':
            photos.save(f'{option}/{name}.jpg', BLOCK)
        else:
            (photos.folder / option / f'{name}.{ending}').write_text('<annotation/>')
    fails('prepare_custom', *photos.arguments('masks', option), naming=[photos.folder / option])
    assert not (photos.out / 'lists').exists()


@pytest.mark.parametrize('of_photo', ['NFC', 'NFD'])
def test_names_in_another_unicode_form_and_endings_in_another_case(photos, works, of_photo):
    other = 'NFC' if of_photo == 'NFD' else 'NFD'
    name = 'Käfer é'
    photos.photo(f'{unicodedata.normalize(of_photo, name)}.PNG')
    photos.masks([unicodedata.normalize(other, name), *photos.names], ending='Png', format='png')
    val = photos.folder / 'val.txt'
    val.write_text(f'{unicodedata.normalize(other, name)}.png\n{photos.names[3]}.PNG\n')
    works('prepare_custom', *photos.arguments('masks', more=['--val', val]))
    assert list(photos.list('val')) == [unicodedata.normalize('NFC', 'Käfer_é'), photos.names[3]]
    assert len(photos.list('train_full')) == 11


def test_every_photo_is_in_a_list(photos, works):
    """Six photos with scribbles, four with a mask alone of which one is named to score on, two with nothing."""
    photos.scribbles(photos.names[:6])
    photos.masks(photos.names[6:10])
    val = photos.folder / 'val.txt'
    val.write_text('06\n')
    works('prepare_custom', *photos.arguments('scribbles', 'masks', more=['--val', val]))
    assert list(photos.list('train_scribble')) == photos.names[:6] + photos.names[7:10]
    assert list(photos.list('val')) == ['06']
    assert list(photos.list('test')) == photos.names[10:]
    np.testing.assert_array_equal(read(photos.list('train_scribble')['07'].semantic), BLOCK)
    assert photos.list('train_scribble')['00'].semantic.parent.name == 'dilate_3'


def test_soft_edged_scribbles(photos, works, caplog):
    photos.classes('background 0 0 255\ncat 255 0 0\n')
    (photos.folder / 'scribbles').mkdir()
    for name in photos.names:
        drawn = np.zeros((96, 128, 4), np.uint8)
        drawn[20:24, 16:40], drawn[70:73] = (255, 0, 0, 255), (0, 0, 255, 255)
        drawn[80:84] = 0, 200, 0, 255  # a colour of nothing
        Image.fromarray(drawn).resize((64, 48), Image.Resampling.BICUBIC).save(photos.folder / f'scribbles/{name}.png')
    works('prepare_custom', *photos.arguments('scribbles'))
    drawn = np.array(Image.open(photos.folder / 'scribbles/00.png'))
    opaque = drawn[..., 3] >= 128
    label = read(photos.list('train_scribble')['00'].semantic)
    rows = np.arange(48)[:, None]
    expected = np.where(opaque & (rows < 20), 1, np.where(opaque & (rows < 39), 0, 254))
    np.testing.assert_array_equal(label, expected)
    assert f'{12 * int(opaque[39:].sum())} of {12 * int(opaque.sum())} drawn pixels' in caplog.text
    assert 'are near none in the class list' in caplog.text
    assert 'scribbles/00.png' in caplog.text


def test_folders_in_the_folders(photos, works, caplog):
    photos.photo('sub/a.png')
    photos.masks(photos.names)
    photos.masks(['a'], folder='masks/more')
    works('prepare_custom', *photos.arguments('masks'))
    assert f'{photos.folder}/photos: 1 folders in it are not looked into, for example sub' in caplog.text
    assert f'{photos.folder}/masks: 1 folders in it are not looked into, for example more' in caplog.text


def test_masks_whose_ids_count_from_1(photos, works, caplog):
    photos.classes('background\ncat\ndog\n')
    photos.masks(photos.names, (1, 2))
    works('prepare_custom', *photos.arguments('masks'))
    assert 'no mask of ids has the value 0, background' in caplog.text
    assert '--fix 1=0 2=1' in caplog.text
    caplog.clear()
    works('prepare_custom', *photos.arguments('masks', more=['--fix', '1=0', '2=1', '--overwrite']))
    assert 'count from 1' not in caplog.text
    np.testing.assert_array_equal(photos.label('00'), BLOCK)


def test_tags_that_contradict_masks_to_score_on(photos, works, caplog):
    photos.classes('background\ncat\ndog\n')
    photos.masks(photos.names[:3])
    (photos.folder / 'tags').write_text('image,class\n' + ''.join(f'{name},dog\n' for name in photos.names))
    works('prepare_custom', *photos.arguments('masks', 'tags'))
    assert sorted(photos.list('val')) == photos.names[:3]
    assert 'the tags of 3 images contradict their own labels, for example of 00: tagged dog' in caplog.text


@pytest.mark.parametrize('polygon', [OUTLINE, [*OUTLINE, 4, 12]])
def test_a_file_of_coco_of_nothing_but_rectangles(photos, works, caplog, polygon):
    photos.coco(of_all(segmentation=[polygon]))
    works('prepare_custom', *photos.arguments('coco'))
    np.testing.assert_array_equal(photos.label('00'), BLOCK)
    assert ('all 12 segmentations are upright rectangles' in caplog.text) == (len(polygon) == 8)


@pytest.mark.parametrize(('option', 'place'), [
    ('masks', 'VOC2012/segcls'), ('scribbles', 'VOC2012/scribble/dilate_3'), ('classes', 'lists/test.txt'),
    ('boxes', 'boxes.json'), ('contours', 'VOC2012/hed')])
def test_originals_where_results_are_written(photos, fails, option, place):
    photos.masks(photos.names)
    place = photos.out / place
    place.parent.mkdir(parents=True)
    if option == 'contours':
        pytest.importorskip('higra')
    if option == 'boxes':
        photos.coco(of_all(bbox=[4, 4, 20, 16]), place)
    else:
        (photos.folder / {'classes': 'classes.txt'}.get(option, 'masks')).rename(place)
    files = sorted(path for path in photos.out.rglob('*') if path.is_file())
    before = [path.read_bytes() for path in files]
    if option in ('classes', 'contours', 'boxes'):
        photos.masks(photos.names)
    more = [] if option in ('masks', 'scribbles') else ['--masks', photos.folder / 'masks']
    fails('prepare_custom', *photos.arguments(more=more), f'--{option}', place, naming=[place, 'same'])
    assert [path.read_bytes() for path in files] == before


def test_photos_where_they_go(photos, works, fails):
    photos.masks(photos.names)
    place = photos.out / 'VOC2012/JPEGImages'
    place.parent.mkdir(parents=True)
    (photos.folder / 'photos').rename(place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    arguments = photos.arguments('masks')
    arguments[1] = place
    works('prepare_custom', *arguments)
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.suffix == '.png'} == before
    turned = Image.open(place / '05.png')
    exif = turned.getexif()
    exif[274] = 6
    turned.save(place / '05.png', exif=exif)
    content = (place / '05.png').read_bytes()
    fails('prepare_custom', *arguments, naming=[place / '05.png', 'turned', '--out'])
    assert (place / '05.png').read_bytes() == content


def test_masks_of_0_and_1_and_of_0_and_255(photos, works, fails, caplog):
    photos.masks(photos.names, (0, 255))
    photos.masks(['00', '04', '09'])
    fails('prepare_custom', *photos.arguments('masks'), naming=['9 of 12 masks of ids hold 255', 'masks/01.png',
                                                                '--fix 255=cat', '--fix 255=void'])
    works('prepare_custom', *photos.arguments('masks', more=['--fix', '255=cat']))
    for name in photos.names:
        np.testing.assert_array_equal(photos.label(name), BLOCK)
    # Void at the edge of the object is what 255 is for.
    rim = np.where(BLOCK, 1, 0)
    rim[3:21, 3:25] = 255
    rim[BLOCK == 1] = 1
    photos.save('masks/01.png', rim)
    photos.masks([name for name in photos.names if name != '01'])
    works('prepare_custom', *photos.arguments('masks', more=['--overwrite']))
    np.testing.assert_array_equal(photos.label('01'), rim)
    caplog.clear()
    # It may be an image of nothing but what is hard to tell, or not.
    photos.masks(['02'], (0, 255))
    works('prepare_custom', *photos.arguments('masks', more=['--overwrite']))
    assert '2 of 12 masks of ids hold 255, which means void, 1 of these beside nothing but background' in caplog.text
    assert 'masks/02.png' in caplog.text
    caplog.clear()
    works('prepare_custom', *photos.arguments('masks', more=['--fix', '255=void']))  # is as it was made
    assert 'beside nothing' not in caplog.text


@pytest.mark.parametrize(('names', 'values', 'more'), [
    ('background\ncat\n', (0, 254), []), ('road\nsky\n', (0, 255), ['--background', 'none'])])
def test_a_value_that_may_be_beside_one_class_alone(photos, works, caplog, names, values, more):
    photos.classes(names)
    photos.masks(photos.names[:6], values)
    photos.masks(photos.names[6:])
    works('prepare_custom', *photos.arguments('masks', more=more))
    assert 'masks of ids hold' not in caplog.text
    np.testing.assert_array_equal(photos.label('00'), BLOCK * values[1])


def test_shapes_of_other_types_do_not_say_that_an_image_is_empty(photos, works, caplog):
    photos.classes('background\ncat\ndog\n')
    stroke, box = ('cat', 'polygon', [[6, 6], [18, 6], [18, 9]]), ('dog', 'rectangle', [[30, 30], [49, 44]])
    dot = ('cat', 'point', [[10, 10]])
    photos.labelme(photos.names[:4], stroke)
    photos.labelme(photos.names[4:8], stroke, box)
    photos.labelme(photos.names[8:], dot, ('background', 'point', [[50, 40]]))
    folder = photos.folder / 'labelme'
    works('prepare_custom', *photos.arguments('labelme', more=['--boxes', folder, '--rest', 'unlabelled']))
    labels = {name: read(entry.semantic) for name, entry in photos.list('train').items()}
    for names, values in ((photos.names[:4], {1, 254}), (photos.names[4:], {0, 1, 254})):
        for name in names:
            assert {*np.unique(labels[name]).tolist()} == values
    assert np.sum(labels['08'] != 254) < 40  # two dots
    assert 'nothing annotated' not in caplog.text
    assert '4 images have strokes or points of a class that lie outside all of their boxes' in caplog.text
    assert '--boxes_incomplete' in caplog.text
    caplog.clear()
    photos.out = photos.folder / 'points'
    works('prepare_custom', *photos.arguments(more=['--points', folder]))
    assert sorted(photos.list('train')) == photos.names[8:]
    assert '8 files hold no point or points and give no such label' in caplog.text


@pytest.mark.parametrize('drawn', ['inside', 'over the edge'])
def test_strokes_of_what_has_a_box(photos, works, caplog, drawn):
    photos.scribbles(photos.names)
    if drawn == 'over the edge':
        for name in photos.names:
            label = read(photos.folder / f'scribbles/{name}.png')
            label[8:10, 20:30] = 1
            photos.save(f'scribbles/{name}.png', label)
    photos.coco(of_all(bbox=[4, 4, 20, 16]))
    works('prepare_custom', *photos.arguments('scribbles', more=['--boxes', photos.folder / 'coco']))
    assert 'outside all of their boxes' not in caplog.text


@pytest.mark.parametrize('width', [1, 2])
def test_narrow_points_between_pixels(photos, works, width):
    rows = [f'{name}.png,{x},{y},{label}\n' for name in photos.names
            for x, y, label in ((10, 10, 'cat'), (30.5, 30.5, 'cat'), (50, 40, 'background'), (63.7, 20, 'cat'),
                                (20.3, 35, 'cat'))]
    (photos.folder / 'points.csv').write_text('image,x,y,class\n' + ''.join(rows))
    works('prepare_custom', *photos.arguments(more=['--points', photos.folder / 'points.csv', '--point_width', width]))
    label = read(photos.list('train')['00'].semantic)
    expected = np.full((48, 64), 254)
    for x, y, value in ((10, 10, 1), (50, 40, 0)):
        expected[y, x] = value
        if width == 2:
            expected[[y - 1, y + 1], x] = expected[y, [x - 1, x + 1]] = value
    expected[30:32, 30:32] = 1  # all four are equally near
    expected[20, 63] = expected[35, 20] = 1
    if width == 2:
        expected[35, 21] = 1
    np.testing.assert_array_equal(label, expected)


def test_scribbles_with_ids_of_no_class(photos, works, caplog):
    photos.scribbles(photos.names)
    works('prepare_custom', *photos.arguments('scribbles'))
    assert 'of no class' not in caplog.text  # what is not drawn has one, too
    label = read(photos.folder / 'scribbles/03.png')
    label[40:42, :10] = 2
    photos.save('scribbles/03.png', label)
    works('prepare_custom', *photos.arguments('scribbles', more=['--overwrite']))
    assert '1 scribbles have pixels with ids of no class' in caplog.text
    assert '20 pixels in all' in caplog.text
    assert 'scribbles/03.png' in caplog.text


def test_zero_that_is_not_drawn_beside_ids_as_they_are_listed(photos, works, fails):
    """Nobody draws background, and 0 is the canvas: the other ids may be those of the list, or count from 1."""
    photos.classes('background\ncat\ndog\n')
    shown = {name: np.zeros((48, 64), np.uint8) for name in photos.names}
    for name, label in shown.items():
        label[10:14, 5:40], label[30:33] = 1, 2
        photos.save(f'scribbles/{name}.png', label)
    more = ['--undrawn', 0]
    fails('prepare_custom', *photos.arguments('scribbles', more=more),
          naming=['scribbles/', '--first_id 0', 'means cat'])
    works('prepare_custom', *photos.arguments('scribbles', more=[*more, '--first_id', 0]))
    for name, entry in photos.list('train').items():
        np.testing.assert_array_equal(read(entry.semantic), np.where(shown[name] == 0, 254, shown[name]))
    fails('prepare_custom', *photos.arguments('scribbles', more=[*more, '--first_id', 1]), naming=['first id'])
    fails('prepare_custom', *photos.arguments('scribbles', more=['--first_id', 1]), naming=['--undrawn 0'])


def test_colours_have_no_first_id(photos, works, fails):
    photos.classes('background 0 0 255\ncat 255 0 0\ndog 0 255 0\n')
    for name in photos.names:
        drawn = np.zeros((48, 64, 3))
        drawn[10:14, 5:40], drawn[30:33] = (255, 0, 0), (0, 255, 0)
        photos.save(f'scribbles/{name}.png', drawn)
    arguments = photos.arguments('scribbles', more=['--undrawn', '0,0,0'])
    works('prepare_custom', *arguments)
    fails('prepare_custom', *arguments, '--first_id', 1, naming=['--first_id 1', 'scribbles', 'leave it out'])
    # Files of ids beside them, which count from 1, change nothing in what is there.
    drawn = np.zeros((48, 64), np.uint8)
    drawn[10:14], drawn[20:24], drawn[30:33] = 1, 2, 3
    photos.save(f'scribbles/{photos.names[-1]}.png', drawn)
    assert f'{len(photos.names) - 1} were there' in works('prepare_custom', *arguments)
    label = read(photos.list('train')[photos.names[-1]].semantic)
    np.testing.assert_array_equal(label, np.where(drawn == 0, 254, drawn - 1))


@pytest.mark.parametrize('option', ['boxes', 'coco'])
@pytest.mark.parametrize('ending', ['v2', 'late'])
def test_names_without_an_ending_that_hold_a_dot(photos, works, caplog, option, ending):
    """In a JSON of COCO `00.v2` is the photo 00.v2.png, and not 00.png; and `02.v9` is none."""
    (photos.folder / 'photos/01.png').rename(photos.folder / f'photos/00.{ending}.png')
    boxes = {'00': [2, 3, 20, 10], f'00.{ending}': [30, 20, 10, 15], '02.v9': [1, 1, 5, 5]}
    (photos.folder / 'boxes.json').write_text(json.dumps({
        'images': [{'id': number, 'file_name': name} for number, name in enumerate(boxes)],
        'categories': [{'id': 1, 'name': 'cat'}],
        'annotations': [{'id': number, 'image_id': number, 'category_id': 1, 'bbox': [left, top, width, height],
                         'segmentation': [[left, top, left + width, top, left + width, top + height, left,
                                           top + height]]}
                        for number, (left, top, width, height) in enumerate(boxes.values())]}))
    works('prepare_custom', *photos.arguments(more=[f'--{option}', photos.folder / 'boxes.json']))
    assert '1 labels have no image and are left out, for example of 02.v9' in caplog.text
    labels = {path.stem: read(path) for path in (
        photos.out / 'VOC2012' / {'boxes': 'box', 'coco': 'segcls'}[option]).glob('*.png')}
    assert labels.keys() == {'00', f'00.{ending}'}
    for name, label in labels.items():
        left, top, width, height = boxes[name]
        expected = np.zeros((48, 64))
        expected[top:top + height, left:left + width] = 254 if option == 'boxes' else 1
        np.testing.assert_array_equal(label, expected)


def test_paper_whose_colour_the_class_list_calls_unlabelled(photos, works, caplog):
    photos.classes('background 0 0 255\ncat 255 0 0\nunlabelled 255 255 255\n')
    for name in photos.names:
        drawn = np.full((48, 64, 3), 255)
        drawn[8:10, 6:20], drawn[30:32], drawn[10, 6:20] = (255, 0, 0), (0, 0, 255), (255, 30, 30)
        photos.save(f'scribbles/{name}.png', drawn)
    works('prepare_custom', *photos.arguments('scribbles'))
    assert 'are near one in the class list' in caplog.text
    expected = np.full((48, 64), 254)
    expected[8:11, 6:20], expected[30:32] = 1, 0
    np.testing.assert_array_equal(read(photos.list('train')['00'].semantic), expected)


@pytest.mark.parametrize('name', ['10', '11'])
def test_photos_that_are_not_trained_on_are_read_too(photos, fails, name):
    photos.scribbles(photos.names[:10])
    photos.masks(['11'])
    path = photos.folder / f'photos/{name}.png'
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    fails('prepare_custom', *photos.arguments('scribbles', 'masks'), naming=[path])
    path.write_bytes(content)
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(path)
    fails('prepare_custom', *photos.arguments('scribbles', 'masks'), naming=[path])


def test_fixes_that_change_nothing_or_contradict(photos, fails):
    photos.classes('background 0 0 0\ncat 255 0 0\n')
    for name in photos.names:
        photos.save(f'masks/{name}.png', np.array([(0, 0, 0), (255, 0, 0)])[BLOCK])
    fails('prepare_custom', *photos.arguments('masks', more=['--fix', '255=cat']), naming=['--fix 255', 'colours'])
    fails('prepare_custom', *photos.arguments('masks', more=['--fix', '255=cat', '255=void']),
          naming=['--fix 255', 'twice'])
