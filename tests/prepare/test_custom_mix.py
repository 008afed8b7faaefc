"""prepare_custom.py with all kinds of labels at once: what each image is trained on, and what lists and table say."""
import json

import numpy as np
import pytest
from originals import read, write_boxes
from own_photos import BLOCK, Photos

from spml.config import load_config
from spml.data.lists import check_files, read_list

# Boxes (class, (left, top, right, bottom)), right and bottom excluded, of some photos.
BOXES = {'02': [('cat', (4, 4, 24, 20))], '03': [('cat', (4, 4, 24, 20)), ('dog', (20, 10, 40, 30))],
         '04': [('cat', (4, 4, 24, 20))], '08': [('cat', (4, 4, 24, 20))]}
NAMES = ['background', 'cat', 'dog', 'horse']


class Mix(Photos):
    """Photos with every kind of label.

    00, 01: scribbles; 02, 03: boxes; 04: boxes and scribbles; 05: points; 06, 07: tags; 08: boxes and tags that
    contradict them; 09: a mask; 10: a mask, scribbles and tags that contradict it; 11: nothing.
    """

    def __init__(self, folder):
        super().__init__(folder)
        self.classes('\n'.join(NAMES) + '\n')
        self.scribbles(['00', '01', '04', '10'])
        self.masks(['09', '10'])
        self.boxes(BOXES)
        (folder / 'points').write_text('image,x,y,class\n05.png,10,10,cat\n05.png,40,40,background\n')
        (folder / 'tags').write_text('06,dog\n07,cat,horse\n08,dog\n10,cat,dog\n')

    def boxes(self, boxes, names=NAMES):
        """Write boxes as COCO has them."""
        self.coco([(image, names.index(label), {'bbox': [left, top, right - left, bottom - top]})
                   for image, found in enumerate(boxes.values()) for label, (left, top, right, bottom) in found],
                  'boxes', names, boxes)


@pytest.fixture
def mix(tmp_path):
    return Mix(tmp_path)


ALL = ('scribbles', 'masks', 'boxes', 'points', 'tags')


def outside(name):
    """What boxes alone say of a photo."""
    label = np.zeros(BLOCK.shape)
    for _, (left, top, right, bottom) in BOXES[name]:
        label[top:bottom, left:right] = 254
    return label


def scribbled():
    label = np.full(BLOCK.shape, 254)
    label[8:10, 6:20], label[30:32] = 1, 0
    return label


def lines(mix, name='train'):
    return {line.split()[0].rpartition('/')[2][:2]: line.split()[1:]
            for line in (mix.out / f'lists/{name}.txt').read_text().splitlines()}


def test_every_image_uses_what_it_has(mix, works, caplog):
    printed = works('prepare_custom', *mix.arguments(*ALL))
    found = lines(mix)
    assert {name: fields[2:] for name, fields in found.items()} == {
        '00': ['-', 'scribble'], '01': ['-', 'scribble'], '02': ['1', 'box'], '03': ['1,2', 'box'],
        '04': ['-', 'scribble'], '05': ['-', 'point'], '06': ['2', 'tag'], '07': ['1,3', 'tag'], '08': ['1', 'box'],
        '10': ['-', 'mask']}
    assert [name for name, fields in found.items() if fields[0] == '-'] == ['06', '07']
    entries = read_list(mix.out / 'lists/train.txt', mix.out, (3,), num_classes=4)
    check_files(entries)
    labels = {entry.name: read(entry.semantic) for entry in entries if entry.semantic}
    both = np.where(scribbled() == 254, outside('04'), scribbled())
    y, x = np.mgrid[:48, :64]
    dots = np.full(BLOCK.shape, 254)
    for value, column, row in ((1, 10, 10), (0, 40, 40)):
        dots[(x - column) ** 2 + (y - row) ** 2 <= 9] = value
    expected = {'00': scribbled(), '01': scribbled(), '02': outside('02'), '03': outside('03'), '04': both,
                '05': dots, '08': outside('08'), '10': BLOCK}
    assert labels.keys() == expected.keys()
    for name, label in expected.items():
        np.testing.assert_array_equal(labels[name], label)
    assert list(mix.list('val')) == ['09']
    assert list(mix.list('test')) == ['11']
    assert list(mix.list('train_full')) == ['10']
    assert not (mix.out / 'lists/train_scribble.txt').exists()
    for words in ('mask                        1            1', 'scribble                    4            0',
                  'box                         4            0', 'point                       1            0',
                  'tag                         4            0', '1 images have no label and are in the list test',
                  'seen in tags alone: horse (1 images)', 'bash bashscripts/custom/train_spml.sh'):
        assert words in printed
    assert f'DATASET=configs DATAROOT={mix.out} CLUSTERS=6,6 bash' in printed
    # 08 is tagged as a dog, its box shows a cat; 10 as a cat and a dog, its mask shows a cat.
    assert 'the tags of 2 images contradict their own labels' in caplog.text
    assert '08: tagged dog, but its own labels show cat' in caplog.text
    boxes = json.loads((mix.out / 'boxes.json').read_text())
    by_id = {image['id']: image['file_name'] for image in boxes['images']}
    assert sorted((by_id[one['image_id']][:2], one['category_id'], *one['bbox']) for one in boxes['annotations']) == [
        (name, NAMES.index(label), box[0], box[1], box[2] - box[0], box[3] - box[1])
        for name, found in BOXES.items() for label, box in found]
    assert boxes['info'] == {'complete': True}


