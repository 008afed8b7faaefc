import json
import os

import numpy as np
import pytest
from originals import TRAIN_PLUS, read, train_list, write_boxes, write_coco
from PIL import Image

from spml.config.schema import VOC_CLASS_NAMES
from spml.data.cam_labels import box_labels, tag_labels
from spml.prepare.cam import Rule
from spml.prepare.cam_fit import check_keys, describe_sweep, sweep

TAGS, BOXES = 'VOC2012/cam/seam_a6_th0.2', 'VOC2012/cam/seambox_a6_th0.5'


@pytest.fixture
def place(prepared, tmp_path, rng):
    """The prepared miniature with CAMs `cams` of two classes for every training image, in the folder `cam_dir`."""
    prepared.cam_dir = tmp_path / 'cam_npy'
    prepared.cam_dir.mkdir()
    prepared.cams = {}
    for name in TRAIN_PLUS:
        cams = {int(key): rng.random(prepared.sizes[name]).astype(np.float32) ** 2
                for key in rng.choice(20, 2, replace=False)}
        prepared.cams[name] = {key: cam / cam.max() for key, cam in cams.items()}
        np.save(prepared.cam_dir / f'{name}.npy', prepared.cams[name])
    return prepared


def arguments(place, *more):
    return ['--cam_dir', place.cam_dir, '--out', place.out, '--num_workers', 0, *more]


@pytest.mark.parametrize(('options', 'folder', 'kind', 'rule'), [
    ([], 'seam_a6_th0.2', 'tag', (6, 0.2, False)),
    (['--normalise'], 'seam_a6_th0.2_sum1', 'tag_seam_a6_th0.2_sum1', (6, 0.2, True)),
    (['--alpha', '4', '--threshold', '0.5'], 'seam_a4_th0.5', 'tag_seam_a4_th0.5', (4, 0.5, False))])
def test_tag_labels(place, works, options, folder, kind, rule):
    printed = works('prepare_cam', *arguments(place, *options))
    assert f'4 label maps written: {place.out / "VOC2012/cam" / folder}\n' in printed
    share = np.mean(np.concatenate([
        tag_labels(place.cams[name], place.sizes[name], *rule).ravel() == 254 for name in TRAIN_PLUS]))
    assert f'unlabelled: {100 * share:.1f} % of the pixels of 4 images looked at; --threshold 0.' in printed
    for name in TRAIN_PLUS:
        label = read(place.out / 'VOC2012/cam' / folder / f'{name}.png')
        np.testing.assert_array_equal(label, tag_labels(place.cams[name], place.sizes[name], *rule))
        assert (place.out / 'VOC2012/cam_npy' / f'{name}.npy').read_bytes() == (
            place.cam_dir / f'{name}.npy').read_bytes()
    assert (place.out / f'lists/train_{kind}.txt').read_text() == train_list(f'VOC2012/cam/{folder}')


def test_box_labels(place, works, rng):
    annotations = place.voc / 'Annotations'
    for name in TRAIN_PLUS:
        write_boxes(annotations / f'{name}.xml', [])
    write_boxes(annotations / '08_d.xml',
                [('bottle', 4, 3, 9, 5), ('person', '8.2', 5, 10, 7), ('cat', 12, 10, 13, 12)])
    boxes = [(5, (3, 2, 9, 5)), (15, (7, 4, 10, 7)), (8, (11, 9, 13, 12))]
    cams = {key: rng.random(place.sizes['08_d'], np.float32) for key in (4, 14)}
    np.save(place.cam_dir / '08_d.npy', cams)
    for more, folder, kind in (([], BOXES, 'box'), *(
            ([option, 0.3], 'VOC2012/cam/seambox_a6_th0.3', 'box_seambox_a6_th0.3')
            for option in ('--threshold', '--box_threshold'))):
        works('prepare_cam', *arguments(place, '--boxes', annotations, *more))
        want = box_labels(cams, boxes, place.sizes['08_d'], *more[1:])
        np.testing.assert_array_equal(read(place.out / folder / '08_d.png'), want)
        assert not read(place.out / folder / '07_a.png').any()
        assert (place.out / f'lists/train_{kind}.txt').read_text() == train_list(folder)


@pytest.mark.parametrize('by_class', [False, True])
def test_the_sweep_of_a_data_root(of_the_truth, works, by_class):
    place, options = of_the_truth, ['--cam_keys', 'class'] if by_class else []
    rule = Rule(len(VOC_CLASS_NAMES))
    rows = sweep(rule, place.cam_dir, place.out, place.out / 'lists/train_full.txt')
    for name in TRAIN_PLUS if by_class else ():
        np.save(place.cam_dir / f'{name}.npy', keyed_by_class(place.cams[name], place.sizes[name]))
    printed = works('prepare_cam', *arguments(place, *options, '--gt_list', place.out / 'lists/train_full.txt'))
    assert printed.endswith(f'{describe_sweep(rows)}\n')


