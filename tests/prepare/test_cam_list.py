"""Label maps from CAMs of any list: whose labels they take, what they keep, and what thresholds would do."""
import json
import types

import numpy as np
import pytest
from originals import write_coco
from PIL import Image

from spml.data.cam_labels import TopScores, background_power, box_labels, box_scores, tag_labels, tag_scores
from spml.evaluation.miou import confusion, iou_from_confusion
from spml.prepare.cam import Rule, label_list
from spml.prepare.cam_fit import SWEEP, sweep

NAMES, CLASSES, SIZE = ('a', 'b', 'c', 'd'), 5, (18, 23)


def save(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def read(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def place(tmp_path, rng):
    """Images with CAMs of two classes each, partial labels and truths, and a function that gives arguments."""
    cams, truths, labels = {}, {}, {}
    (tmp_path / 'cams').mkdir()
    for name in NAMES:
        save(tmp_path / 'images' / f'{name}.jpg', rng.integers(0, 256, (*SIZE, 3), np.uint8))
        cams[name] = {int(key): rng.random(SIZE).astype(np.float32) ** 2 for key in rng.choice(4, 2, replace=False)}
        np.save(tmp_path / 'cams' / f'{name}.npy', cams[name])
        truths[name] = rng.choice([0, 1, 2, 3, 4, 255], SIZE).astype(np.uint8)
        labels[name] = np.where(rng.random(SIZE) < 0.2, truths[name], np.uint8(254))
        save(tmp_path / 'truth' / f'{name}.png', truths[name])
        save(tmp_path / 'label' / f'{name}.png', labels[name])

    def write_list(name, lines):
        path = tmp_path / f'{name}.txt'
        path.write_text(''.join(f'images/{image}.jpg {rest}\n' for image, rest in lines.items()))
        return path

    def arguments(*more, data_list):
        return ['--cam_dir', tmp_path / 'cams', '--data_dir', tmp_path, '--data_list', data_list, '--num_classes',
                CLASSES, '--save_dir', tmp_path / 'out', '--list_out', tmp_path / 'new.txt', '--num_workers', 0, *more]

    return types.SimpleNamespace(
        folder=tmp_path, cams=cams, truths=truths, labels=labels, write_list=write_list, arguments=arguments,
        label=lambda name: read(tmp_path / 'out' / 'semantic_gray' / f'{name}.png'),
        new=lambda: [line.split() for line in (tmp_path / 'new.txt').read_text().splitlines()],
        tags=lambda: write_list('tags', {name: f'- - {",".join(str(key + 1) for key in cams[name])} tag'
                                         for name in NAMES}))


@pytest.mark.parametrize(('options', 'rule'), [
    ([], (6, 0.2, False)), (['--alpha', 2, '--threshold', 0.4, '--normalise'], (2, 0.4, True))])
def test_labels_of_tags(place, works, options, rule):
    printed = works('prepare_cam', *place.arguments(*options, data_list=place.tags()))
    assert '4 label maps written' in printed
    assert '0 images with boxes, 4 with tags alone, 0 keep their own label' in printed
    for name in NAMES:
        np.testing.assert_array_equal(place.label(name), tag_labels(place.cams[name], SIZE, *rule))
    assert [line[1:] for line in place.new()] == [
        [str(place.folder / 'out' / 'semantic_gray' / f'{name}.png'), '-',
         ','.join(str(key + 1) for key in place.cams[name]), 'tag'] for name in NAMES]


def test_each_image_takes_what_its_kind_says(place, works):
    # The list says of d, which has boxes too, that its tags are to be used.
    write_coco(place.folder / 'boxes.json', ['b.jpg', 'd.jpg'], [(image, 0, {'bbox': [3, 2, 9, 10]})
                                                                 for image in (0, 1)], ['dog'], SIZE)
    key = next(iter(place.cams['b']))
    names = ['background', 'w', 'x', 'y', 'z']
    names[key + 1] = 'dog'
    tags = ','.join(str(key + 1) for key in place.cams['d'])
    data_list = place.write_list('mix', {'a': 'label/a.png - - scribble', 'b': 'label/b.png - - box',
                                         'c': 'label/c.png - 1 tag', 'd': f'- - {tags} tag'})
    printed = works('prepare_cam', *place.arguments('--boxes', place.folder / 'boxes.json', '--class_names',
                                                  ','.join(names), '--keep_labels', data_list=data_list))
    assert '1 images with boxes, 2 with tags alone, 1 keep their own label' in printed
    assert place.new()[0][1] == str(place.folder / 'label' / 'a.png')
    assert not (place.folder / 'out' / 'semantic_gray' / 'a.png').exists()
    for name, made in (('b', box_labels(place.cams['b'], [(key + 1, (3, 2, 12, 12))], SIZE)),
                       ('c', tag_labels(place.cams['c'], SIZE)), ('d', tag_labels(place.cams['d'], SIZE))):
        known = (place.labels[name] != 254) & (name != 'd')
        np.testing.assert_array_equal(place.label(name), np.where(known, place.labels[name], made))


def test_wrong_input_is_named(place, fails):
    tags = place.tags()
    (place.folder / 'cams' / 'c.npy').unlink()
    fails('prepare_cam', *place.arguments(data_list=tags), naming=[f'{tags}:3', 'c.npy: no CAMs', '--cam_dir'])
    masks = place.write_list('masks', {'a': 'label/a.png - - mask'})
    fails('prepare_cam', *place.arguments(data_list=masks), naming=[masks, 'masks, scribbles or points'])


def test_options_of_the_other_of_both_ways_are_named(place, fails):
    fails('prepare_cam', '--cam_dir', place.folder, '--save_dir', place.folder, '--num_classes', 5,
          naming=['--data_dir', '--data_list'])
    for option in (['--keep_labels'], ['--list_out', 'x'], ['--data_dir', 'x'], ['--boxes_incomplete']):
        fails('prepare_cam', '--cam_dir', place.folder, '--out', place.folder, *option,
              naming=[option[0], '--save_dir'])


def test_keys_are_compared_with_the_tags_of_the_list(place, works, fails):
    tags = place.tags()
    for name in NAMES:
        np.save(place.folder / 'cams' / f'{name}.npy', {key + 1: cam for key, cam in place.cams[name].items()})
    fails('prepare_cam', *place.arguments(data_list=tags), naming=[place.folder / 'cams', '--cam_keys class'])
    works('prepare_cam', *place.arguments('--cam_keys', 'class', data_list=tags))
    for name in NAMES:
        np.testing.assert_array_equal(place.label(name), tag_labels(place.cams[name], SIZE))


def test_keys_are_the_classes_where_there_is_no_background(place):
    """They cannot be taken for class ids - 1, however they fit."""
    own = place.write_list('own', {name: f'- - {",".join(map(str, place.cams[name]))} tag' for name in NAMES})
    label_list(Rule(CLASSES, background=False), place.folder / 'cams', place.folder, own, place.folder / 'out')
    for name in NAMES:
        np.testing.assert_array_equal(place.label(name), tag_labels(place.cams[name], SIZE, background=False))


@pytest.mark.parametrize('background', [True, False])
def test_the_sweep_is_the_score_of_tag_labels_at_each_threshold(place, background):
    gt_list = place.write_list('truth', {name: f'truth/{name}.png' for name in NAMES})
    rows = sweep(Rule(CLASSES, background=background), place.folder / 'cams', place.folder, gt_list)
    assert [threshold for threshold, _, _ in rows] == SWEEP.tolist()
    for threshold, alpha, mean in rows:
        assert (1 - threshold) ** alpha == pytest.approx(threshold)
        matrix = np.zeros((CLASSES, CLASSES + 1), int)
        for name in NAMES:
            label = tag_labels(place.cams[name], SIZE, alpha, 0 if background else threshold, background=background)
            matrix += confusion(label, place.truths[name], CLASSES)
        assert mean == pytest.approx(iou_from_confusion(matrix).mean(), abs=1e-9)


def test_the_table_of_a_sweep(place, works):
    gt_list = place.write_list('truth', {name: f'truth/{name}.png' for name in NAMES})
    printed = works('prepare_cam', *place.arguments('--gt_list', gt_list, data_list=place.tags()))
    rows = [line.split() for line in printed.splitlines() if line.endswith('best')]
    (threshold, _, mean, _), = rows
    wanted = max(sweep(Rule(CLASSES), place.folder / 'cams', place.folder, gt_list), key=lambda row: row[2])
    assert (float(threshold), float(mean)) == (wanted[0], pytest.approx(100 * wanted[2], abs=0.006))


@pytest.mark.parametrize('boxes', [None, [(1, (2, 3, 15, 12)), (2, (8, 1, 22, 17))]])
def test_shares_of_unlabelled_pixels(boxes, rng):
    cams = [{key: rng.random(SIZE).astype(np.float32) ** 3 for key in (0, 1)} for _ in range(3)]

    def labels(cam, threshold):
        return tag_labels(cam, SIZE, threshold=threshold) if boxes is None else box_labels(cam, boxes, SIZE, threshold)

    top = TopScores()
    for cam in cams:
        top.add((tag_scores(cam, SIZE) if boxes is None else box_scores(cam, boxes, SIZE))[1])

    def share(threshold):
        return np.mean([labels(cam, threshold) == 254 for cam in cams])

    for threshold in (0.2, 0.35, 0.8):
        assert top.share(threshold) == pytest.approx(share(threshold), abs=2e-3)
    for wanted in (0.1, 0.2, 0.3):
        found = top.threshold(wanted)
        assert share(found + 1e-6) >= wanted > share(found - 1.1e-3)
    assert top.describe(0.2).endswith(
        f'--threshold {top.threshold(0.1):.3f} for 10%, {top.threshold(0.2):.3f} for 20%, '
        f'{top.threshold(0.3):.3f} for 30%')


def test_no_pixel_of_the_usual_tag_labels_is_unlabelled():
    smallest = np.linspace(0, 1, 100001)
    assert np.maximum(smallest, (1 - smallest) ** 6).min() == pytest.approx(0.2219, abs=1e-4)
    assert background_power(0.2219) == pytest.approx(6, abs=1e-3)
    flat = {key: np.full((1, 1), 0.2219, np.float32) for key in range(4)}
    assert tag_labels(flat, (1, 1), normalised=True) != 254
    flat[4] = flat[0]
    assert tag_labels(flat, (1, 1), normalised=True) == 254
    assert TopScores().describe(0.2).startswith('unlabelled: 0.0 %')


@pytest.mark.parametrize('by_file', [True, False])
def test_boxes_that_may_be_incomplete(place, works, by_file):
    path = place.folder / 'boxes.json'
    write_coco(path, ['b.jpg'], [(0, 0, {'bbox': [3, 2, 8, 10]})], ['1'],
               **{'info': {'complete': False}} if by_file else {})
    np.save(place.folder / 'cams/b.npy', {0: np.ones(SIZE, np.float32) * np.arange(SIZE[1], dtype=np.float32) / 22})
    data_list = place.write_list('boxed', {'b': '- - 1 box'})
    works('prepare_cam', *place.arguments('--boxes', path, *([] if by_file else ['--boxes_incomplete']),
                                        data_list=data_list))
    expected = np.full(SIZE, 254)
    expected[:, :5] = 0  # where (1 - CAM)^6 is more than the CAM
    expected[2:12, 3:7] = 254
    expected[2:12, 7:11] = 1  # the right half of the box
    np.testing.assert_array_equal(place.label('b'), expected)
    np.save(place.folder / 'cams/b.npy', {})
    works('prepare_cam', *place.arguments('--boxes', path, *([] if by_file else ['--boxes_incomplete']),
                                        data_list=data_list))
    assert (place.label('b') == 254).all()


def test_results_of_a_detector_instead_of_boxes(place, fails):
    path = place.folder / 'results.json'
    path.write_text('[{"image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 1}]')
    fails('prepare_cam', *place.arguments('--boxes', path, data_list=place.tags()), naming=[path, 'JSON of COCO'])


def test_boxes_of_labelme_where_an_image_has_other_shapes_alone(place, works):
    folder = place.folder / 'shapes'
    folder.mkdir()
    corners = {'rectangle': [[3, 2], [9, 10]], 'polygon': [[3, 2], [9, 2], [9, 10]]}
    for name, kind in (('b', 'rectangle'), ('c', 'polygon')):
        np.save(place.folder / f'cams/{name}.npy', {0: np.ones(SIZE, np.float32)})
        (folder / f'{name}.json').write_text(json.dumps({'shapes': [
            {'label': '1', 'shape_type': kind, 'points': corners[kind]}]}))
    data_list = place.write_list('boxed', {'b': '- - 1 box', 'c': '- - 1 box'})
    printed = works('prepare_cam', *place.arguments('--boxes', folder, data_list=data_list))
    assert '1 images with boxes, 1 with tags alone' in printed
    assert (place.label('c') == 1).all()  # by its CAM


def test_the_list_of_cam_labels_does_not_replace_its_own(place, fails):
    data_list = place.tags()
    before = data_list.read_text()
    fails('prepare_cam', *place.arguments('--list_out', data_list, data_list=data_list), naming=[data_list, 'over'])
    assert data_list.read_text() == before
