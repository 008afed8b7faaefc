"""prepare_custom.py: a miniature data set of a user's, with every kind of label."""
import json
import os
import pathlib

import numpy as np
import pytest
import yaml
from originals import read, write_coco
from PIL import Image

from spml.config import dump, load_config
from spml.data.lists import check_files, read_list
from spml.data.readers import read_image
from spml.errors import DataError
from spml.names import KIND_SETTINGS
from spml.prepare.custom import next_step
from spml.prepare.custom_config import write_configs
from spml.prepare.custom_sources import Sample, split

SHIPPED = pathlib.Path(__file__).parents[2] / 'configs'
CLASSES = 'background 5 5 5\ncat 200 0 0\ntree 0 200 0\nvoid 250 250 250\n'
COLOURS = np.array([(5, 5, 5), (200, 0, 0), (0, 200, 0), (250, 250, 250)], np.uint8)


class Own:
    """Folders of photos (a, `b 1`, c.x, d, e), scribbles of a, `b 1`, c.x, and masks of c.x, d, e."""

    def __init__(self, folder):
        rng = np.random.default_rng()
        self.folder, self.out, self.configs = folder, folder / 'data', folder / 'configs'
        self.classes = folder / 'classes.txt'
        self.classes.write_text(CLASSES)
        for name in ('photos', 'scribbles', 'masks', 'labelme'):
            (folder / name).mkdir()
        self.ids = {}
        for name, file in (('a', 'a.jpg'), ('b 1', 'b 1.JPG'), ('c.x', 'c.x.png'), ('d', 'd.jpeg'), ('e', 'e.jpg')):
            size = tuple(rng.integers(20, 40, 2).tolist())
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / 'photos' / file)
            self.ids[name] = rng.integers(0, 4, size)
            self.ids[name][0, :4] = range(4)
        for name in ('a', 'b 1', 'c.x'):
            drawn = np.where(self.ids[name] < 3, 255, 0)
            self.save(f'scribbles/{name}.png', np.dstack([COLOURS[self.ids[name]], drawn]))
        for name in ('c.x', 'd', 'e'):
            self.save(f'masks/{name}.png', COLOURS[self.ids[name]])

    def save(self, path, pixels):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(self.folder / path)

    def arguments(self, *labels, more=()):
        """Command line with these kinds of labels."""
        return ['--images', self.folder / 'photos', '--classes', self.classes, '--out', self.out, '--cfg_dir',
                self.configs, '--num_workers', 0,
                *(word for label in labels for word in (f'--{label}', self.folder / label)), *more]

    def list(self, name):
        """The entries of a list, whose files are all there."""
        entries = read_list(self.out / 'lists' / f'{name}.txt', self.out)
        check_files(entries)
        return entries

    def lists(self):
        """Names of the images in each list but `train`, which has those of the published pipeline's list."""
        paths = sorted((self.out / 'lists').iterdir())
        found = {path.stem: [entry.name for entry in self.list(path.stem)] for path in paths}
        assert found.pop('train') == found.get('train_scribble', found.get('train_full'))
        return found


@pytest.fixture
def own(tmp_path):
    return Own(tmp_path)


def test_scribbles_train_and_masks_score(own, works, caplog):
    (own.folder / 'photos/notes.txt').write_text('no photo')
    printed = works('prepare_custom', *own.arguments('scribbles', 'masks'))
    assert own.lists() == {'train_scribble': ['a', 'b_1', 'c.x'], 'train_full': ['c.x'], 'val': ['d', 'e']}
    for entry in own.list('train_scribble'):
        ids = own.ids[entry.name.replace('_', ' ')]
        np.testing.assert_array_equal(read(entry.semantic), np.where(ids == 3, 254, ids))
        regions = read(entry.regions)
        assert regions.shape == ids.shape
        assert regions.max() < 255
    for entry in own.list('val') + own.list('train_full'):
        ids = own.ids[entry.name]
        np.testing.assert_array_equal(read(entry.semantic), np.where(ids == 3, 255, ids))
    photo = own.list('train_scribble')[1].image
    np.testing.assert_array_equal(read_image(photo), read_image(own.folder / 'photos/b 1.JPG'))
    for words in ('5 images with their labels written', '3 over-segmentations written',
                  'of 3 training labels 3 have background, 3 have cat, 3 have tree'):
        assert words in printed
    assert 'notes.txt' in caplog.text
    assert f'DATASET=configs DATAROOT={own.out} bash' in printed