def test_a_second_run_makes_what_is_replaced_again(place, works):
    works('prepare_cam', *arguments(place))
    replaced = place.cam_dir / '08_d.npy'
    replaced.unlink()
    np.save(replaced, {})
    os.utime(replaced, (0, 0))
    printed = works('prepare_cam', *arguments(place))
    assert f'1 label maps written: {place.out / TAGS} (3 were there already)' in printed
    assert not read(place.out / TAGS / '08_d.png').any()
    assert (place.out / 'VOC2012/cam_npy/08_d.npy').read_bytes() == replaced.read_bytes()


def test_mistakes_are_one_line(place, works, fails, tmp_path, caplog):
    annotations = place.voc / 'Annotations'
    path = place.cam_dir / '07_b.npy'
    np.save(path, {3: np.zeros((5, 6), np.float32)})
    fails('prepare_cam', *arguments(place), naming=[path, 'class 4', '5x6'])
    np.save(path, {20: np.zeros(place.sizes['07_b'], np.float32)})
    fails('prepare_cam', *arguments(place), naming=[path, '20'])
    fails('prepare_cam', *arguments(place, '--boxes', annotations), naming=[annotations, '07_a', '--boxes'])
    fails('prepare_cam', *arguments(place, '--boxes', annotations, '--alpha', 6), naming=['--alpha'])
    fails('prepare_cam', '--cam_dir', tmp_path, '--out', place.out, naming=['none of the 4 images'])
    path.unlink()
    for name in TRAIN_PLUS:
        write_boxes(annotations / f'{name}.xml', [('cat', 1, 1, 99, 5)])
    works('prepare_cam', *arguments(place, '--boxes', annotations))
    assert '3 boxes reach out of their image and are cut at its edge' in caplog.text
    for name, tag in (('08_d', 'steed'), ('07_a', 'cats')):
        write_boxes(annotations / f'{name}.xml', [(tag, 1, 1, 5, 5)])
        fails('prepare_cam', *arguments(place, '--boxes', annotations), naming=[annotations / f'{name}.xml', tag])


def keyed_by_class(cams, shape):
    """As dicts by class id with a background entry."""
    return {0: np.ones(shape, np.float32), **{key + 1: cam for key, cam in cams.items()}}


@pytest.fixture
def of_the_truth(place, rng):
    """The CAMs of exactly the classes that each image's truth has, five at most."""
    place.shown = {}
    for name in TRAIN_PLUS:
        label = read(place.out / f'VOC2012/segcls/{name}.png')
        label[label > 5] = 3
        Image.fromarray(label).save(place.out / f'VOC2012/segcls/{name}.png')
        shown = {int(value) for value in np.unique(label)} - {0}
        place.shown[name] = shown
        place.cams[name] = {value - 1: rng.random(place.sizes[name], np.float32) for value in shown}
        np.save(place.cam_dir / f'{name}.npy', place.cams[name])
    return place


def test_keys_that_are_class_ids(of_the_truth, works, fails):
    place = of_the_truth
    works('prepare_cam', *arguments(place))
    for name in TRAIN_PLUS:
        np.save(place.cam_dir / f'{name}.npy', keyed_by_class(place.cams[name], place.sizes[name]))
    fails('prepare_cam', *arguments(place), naming=[place.cam_dir, 'tags of the images', '--cam_keys class'])
    works('prepare_cam', *arguments(place, '--cam_keys', 'class', '--overwrite'))
    for name in TRAIN_PLUS:
        label = read(place.out / TAGS / f'{name}.png')
        np.testing.assert_array_equal(label, tag_labels(place.cams[name], place.sizes[name], 6, 0.2, False))
        stored = np.load(place.out / 'VOC2012/cam_npy' / f'{name}.npy', allow_pickle=True).item()
        assert {key + 1 for key in stored} == place.shown[name]
        np.save(place.cam_dir / f'{name}.npy', place.cams[name])
    fails('prepare_cam', *arguments(place, '--cam_keys', 'class'), naming=['--cam_keys class-1'])


def test_keys_that_are_class_ids_beside_boxes(of_the_truth, works, fails):
    """No pixel of an object would be labelled."""
    place, annotations = of_the_truth, of_the_truth.voc / 'Annotations'
    for name in TRAIN_PLUS:
        boxes = [(VOC_CLASS_NAMES[label], 2, 2, 12, 12) for label in sorted(place.shown[name])]
        write_boxes(annotations / f'{name}.xml', boxes)
        np.save(place.cam_dir / f'{name}.npy', keyed_by_class(place.cams[name], place.sizes[name]))
    more = ['--boxes', annotations]
    fails('prepare_cam', *arguments(place, *more), naming=[place.cam_dir, 'classes of the boxes', '--cam_keys class'])
    works('prepare_cam', *arguments(place, *more, '--cam_keys', 'class'))
    for name in TRAIN_PLUS:
        boxes = [(label, (1, 1, 12, 12)) for label in sorted(place.shown[name])]
        np.testing.assert_array_equal(read(place.out / BOXES / f'{name}.png'),
                                      box_labels(place.cams[name], boxes, place.sizes[name]))