def test_boxes_that_may_be_incomplete_say_nothing_of_what_is_outside(mix, works, caplog):
    works('prepare_custom', *mix.arguments('boxes', 'tags', more=['--boxes_incomplete']))
    found = lines(mix)
    assert found['02'] == ['-', 'VOC2012/hed/02.png', '1', 'box']
    assert found['08'][2:] == ['1,2', 'box']  # there may be a dog elsewhere; but the tags do not name the cat
    assert '08: tagged dog, but its own labels show cat' in caplog.text
    assert json.loads((mix.out / 'boxes.json').read_text())['info'] == {'complete': False}
    mix.folder.joinpath('tags').write_text('08,cat,dog\n')
    caplog.clear()
    works('prepare_custom', *mix.arguments('boxes', 'tags', more=['--boxes_incomplete']))
    assert 'contradict' not in caplog.text


def test_labels_without_a_background(mix, works):
    names = ['sky', *NAMES[1:]]
    mix.classes('\n'.join(names) + '\n')
    mix.boxes(BOXES | {'02': [*BOXES['02'], ('sky', (0, 30, 64, 48))]}, names)
    (mix.folder / 'tags').write_text('06,sky,dog\n')
    works('prepare_custom', *mix.arguments('boxes', 'tags', more=['--background', 'none']))
    assert lines(mix)['02'] == ['-', 'VOC2012/hed/02.png', '0,1', 'box']
    assert lines(mix)['06'] == ['-', 'VOC2012/hed/06.png', '0,2', 'tag']
    assert not load_config(mix.out / 'configs/scribble.yaml').dataset.background


@pytest.mark.parametrize(('options', 'of'), [(['--fix', '255=1'], 'masks'), (['--undrawn', 0], 'scribbles'),
                                             (['--first_id', 0], 'scribbles'), (['--palettes', 'ids'], 'masks'),
                                             (['--boxes_incomplete'], 'boxes')])
def test_options_of_labels_that_are_not_given(mix, fails, options, of):
    fails('prepare_custom', *mix.arguments('tags', more=options), naming=[options[0], f'--{of}'])


def test_tags_alone(mix, works, caplog):
    printed = works('prepare_custom', *mix.arguments('tags'))
    assert load_config(mix.out / 'configs/scribble.yaml').dataset.background
    assert {name: fields[2:] for name, fields in lines(mix).items()} == {
        '06': ['2', 'tag'], '07': ['1,3', 'tag'], '08': ['2', 'tag'], '10': ['1,2', 'tag']}
    assert {path.stem for path in (mix.out / 'lists').iterdir()} == {'train', 'test', 'all'}
    assert 'seen in tags alone: cat (2 images), dog (3 images), horse (1 images)' in printed
    assert 'custom/train_spml.sh' in printed
    assert 'nothing will be predicted' not in caplog.text  # CAMs show where background is


