import itertools
import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from spml.data.cam_labels import tag_labels
from spml.evaluation import miou
from spml.scenes import dataset as synthetic
from spml.scenes.regions import over_segmentation

pytestmark = pytest.mark.xdist_group('scenes')
TRAIN, VAL, TEST, CLASSES = 24, 12, 2, 6
SCRIBBLES = ('dilate_3', 'dilate_3_0.8', 'dilate_3_0.5', 'dilate_3_0.3', 'dilate_6_0.0')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp('synthetic')
    assert synthetic.generate(out, num_train=TRAIN, num_val=VAL, num_test=TEST, size=(96, 128), num_classes=CLASSES)
    return out


def read(root, name):
    with Image.open(root / name) as image:
        return np.array(image)


def rows(root, name):
    return [line.split() for line in (root / 'lists' / f'{name}.txt').read_text().splitlines()]


def pairs(root, folder, truth='segcls'):
    """Yield every training label of a folder with the truth."""
    files = sorted((root / 'VOC2012' / folder).glob('*.png'))
    assert len(files) == TRAIN
    for file in files:
        yield read(root, file), read(root, f'VOC2012/{truth}/{file.name}')


def confusion(samples):
    """Count (truth, prediction) pairs below CLASSES; column CLASSES takes the rest of the predictions."""
    return sum(miou.confusion(prediction, truth, CLASSES) for prediction, truth in samples)


def test_train_and_val_share_no_image(root):
    files = list((root / 'VOC2012/JPEGImages').glob('*.jpg'))
    assert len({file.read_bytes() for file in files}) == len(files) == TRAIN + VAL


@pytest.mark.parametrize(('name', 'labels'), [
    ('train_scribble', 'scribble/dilate_3'), ('train_scribble_0.8', 'scribble/dilate_3_0.8'),
    ('train_scribble_0.5', 'scribble/dilate_3_0.5'), ('train_scribble_0.3', 'scribble/dilate_3_0.3'),
    ('train_point', 'scribble/dilate_6_0.0'), ('train_tag', 'cam/seam_a6_th0.2'),
    ('train_box', 'cam/seambox_a6_th0.5'), ('train_full', 'segcls'), ('val', 'segcls')])
def test_lists_name_files_that_fit_together(root, name, labels):
    count, regions = (VAL, 'segcls') if name == 'val' else (TRAIN, 'hed')
    lines = rows(root, name)
    assert len(lines) == count
    for image, semantic, instance in lines:
        stem = pathlib.Path(image).stem
        assert image == f'VOC2012/JPEGImages/{stem}.jpg'
        assert (semantic, instance) == (f'VOC2012/{labels}/{stem}.png', f'VOC2012/{regions}/{stem}.png')
        pixels = read(root, image)
        assert pixels.shape[2] == 3
        for file in (semantic, instance):
            with Image.open(root / file) as label:
                assert label.mode == 'L'
                assert label.size == pixels.shape[1::-1]


def test_test_list_names_images_alone(root):
    lines = rows(root, 'test')
    assert [len(line) for line in lines] == [1] * TEST
    assert all(read(root, f'{line[0]}').ndim == 3 and line[0].startswith('VOC2012-test/JPEGImages/') for line in lines)


def test_sizes_vary_and_some_images_stand_upright(root):
    shapes = {read(root, line[0]).shape[:2] for line in rows(root, 'train_full')}
    assert len(shapes) > TRAIN // 2
    assert {height > width for height, width in shapes} == {False, True}
    assert all(90 <= min(shape) <= 102 and 120 <= max(shape) <= 136 for shape in shapes)


def test_truth_has_classes_instances_and_thin_void_borders(root):
    seen = set()
    for file in sorted((root / 'VOC2012/segcls').glob('*.png')):
        semantic, instance = read(root, file), read(root, f'VOC2012/seginst/{file.name}')
        void = semantic == 255
        np.testing.assert_array_equal(void, instance == 255)
        assert 0.01 < void.mean() < 0.15
        assert ndimage.binary_erosion(void, np.ones((3, 3))).sum() < 0.15 * void.sum()
        np.testing.assert_array_equal(semantic == 0, instance == 0)
        ids = np.unique(instance[~void])
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        assert 2 <= len(ids) <= 4
        for identity in ids:
            assert len(np.unique(semantic[instance == identity])) == 1
        seen |= set(np.unique(semantic))
    assert seen == {*range(CLASSES), 255}


def test_background_is_most_of_the_pixels_but_not_nearly_all(root):
    truths = [truth for _, truth in pairs(root, 'hed')]
    share = np.mean([np.sum(truth == 0) / np.sum(truth < 255) for truth in truths])
    assert 0.5 < share < 0.72


@pytest.mark.parametrize('folder', SCRIBBLES)
def test_scribbles_are_true_and_reach_every_object(root, folder):
    for labels, truth in pairs(root, f'scribble/{folder}'):
        labelled = labels != 254
        assert 255 not in labels
        np.testing.assert_array_equal(labels[labelled], truth[labelled])
        assert set(labels[labelled]) == set(truth[truth != 255])
    for labels, instance in pairs(root, f'scribble/{folder}', truth='seginst'):
        assert set(instance[labels != 254]) == set(instance[instance != 255])