def test_a_key_of_0_in_every_file_is_warned_of_where_nothing_tells(tmp_path, rng, caplog):
    files = {}
    for name in 'abc':
        files[name] = tmp_path / f'{name}.npy'
        np.save(files[name], {0: rng.random((3, 4)), int(rng.integers(1, 9)): rng.random((3, 4))})
    check_keys(tmp_path, files, lambda names: {}, '')
    assert f'{tmp_path}: every file looked at has the key 0' in caplog.text
    caplog.clear()
    check_keys(tmp_path, files, lambda names: {}, '', True)
    np.save(files['b'], {4: rng.random((3, 4))})
    check_keys(tmp_path, files, lambda names: {}, '')
    assert not caplog.text


def test_images_of_any_ending(place, works):
    path = place.out / 'VOC2012/JPEGImages/07_a.jpg'
    Image.open(path).save(path.with_suffix('.png'))
    path.unlink()
    full = place.out / 'lists/train_full.txt'
    full.write_text(full.read_text().replace('07_a.jpg', '07_a.png'))
    works('prepare_cam', *arguments(place))
    assert (place.out / 'lists/train_tag.txt').read_text() == train_list(TAGS).replace('07_a.jpg', '07_a.png')


def test_own_classes_and_boxes_in_any_form(tmp_path, works, fails, rng):
    """Of own photos: boxes in a JSON of COCO, two classes, a list without masks, images of another ending."""
    out, size = tmp_path / 'data', (20, 30)
    for folder in ('VOC2012/JPEGImages', 'lists'):
        (out / folder).mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(out / 'VOC2012/JPEGImages/a.png')
    (out / 'lists/train.txt').write_text('VOC2012/JPEGImages/a.png - VOC2012/hed/a.png 1 box\n')
    boxes = tmp_path / 'boxes.json'
    write_coco(boxes, ['a.png'], [(0, 0, {'bbox': [3, 2, 10, 8]})], ['elk'], size)
    cams = {0: rng.random(size, np.float32)}
    np.save(tmp_path / 'a.npy', cams)
    words = ['--cam_dir', tmp_path, '--out', out, '--boxes', boxes, '--num_classes', 2, '--class_names',
             'background,elk', '--num_workers', 0]
    printed = works('prepare_cam', *words)
    np.testing.assert_array_equal(read(out / BOXES / 'a.png'), box_labels(cams, [(1, (3, 2, 13, 10))], size))
    assert (out / 'lists/train_box.txt').read_text() == (
        f'VOC2012/JPEGImages/a.png {BOXES}/a.png VOC2012/hed/a.png\n')
    assert '1 label maps written' in printed
    boxes.write_text(json.dumps(json.loads(boxes.read_text()) | {'info': {'complete': False}}))
    fails('prepare_cam', *words, naming=[boxes, 'outside', '--save_dir'])


@pytest.mark.parametrize('ending', ['v2', 'late'])
def test_boxes_of_names_without_an_ending_that_hold_a_dot(tmp_path, works, rng, ending):
    """In a JSON of COCO `a.v2` is the image a.v2.png, and not a.png."""
    out, size, images = tmp_path / 'data', (20, 30), {'a': (3, 2, 10, 8), f'a.{ending}': (15, 9, 12, 7)}
    for folder in ('VOC2012/JPEGImages', 'lists'):
        (out / folder).mkdir(parents=True)
    cams = {0: rng.random(size, np.float32)}
    for name in images:
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(out / f'VOC2012/JPEGImages/{name}.png')
        np.save(tmp_path / f'{name}.npy', cams)
    (out / 'lists/train.txt').write_text(''.join(
        f'VOC2012/JPEGImages/{name}.png - VOC2012/hed/{name}.png 1 box\n' for name in images))
    write_coco(tmp_path / 'boxes.json', list(images), [
        (number, 0, {'bbox': list(box)}) for number, box in enumerate(images.values())], ['elk'], size)
    works('prepare_cam', '--cam_dir', tmp_path, '--out', out, '--boxes', tmp_path / 'boxes.json', '--num_classes', 2,
          '--class_names', 'background,elk', '--num_workers', 0)
    for name, (left, top, width, height) in images.items():
        np.testing.assert_array_equal(read(out / BOXES / f'{name}.png'), box_labels(
            cams, [(1, (left, top, left + width, top + height))], size))


def test_the_list_of_labels_does_not_replace_the_one_it_is_made_from(place, fails):
    path = place.out / 'lists/train_tag.txt'
    path.write_bytes((place.out / 'lists/train_full.txt').read_bytes())
    before = path.read_bytes()
    fails('prepare_cam', *arguments(place, '--data_list', path), naming=[path, 'written over'])
    assert path.read_bytes() == before