def test_what_changes_is_made_again(mix, works):
    works('prepare_custom', *mix.arguments(*ALL))
    mix.folder.joinpath('points').write_text('05,20,20,dog\n')
    mix.boxes(BOXES | {'02': [('cat', (30, 30, 40, 40))]})
    (mix.folder / 'tags').write_text('06,cat\n')
    printed = works('prepare_custom', *mix.arguments(*ALL))
    assert '2 images with their labels written' in printed
    assert read(mix.out / lines(mix)['05'][0])[20, 20] == 2
    label = np.zeros(BLOCK.shape)
    label[30:40, 30:40] = 254
    np.testing.assert_array_equal(read(mix.out / lines(mix)['02'][0]), label)
    assert lines(mix)['06'][2:] == ['1', 'tag']
    assert lines(mix)['10'][2:] == ['-', 'mask']


def test_bad_tables(mix, fails):
    for option, text, word in (('tags', '06,unicorn\n', 'unicorn'), ('points', '05,64,10,cat\n', 'x = 64')):
        (mix.folder / option).write_text(text)
        fails('prepare_custom', *mix.arguments(option), naming=[f'{option}:1', word])


def test_a_box_outside_its_image(mix, works, caplog):
    mix.boxes(BOXES | {'02': [('cat', (70, 4, 90, 24))], '03': [('cat', (50, 4, 90, 24)), BOXES['03'][1]]})
    works('prepare_custom', *mix.arguments('boxes', 'tags'))
    assert not read(mix.out / lines(mix)['02'][0]).any()
    assert lines(mix)['02'][2:] == ['-', 'box']
    label = read(mix.out / lines(mix)['03'][0])
    assert (label[4:24, 50:] == 254).all()
    assert 'of no pixel of the image' in caplog.text
    assert 'cut at its edge' in caplog.text


def test_boxes_in_a_folder(mix, works, caplog):
    folder = mix.folder / 'boxes'
    folder.unlink()
    folder.mkdir()
    for name, boxes in BOXES.items():
        write_boxes(folder / f'{name}.xml', [(label, left + 1, top + 1, right, bottom)
                                             for label, (left, top, right, bottom) in boxes])
    (folder / 'readme.md').write_text('')
    works('prepare_custom', *mix.arguments('boxes'))
    assert '1 files are not used, for example readme.md' in caplog.text
    for name in BOXES:
        np.testing.assert_array_equal(read(mix.out / lines(mix)[name][0]), outside(name))
    assert lines(mix)['03'][2:] == ['1,2', 'box']


def test_tags_by_folders_and_points_of_labelme(mix, works, caplog):
    for option in ('tags', 'points'):
        (mix.folder / option).unlink()
        (mix.folder / option).mkdir()
    for name, label in (('06', 'dog'), ('07', 'cat'), ('07', 'dog')):
        mix.save(f'tags/{label}/{name}.jpg', np.zeros((4, 4, 3)))
    mix.save('tags/00.jpg', np.zeros((4, 4, 3)))
    (mix.folder / 'points/05.json').write_text(json.dumps({'shapes': [
        {'label': 'dog', 'shape_type': 'point', 'points': [[30, 20]]}]}))
    works('prepare_custom', *mix.arguments('tags', 'points', more=['--point_width', 2]))
    assert {name: fields[2:] for name, fields in lines(mix).items()} == {
        '05': ['-', 'point'], '06': ['2', 'tag'], '07': ['1,2', 'tag']}
    label = read(mix.out / lines(mix)['05'][0])
    assert label[20, 30] == 2
    assert (label != 254).sum() == 5
    assert '1 files are not used, for example 00.jpg; what is read lies in a folder a class' in caplog.text


def test_tags_of_all_images_leave_those_with_masks_for_scores(mix, works):
    (mix.folder / 'tags').write_text(''.join(f'{name},cat\n' for name in mix.names))
    works('prepare_custom', *mix.arguments('masks', 'tags'))
    assert list(mix.list('val')) == ['09', '10']
    assert set(lines(mix)) == set(mix.names) - {'09', '10'}