def test_configurations_are_ready(own, works, fails, caplog):
    works('prepare_custom', *own.arguments('scribbles'))
    for name, kind, base in (('scribble', 'segsort', 300), ('classifier', 'softmax_classifier', 300)):
        config = load_config(own.configs / f'{name}.yaml')
        assert (config.dataset.num_classes, config.dataset.class_names) == (3, ['background', 'cat', 'tree'])
        assert config.dataset.color_map == COLOURS[:3].tolist()
        assert (config.network.prediction_types, config.train.max_iteration) == (kind, base)
        size = max(32, *(-(-max(ids.shape) // 8) * 8 for ids in own.ids.values()))  # that of the longest image
        assert config.test.crop_size == config.test.stride == config.train.crop_size == [size, size]
        assert config.test.image_size == 0
    edited = own.configs / 'base.yaml'
    edited.write_text(edited.read_text().replace('base_lr: 0.003', 'base_lr: 0.5'))
    works('prepare_custom', *own.arguments('scribbles'))
    assert load_config(own.configs / 'scribble.yaml').train.base_lr == 0.5
    own.out = own.out.with_name('other')
    own.classes.write_text(CLASSES.replace('tree', 'bush'))
    fails('prepare_custom', *own.arguments('scribbles'), naming=[edited, '--cfg_dir'])
    own.configs = own.configs.with_name('small')
    own.classes.write_text('background\ncat\ntree\n')
    for label in (own.folder / 'scribbles').iterdir():
        Image.fromarray(np.where(np.array(Image.open(label))[..., 3] == 0, 255, 1).astype(np.uint8)).save(label)
    Image.fromarray(np.where(np.arange(32).reshape(4, 8) < 9, 0, 255).astype(np.uint8)).resize(
        own.ids['a'].shape[::-1], Image.Resampling.NEAREST).save(own.folder / 'scribbles/a.png')
    own.out = own.out.with_name('third')
    printed = works('prepare_custom', *own.arguments('scribbles', more=['--base', 'demo']))
    config = load_config(own.configs / 'scribble.yaml')
    assert (config.dataset.color_map, config.train.crop_size) == (None, [32, 32])
    assert config.network.backbone_types == 'panoptic_deeplab_14'
    assert 'no training label has tree' in caplog.text
    assert f'DATAROOT={own.out} CLUSTERS=6,6 bash bashscripts/custom/train_spml.sh' in printed
    assert own.lists() == {'train_scribble': ['a', 'b_1', 'c.x'], 'test': ['d', 'e'],
                           'all': ['a', 'b_1', 'c.x', 'd', 'e']}


@pytest.fixture
def classes(class_list):
    return class_list(CLASSES)


@pytest.mark.parametrize(('longest', 'sizes'), [(500, [512, 512, 512]), (375, [384, 384, 384]), (4000, [512] * 3),
                                                (20, [32, 32, 32])])
def test_crops_and_windows_are_made_for_the_images(tmp_path, classes, longest, sizes):
    write_configs(SHIPPED / 'voc12', tmp_path / 'big', classes, longest, 5000)
    config = load_config(tmp_path / 'big/scribble.yaml')
    assert [config.train.crop_size[0], config.test.crop_size[0], config.test.stride[1]] == sizes
    # The built-in data's images are 160 long: at that length its sizes are as they are.
    write_configs(SHIPPED / 'demo', tmp_path / 'small', classes, 160, 120)
    found, given = load_config(tmp_path / 'small/scribble.yaml'), load_config(SHIPPED / 'demo/scribble.yaml')
    assert found.train.pop('kinds') == KIND_SETTINGS
    assert not given.train.pop('kinds')
    assert (found.train, found.test, found.network) == (given.train, given.test, given.network)


@pytest.mark.parametrize(('images', 'steps'), [(2, 300), (1058, 3000), (10582, 30000), (50000, 30000)])
def test_trainings_are_as_long_as_the_images_are_many(tmp_path, classes, capsys, images, steps):
    write_configs(SHIPPED / 'voc12', tmp_path, classes, 500, images)
    config = load_config(tmp_path / 'spml_joint.yaml')
    assert config.train.max_iteration == steps
    assert config.train.warmup_iteration == (20 if steps == 300 else 100)
    # Of the statistics of the weights to start from, a share of exp(-9) is left at the end, as in the release.
    assert config.network.bn_momentum * steps == pytest.approx(3e-4 * 30000)
    assert load_config(tmp_path / 'classifier.yaml').train.max_iteration == {3000: 400, 30000: 4000}.get(steps, 300)
    assert f'{images} images to train on: {steps} steps of 16 images' in capsys.readouterr().out


def test_configurations_are_renewed_for_more_images_unless_they_were_edited(tmp_path, classes, capsys, caplog):
    write_configs(SHIPPED / 'voc12', tmp_path, classes, 375, 1058)
    edited = tmp_path / 'classifier.yaml'
    edited.write_text(edited.read_text().replace('max_iteration: 400', 'max_iteration: 500'))
    write_configs(SHIPPED / 'voc12', tmp_path, classes, 375, 1058)
    assert not caplog.text
    assert load_config(tmp_path / 'spml_joint.yaml').train.max_iteration == 3000
    capsys.readouterr()
    write_configs(SHIPPED / 'voc12', tmp_path, classes, 500, 2116)
    printed = capsys.readouterr().out
    train = load_config(tmp_path / 'spml_joint.yaml').train
    assert (train.max_iteration, train.crop_size) == (6000, [512, 512])
    assert load_config(tmp_path / 'cam.yaml').train.max_iteration == 2000
    assert f'{tmp_path}/base.yaml (renewed, for it was made for 1058 images of up to 375 pixels)' in printed
    assert '2116 images to train on: 6000 steps of 16 images' in printed
    assert load_config(edited).train.max_iteration == 500
    assert f'{edited}: train.max_iteration is 500, set for 1058 images; for 2116 images' in caplog.text
    assert caplog.text.count('WARNING: ') == 1
    # What was written before files said for what.
    caplog.clear()
    base = tmp_path / 'base.yaml'
    base.write_text(base.read_text().partition('\n')[2])
    write_configs(SHIPPED / 'voc12', tmp_path, classes, 500, 3174)
    assert f'{base}: train.max_iteration is 6000; for 3174 images to train on it would be 9000' in caplog.text
    assert '3174 images to train on: 6000 steps' in capsys.readouterr().out


def test_a_folder_of_the_version_before_is_left_as_it_is(tmp_path, classes):
    write_configs(SHIPPED / 'demo', tmp_path / 'new', classes, 160, 120)
    old = tmp_path / 'old'
    old.mkdir()
    for before, now in (('scribble', 'scribble'), ('scribble_classifier', 'classifier')):
        (old / f'{before}.yaml').write_text(dump(load_config(tmp_path / f'new/{now}.yaml')))
    write_configs(SHIPPED / 'demo', old, classes, 160, 120)
    assert {path.name for path in old.iterdir()} == {'scribble.yaml', 'scribble_classifier.yaml'}


def test_masks_alone_are_trained_on_but_for_some(own, works):
    printed = works('prepare_custom', *own.arguments('masks'))
    assert own.lists() == {'train_full': ['c.x', 'd'], 'val': ['e'], 'test': ['a', 'b_1']}
    assert f'DATAROOT={own.out} bash bashscripts/custom/train_spml.sh' in printed
    for entry in own.list('train_full'):
        assert read(entry.regions).shape == own.ids[entry.name].shape
    val = own.folder / 'val.txt'
    val.write_text('d.jpeg\n\nc.x\n')
    works('prepare_custom', *own.arguments('masks', more=['--val', val]))
    assert own.lists() == {'train_full': ['e'], 'val': ['d', 'c.x'], 'test': ['a', 'b_1']}


def shape(label, kind, points):
    return {'label': label, 'shape_type': kind, 'points': points}


def block(size):
    """The map of a cat in rows 3 to 8 and columns 2 to 9."""
    return np.pad(np.ones((6, 8)), ((3, size[0] - 9), (2, size[1] - 10)))


def test_labelme_as_truth_and_as_scribbles(own, works, fails):
    for name in own.ids:
        shapes = [shape('cat', 'polygon', [[2, 3], [9, 3], [9, 8], [2, 8]])]
        if name == 'e':
            shapes = [shape('tree', 'point', [[4, 4]])]
        (own.folder / f'labelme/{name}.json').write_text(json.dumps({'shapes': shapes}))
    fails('prepare_custom', *own.arguments('labelme'), naming=[own.folder / 'labelme/e.json', '--rest unlabelled'])
    (own.folder / 'labelme/e.json').unlink()
    own.out = own.out.with_name('truth')
    works('prepare_custom', *own.arguments('scribbles', 'labelme'))
    assert own.lists() == {'train_scribble': ['a', 'b_1', 'c.x'], 'train_full': ['a', 'b_1', 'c.x'], 'val': ['d'],
                           'test': ['e']}
    np.testing.assert_array_equal(read(own.list('val')[0].semantic), block(own.ids['d'].shape))
    own.out = own.out.with_name('weak')
    (own.folder / 'labelme/e.json').write_text(json.dumps({'shapes': [shape('tree', 'point', [[4, 4]])]}))
    weak = own.arguments('labelme', more=['--rest', 'unlabelled', '--width', 1])
    works('prepare_custom', *weak)
    everything = ['a', 'b_1', 'c.x', 'd', 'e']
    assert own.lists() == {'train_scribble': everything, 'all': everything}
    expected = np.full(own.ids['e'].shape, 254)
    expected[4, 4] = 2
    np.testing.assert_array_equal(read(own.list('train_scribble')[-1].semantic), expected)


def test_coco_as_truth_and_as_weak_labels(own, works):
    write_coco(own.folder / 'coco', [f'train/{name}.jpg' for name in ('a', 'b 1', 'c.x', 'd')],
               [(image, 0, {'segmentation': [[2, 3, 10, 3, 10, 9, 2, 9]]}) for image in range(3)], ['cat'])
    works('prepare_custom', *own.arguments('coco'))
    assert own.lists() == {'train_full': ['a', 'b_1', 'c.x'], 'val': ['d'], 'test': ['e']}
    expected = block(own.ids['a'].shape)
    np.testing.assert_array_equal(read(own.list('train_full')[0].semantic), expected)
    assert (read(own.list('val')[0].semantic) == 0).all()
    own.out = own.out.with_name('weak')
    works('prepare_custom', *own.arguments('coco', 'masks', more=['--rest', 'unlabelled']))
    assert own.lists() == {'train_scribble': ['a', 'b_1', 'c.x'], 'train_full': ['c.x'], 'val': ['d', 'e']}
    np.testing.assert_array_equal(read(own.list('train_scribble')[0].semantic), np.where(expected, 1, 254))


def made(out):
    """What tells the files of a data root that are made again from those that stay."""
    return {path.relative_to(out).as_posix(): path.stat().st_ino for path in out.glob('VOC2012/**/[!.]*.*')}


def test_what_is_replaced_is_made_again_and_nothing_else(own, works, fails):
    def again(*labels):
        before = made(own.out)
        works('prepare_custom', *own.arguments(*labels))
        return {path for path, inode in made(own.out).items() if before.get(path) != inode}

    again('scribbles')
    assert again('scribbles') == set()
    masks = {f'VOC2012/segcls/{name}.png' for name in ('c.x', 'd', 'e')}
    # Both labels of the image that now has a mask, too, and what combines them.
    labels = {f'VOC2012/{folder}/c.x.png' for folder in ('scribble/dilate_3', 'mixed')}
    assert again('scribbles', 'masks') == masks | labels
    ids = np.roll(own.ids['a'], 1, axis=1)
    own.save('scribbles/a.png', np.dstack([COLOURS[ids], np.where(ids < 3, 255, 0)]))
    own.save('masks/d.png', COLOURS[np.roll(own.ids['d'], 1, axis=1)])
    for path in ('scribbles/a.png', 'masks/d.png'):
        os.utime(own.folder / path, (0, 0))
    assert again('scribbles', 'masks') == {'VOC2012/scribble/dilate_3/a.png', 'VOC2012/segcls/d.png'}
    np.testing.assert_array_equal(read(own.out / 'VOC2012/scribble/dilate_3/a.png'), np.where(ids == 3, 254, ids))
    for replace in (lambda path: path.unlink(), lambda path: None):  # by a new file, and in place, through the link
        photo = own.folder / 'photos/a.jpg'
        pixels = np.random.default_rng().integers(0, 256, (*own.ids['a'].shape, 3), np.uint8)
        replace(photo)
        Image.fromarray(pixels).save(photo)
        os.utime(photo, (0, 0))
        found = again('scribbles', 'masks')
        assert found >= {'VOC2012/scribble/dilate_3/a.png', 'VOC2012/hed/a.png'}
        assert all(path.rpartition('/')[2].startswith('a.') for path in found)
        assert (own.out / 'VOC2012/JPEGImages/a.jpg').read_bytes() == photo.read_bytes()
    assert again('scribbles', 'masks') == set()


def test_other_options_are_refused_unless_all_is_to_be_made_again(own, works, fails):
    works('prepare_custom', *own.arguments('scribbles'))
    fails('prepare_custom', *own.arguments('scribbles', more=['--undrawn', '5,5,5']), naming=['undrawn', own.out])
    own.classes.write_text(CLASSES.replace('cat', 'dog'))
    own.configs = own.configs.with_name('dogs')
    fails('prepare_custom', *own.arguments('scribbles'), naming=['class list', '--overwrite'])
    works('prepare_custom', *own.arguments('scribbles', more=['--overwrite']))
    works('prepare_custom', *own.arguments('scribbles'))


def test_a_data_set_of_the_version_before_is_kept(own, works, caplog):
    works('prepare_custom', *own.arguments('scribbles', 'masks'))
    for path in own.out.rglob('.made_*'):  # as that version noted options, and nothing else
        if path.name == '.made_with.json':
            path.with_name('.prepared_with.json').write_text(json.dumps(json.loads(path.read_text())['values']))
        path.unlink()
    before = made(own.out)
    works('prepare_custom', *own.arguments('scribbles', 'masks'))
    assert made(own.out) == before
    assert '3 results made by an earlier version are kept' in caplog.text


def test_what_cannot_be_used(own, fails):
    fails('prepare_custom', *own.arguments(), naming=['--scribbles', '--coco'])
    fails('prepare_custom', *own.arguments('masks', 'labelme'), naming=[own.folder / 'labelme', '--labelme'])
    (own.folder / 'labelme/d.json').write_text('{"shapes": []}')
    fails('prepare_custom', *own.arguments('masks', 'labelme'), naming=['image d', 'labelme', 'masks', 'keep one'])
    (own.folder / 'labelme/d.json').unlink()
    fails('prepare_custom', *own.arguments('masks', more=['--images', own.folder / 'none']), naming=['none'])
    fails('prepare_custom', *own.arguments('masks', more=['--images', own.folder / 'labelme']), naming=['no image'])
    fails('prepare_custom', *own.arguments('masks', more=['--classes', own.folder / 'none']), naming=['none'])
    own.save('photos/z.jpg', np.zeros((9, 9, 3)))
    own.save('labelme/y.png', np.zeros((9, 9, 3)))
    fails('prepare_custom', *own.arguments(more=['--masks', own.folder / 'labelme']), naming=['labelme', 'photos'])
    own.save('masks/z.png', np.full((9, 10, 3), 5))
    fails('prepare_custom', *own.arguments('masks'), naming=['masks/z.png', 'photos/z.jpg', '10x9', '9x9', 'EXIF'])
    own.save('masks/z.png', np.full((9, 9, 3), 250))
    fails('prepare_custom', *own.arguments('masks'), naming=['masks/z.png', 'no pixel'])
    own.save('masks/z.png', np.full((9, 9, 3), 5))
    mask = own.folder / 'masks/e.png'
    mask.write_bytes(mask.read_bytes()[:60])
    fails('prepare_custom', *own.arguments('masks'), naming=[mask])
    own.save('photos/z.png', np.zeros((9, 9, 3)))
    fails('prepare_custom', *own.arguments('masks'), naming=['photos/z.png', 'photos/z.jpg'])


def test_names_for_validation_that_cannot_be_used(own, fails):
    val = own.folder / 'val.txt'
    for text, naming in (('c.x\na\n', [f'{val}:2', 'a is not an image with a mask']), ('\n', [val]),
                         ('c.x\nd\ne\n', ['left to train'])):
        val.write_text(text)
        fails('prepare_custom', *own.arguments('masks', more=['--val', val]), naming=naming)
    fails('prepare_custom', *own.arguments('masks', more=['--val', own.folder / 'none']), naming=['none'])


def test_a_folder_with_other_data_is_left_alone(own, fails):
    (own.out / 'lists').mkdir(parents=True)
    (own.out / 'lists/train_full.txt').write_text('years of work')
    fails('prepare_custom', *own.arguments('masks'), naming=[own.out, 'other data'])
    assert [path for path in own.out.rglob('*') if path.is_file()] == [own.out / 'lists/train_full.txt']


def samples(*kinds):
    """Samples named 0, 1, ...; w: weak label, t: truth, b: both, anything else: neither."""
    labels = {'w': ['scribble'], 't': ['mask'], 'b': ['scribble', 'mask']}
    return [Sample(str(index), None, dict.fromkeys(labels.get(kind, []))) for index, kind in enumerate(kinds)]


@pytest.mark.parametrize(('kinds', 'expected'), [
    ('wwt-', {'train': '01', 'val': '2', 'test': '3'}), ('bbbbbbw', {'train': '012356', 'val': '4', 'test': ''}),
    ('ttt', {'train': '01', 'val': '2', 'test': ''}), ('btt', {'train': '0', 'val': '12', 'test': ''}),
    ('tttttttttt', {'train': '01235678', 'val': '49', 'test': ''}), ('w-', {'train': '0', 'val': '', 'test': '1'}),
])
def test_what_becomes_of_images(kinds, expected):
    lists = split(samples(*kinds))
    assert {name: ''.join(sample.name for sample in part) for name, part in lists.items()} == expected


def test_nothing_left_to_train_on():
    for kinds in ('t', '--', 'b'):
        with pytest.raises(DataError, match='left to train on'):
            split(samples(*kinds))


def test_the_next_step_starts_from_weights_that_are_there(tmp_path):
    def weights(pretrained):
        config = yaml.safe_load((SHIPPED / 'voc12/base.yaml').read_text())
        config['network']['pretrained'] = pretrained
        (tmp_path / 'scribble.yaml').write_text(yaml.safe_dump(config))
        return next_step(tmp_path / 'data', tmp_path, 'voc12', SHIPPED.parent)

    (tmp_path / 'there.pth').write_text('')
    missing = weights(str(tmp_path / 'none.pth'))
    assert f'as {tmp_path}/none.pth is not there' in missing
    assert 'PRETRAINED=efficientnet_lite0 DATASET=' in missing
    for pretrained in ('', str(tmp_path / 'there.pth')):
        assert 'PRETRAINED' not in weights(pretrained)