def test_shorter_scribbles_are_parts_of_longer_ones(root):
    shares = [np.mean([np.mean(labels != 254) for labels, _ in pairs(root, f'scribble/{folder}')])
              for folder in SCRIBBLES]
    assert all(longer > shorter for longer, shorter in itertools.pairwise(shares))
    assert shares[0] < 0.25
    assert shares[-1] < 0.02
    for file in (root / 'VOC2012/scribble/dilate_3').glob('*.png'):
        full, half = (read(root, f'VOC2012/scribble/{folder}/{file.name}') for folder in ('dilate_3', 'dilate_3_0.5'))
        assert np.mean(full[half != 254] == half[half != 254]) > 0.9


def test_over_segmentation_has_connected_regions_with_consecutive_ids_that_follow_objects(root):
    agree = total = 0
    for regions, truth in pairs(root, 'hed'):
        ids = np.unique(regions)
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        assert 12 <= len(ids) <= 60
        for identity in ids:
            assert ndimage.label(regions == identity)[1] == 1
            inside = truth[(regions == identity) & (truth != 255)]
            agree += np.bincount(inside, minlength=1).max()
            total += len(inside)
    assert agree / total > 0.95


def test_over_segmentation_is_made_from_the_stored_image_alone(root):
    for image, _, regions in rows(root, 'train_full')[:3]:
        np.testing.assert_array_equal(over_segmentation(read(root, image)), read(root, regions))


def test_nearest_mean_colour_is_a_poor_classifier(root):
    sums, counts = np.zeros((CLASSES, 3)), np.zeros(CLASSES)
    for image, semantic, _ in rows(root, 'train_full'):
        pixels, truth = read(root, image).astype(np.float64), read(root, semantic)
        for label in range(CLASSES):
            sums[label] += pixels[truth == label].sum(0)
            counts[label] += np.sum(truth == label)
    means = sums / counts[:, None]
    samples = []
    for image, semantic, _ in rows(root, 'val'):
        distance = np.linalg.norm(read(root, image)[:, :, None].astype(np.float64) - means, axis=-1)
        samples.append((distance.argmin(-1), read(root, semantic)))
    assert miou.iou_from_confusion(confusion(samples)).mean() < 0.35
    assert miou.iou_from_confusion(confusion([(np.zeros_like(truth), truth) for _, truth in samples])).mean() < 0.15


@pytest.mark.parametrize(('folder', 'recall', 'precision'), [
    ('seambox_a6_th0.5', (0.15, 0.6), (0.9, 1)), ('seam_a6_th0.2', (0.4, 0.9), (0.4, 0.9))])
def test_box_and_tag_labels_are_partial_and_noisy(root, folder, recall, precision):
    counts = confusion(pairs(root, f'cam/{folder}'))
    hits = np.diag(counts)[1:].sum()
    assert recall[0] < hits / counts[1:].sum() < recall[1]
    assert precision[0] < hits / counts[:, 1:CLASSES].sum() < precision[1]
    for labels, truth in pairs(root, f'cam/{folder}'):
        assert 255 not in labels
        assert set(labels[labels < 254]) <= set(truth[truth != 255])
        if 'box' in folder:  # every object has a box, and leaves some of it
            assert 254 in labels
            assert set(labels[labels < 254]) == set(truth[truth != 255])


def test_raw_activations_are_of_the_tags_and_explain_the_tag_labels(root):
    for image, semantic, _ in rows(root, 'train_tag'):
        stem = pathlib.Path(image).stem
        # The test trusts the file: it has just been written here.
        activations = np.load(root / f'VOC2012/cam_npy/{stem}.npy', allow_pickle=True).item()
        truth, labels = read(root, f'VOC2012/segcls/{stem}.png'), read(root, semantic)
        assert sorted(key + 1 for key in activations) == sorted(set(truth.ravel()) - {0, 255})
        for scores in activations.values():
            assert (scores.dtype, scores.shape) == (np.float32, truth.shape)
            assert 0 <= scores.min() <= scores.max() == 1
        np.testing.assert_array_equal(labels, tag_labels(activations, truth.shape))


def test_a_mix_lists_scribbles_boxes_and_tags_in_turn(tmp_path):
    assert synthetic.generate(tmp_path, num_train=6, num_val=1, num_test=1, size=(64, 64), num_classes=5, mix=True)
    boxes = json.loads((tmp_path / 'boxes.json').read_text())
    assert [category['name'] for category in boxes['categories']] == synthetic.class_names(5)
    lines = rows(tmp_path, 'train')
    assert [line[4] for line in lines] == ['scribble', 'box', 'tag'] * 2
    for image, semantic, _, tags, kind in lines:
        name = pathlib.Path(image).stem
        truth = read(tmp_path, f'VOC2012/segcls/{name}.png')
        assert set(map(int, tags.split(','))) == set(truth[truth < 5].tolist()) - {0}
        if kind == 'tag':
            assert semantic == '-'
        elif kind == 'scribble':
            assert semantic == f'VOC2012/scribble/dilate_3/{name}.png'
        else:
            entry, = [entry for entry in boxes['images'] if entry['file_name'] == f'{name}.jpg']
            assert (entry['height'], entry['width']) == truth.shape
            inside = np.zeros(truth.shape, bool)
            for annotation in boxes['annotations']:
                if annotation['image_id'] == entry['id']:
                    left, top, width, height = annotation['bbox']
                    inside[top:top + height, left:left + width] = True
                    assert (truth[top:top + height, left:left + width] == annotation['category_id']).any()
            label = read(tmp_path, semantic)
            np.testing.assert_array_equal(label, np.where(inside, 254, 0))
            assert not ((truth > 0) & (truth < 5) & ~inside).any()
    assert len({annotation['id'] for annotation in boxes['annotations']}) == len(boxes['annotations'])
