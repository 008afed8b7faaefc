import json
import os

import numpy as np
import pytest
from originals import read
from PIL import Image
from test_coco_masks import compressed

from spml.prepare.densepose import PART_OF_SURFACE, part_map, point_map

SURFACES = {1: 'torso', 2: 'torso', 3: 'right hand', 4: 'left hand', 5: 'left foot', 6: 'right foot',
            7: 'right thigh', 8: 'left thigh', 9: 'right thigh', 10: 'left thigh', 11: 'right leg', 12: 'left leg',
            13: 'right leg', 14: 'left leg', 15: 'left arm', 16: 'right arm', 17: 'left arm', 18: 'right arm',
            19: 'left forearm', 20: 'right forearm', 21: 'left forearm', 22: 'right forearm', 23: 'head', 24: 'head'}
CLASSES = ('background', 'torso', 'right hand', 'left hand', 'left foot', 'right foot', 'right thigh', 'left thigh',
           'right leg', 'left leg', 'left arm', 'right arm', 'left forearm', 'right forearm', 'head')


def masks(grid):
    """The 14 masks of a (256, 256) grid of parts; [] for parts that do not occur."""
    return [compressed(grid == part) if (grid == part).any() else [] for part in range(1, 15)]


def body(identity, image, box, grid, points=()):
    """A DensePose annotation with points (x, y, surface)."""
    x, y, surface = zip(*points, strict=True) if points else ((), (), ())
    return {'id': identity, 'image_id': image, 'category_id': 1, 'iscrowd': 0, 'bbox': box, 'dp_masks': masks(grid),
            'dp_x': list(map(float, x)), 'dp_y': list(map(float, y)), 'dp_I': list(map(float, surface)),
            'dp_U': [0.5] * len(x), 'dp_V': [0.5] * len(x), 'segmentation': [[0, 0, 1, 0, 1, 1]]}


def blocks(rows):
    """A 256 x 256 grid from a small one."""
    rows = np.array(rows, np.uint8)
    return np.kron(rows, np.ones((256 // rows.shape[0], 256 // rows.shape[1]), np.uint8))


def test_the_surfaces_are_those_of_the_15_classes():
    assert {surface: CLASSES[PART_OF_SURFACE[surface]] for surface in SURFACES} == SURFACES


def test_a_grid_in_its_box_pixel_by_pixel(rng):
    grid = rng.integers(0, 15, (256, 256), np.uint8)
    for box in ([3.7, 5.2, 20.9, 11.4], [0, 0, 37, 29], [30, 20, 30, 30], [-4.5, -3.2, 10, 10]):
        labels = part_map((29, 37), [], [('here', body(1, 1, box, grid))])
        left, top, width, height = (int(value) for value in box)
        for y, x in np.ndindex(29, 37):
            inside = left <= x < left + width and top <= y < top + height
            want = grid[(y - top) * 256 // height, (x - left) * 256 // width] if inside else 0
            assert labels[y, x] == want


def test_void_people_and_later_bodies():
    first = body(1, 1, [2, 1, 4, 4], blocks([[14, 14], [1, 0]]))
    second = body(2, 1, [4, 3, 4, 4], blocks([[2, 0], [0, 3]]))
    labels = part_map((8, 10), [('here', [[0, 0, 5, 0, 5, 6, 0, 6]])], [('here', first), ('here', second)])
    assert labels.tolist() == [
        [255, 255, 255, 255, 255, 0, 0, 0, 0, 0],
        [255, 255, 14, 14, 14, 14, 0, 0, 0, 0],
        [255, 255, 14, 14, 14, 14, 0, 0, 0, 0],
        [255, 255, 1, 1, 2, 2, 0, 0, 0, 0],
        [255, 255, 1, 1, 2, 2, 0, 0, 0, 0],
        [255, 255, 255, 255, 255, 0, 3, 3, 0, 0],
        [0, 0, 0, 0, 0, 0, 3, 3, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]


def test_points_by_hand():
    grid = blocks([[14, 14, 14, 14], [1, 1, 0, 2], [1, 1, 0, 2], [5, 0, 0, 0]])
    points = [(128, 32, 23), (0, 127.9, 2), (255, 100, 3), (100, 250, 8)]  # head, torso, right hand; a thigh on no part
    person = body(1, 1, [2, 1, 8, 8], grid, points)
    labels = part_map((10, 12), [('here', [[0, 0, 1, 0, 1, 10, 0, 10]])], [('here', person)])
    weak = point_map(labels, [('here', person)], 1, 0, 1, [0])
    want = np.full((10, 12), 254)
    want[:, 0] = 255
    want[[1, 2, 2, 2], [6, 5, 6, 7]] = 14  # x = 2 + 128 * 8 / 256, y = 1 + 32 * 8 / 256; below lies no head
    want[[3, 4, 4, 5], [2, 2, 3, 2]] = 1
    want[[3, 4, 4, 5], [9, 8, 9, 9]] = 2
    np.testing.assert_array_equal(weak, want)


def test_points_are_some_of_the_annotated_ones_the_same_for_a_seed(rng):
    size = (120, 160)
    bodies, spots = [], {}
    for identity, (left, top) in enumerate(((5, 8), (80, 20)), start=1):
        grid = blocks(rng.permutation(np.resize([0, *range(15)], 16)).reshape(4, 4))
        points = []
        for _ in range(60):
            x, y = rng.integers(0, 256, 2).tolist()
            part = grid[y, x]
            if part:
                surface = rng.choice([key for key in SURFACES if SURFACES[key] == CLASSES[part]])
                points.append((x, y, int(surface)))
                spots.setdefault((identity, int(part)), set()).add((left + x * 64 // 256, top + y * 64 // 256))
        bodies.append(('here', body(identity, 1, [left, top, 64, 64], grid, points)))
    labels = part_map(size, [], bodies)
    maps = {}
    for seed in (0, 1):
        for per_part in (1, 2, 99):
            weak = point_map(labels, bodies, per_part, 3, 0.4, [seed])
            maps[seed, per_part] = weak
            dots = {tuple(point) for point in np.argwhere(weak < 15)[:, ::-1].tolist()}
            for places in spots.values():
                assert len(dots & places) == min(per_part, len(places))
            assert (weak == 0).sum() == 3
            agree = weak != 254
            np.testing.assert_array_equal(weak[agree], labels[agree])
    np.testing.assert_array_equal(maps[0, 1], point_map(labels, bodies[::-1], 1, 3, 0.4, [0]))
    assert (maps[0, 1] != maps[1, 1]).any()


@pytest.fixture
def coco(tmp_path, rng):
    """COCO with three training images (the third not of DensePose) and one of minival, and DensePose's files."""
    root = tmp_path / 'coco'
    sizes = {1: (40, 50), 2: (30, 30), 3: (20, 20), 9: (25, 35)}
    files = {number: f'COCO_{"val" if number == 9 else "train"}2014_{number:012d}.jpg' for number in sizes}
    for number, size in sizes.items():
        folder = root / files[number].split('_')[1]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / files[number])

    def records(*numbers):
        return [{'id': number, 'file_name': files[number], 'height': sizes[number][0], 'width': sizes[number][1]}
                for number in numbers]

    grid = blocks([[14, 14], [1, 2]])
    annotated = {1: body(11, 1, [10, 10, 16, 16], grid, [(10, 10, 23), (10, 200, 1), (200, 200, 3)]),
                 2: body(21, 2, [0, 0, 30, 30], grid, [(128, 40, 24)]), 9: body(91, 9, [5, 5, 16, 16], grid)}
    crowd = {'size': [40, 50], 'counts': [40 * 40 + 30, *[10, 30] * 9, 10]}
    people = [{'id': identity, 'image_id': image, 'category_id': category, 'iscrowd': int(segmentation is crowd),
               'segmentation': segmentation} for identity, image, category, segmentation in (
        (11, 1, 1, [[10, 10, 26, 10, 26, 26, 10, 26]]), (12, 1, 1, [[1, 2, 5, 2, 5, 6, 1, 6]]), (13, 1, 1, crowd),
        (14, 1, 18, [[30, 2, 35, 2, 35, 6, 30, 6]]), (31, 3, 1, [[1, 2, 5, 2, 5, 6, 1, 6]]))]
    (root / 'annotations').mkdir()
    for name, content in (
            ('instances_train2014', {'images': records(1, 2, 3), 'annotations': people}),
            ('instances_val2014', {'images': records(9), 'annotations': []}),
            ('densepose_coco_2014_train', {'images': records(2, 1),
                                           'annotations': [annotated[1], people[1], annotated[2]]}),
            ('densepose_coco_2014_minival', {'images': records(9), 'annotations': [annotated[9]]}),
            ('densepose_coco_2014_valminusminival', {'images': records(9), 'annotations': [annotated[9]]})):
        (root / 'annotations' / f'{name}.json').write_text(json.dumps(content))
    return root, {number: name[:-4] for number, name in files.items()}


@pytest.fixture
def arguments(coco, tmp_path):
    return ['--coco', coco[0], '--out', tmp_path / 'out', '--num_workers', 0]


def test_from_json_to_files_and_lists(coco, works, arguments, tmp_path, caplog):
    root, names = coco
    out = tmp_path / 'out'
    printed = works('prepare_densepose', *arguments, '--prototype_images', 1)
    want = np.zeros((40, 50), np.uint8)
    want[2:6, 1:5] = 255  # a person without parts
    want[30:, 40:] = 255  # a crowd
    want[10:18, 10:26] = 14
    want[18:26, 10:18] = 1
    want[18:26, 18:26] = 2
    truth, points = out / 'segcls/densepose/gray', out / 'segcls/densepose_points/gray'
    np.testing.assert_array_equal(read(truth / f'{names[1]}.png'), want)
    weak = read(points / f'{names[1]}.png')
    assert set(np.unique(weak)) == {0, 1, 2, 14, 254, 255}
    np.testing.assert_array_equal(weak == 255, want == 255)
    for part, x, y in ((14, 10, 10), (1, 10, 22), (2, 22, 22)):
        rows, columns = np.nonzero(weak == part)
        assert weak[y, x] == part
        assert (np.hypot(rows - y, columns - x) <= 3).all()
    assert {path.stem for folder in (truth, points) for path in folder.glob('*.png')} == {
        names[number] for number in (1, 2, 9)}
    assert read(truth / f'{names[9]}.png').shape == (25, 35)
    for number, part in ((1, 'train2014'), (2, 'train2014'), (9, 'val2014')):
        assert (out / f'images/{part}/{names[number]}.jpg').read_bytes() == (
            root / part / f'{names[number]}.jpg').read_bytes()

    def line(number, folder, instance, part='train2014'):
        return f'images/{part}/{names[number]}.jpg {folder}/{names[number]}.png {instance}/{names[number]}.png\n'

    gray, pmi = 'segcls/densepose/gray', 'seginst/pmi_0.1_256'
    assert (out / 'lists/train_point.txt').read_text() == ''.join(
        line(number, 'segcls/densepose_points/gray', pmi) for number in (1, 2))
    assert (out / 'lists/train_full.txt').read_text() in (line(1, gray, pmi), line(2, gray, pmi))
    assert (out / 'lists/val.txt').read_text() == line(9, gray, gray, 'val2014')
    assert f'3 part maps written: {truth}\n' in printed
    assert 'WARNING: minival has 1 images, not 1508' in caplog.text


def test_a_second_run_goes_on_and_other_points_are_refused(coco, works, fails, arguments, tmp_path):
    root = coco[0]
    works('prepare_densepose', *arguments)
    points = tmp_path / 'out/segcls/densepose_points/gray'
    train = root / 'annotations/densepose_coco_2014_train.json'
    edit(train, lambda content: content['annotations'][0].update(dp_x=[9.0] * 3))
    os.utime(train, (0, 0))
    assert f'1 point labels written: {points} (2 were there already)' in works('prepare_densepose', *arguments)
    fails('prepare_densepose', *arguments, '--seed', 3, naming=[points, 'seed: 0 -> 3', '--overwrite'])


def test_both_splits_together(coco, works, arguments, tmp_path):
    root, names = coco
    works('prepare_densepose', *arguments, '--densepose', root / 'annotations', '--train_splits', 'train',
          'valminusminival')
    lines = (tmp_path / 'out/lists/train_point.txt').read_text().splitlines()
    assert [line.split()[0].split('/')[-1][:-4] for line in lines] == [names[1], names[2], names[9]]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(('key', 'value', 'naming'), [
    ('dp_masks', [[]] * 13, ['dp_masks']), ('dp_masks', [{'size': [256, 256], 'counts': 'abc'}] * 14, ['dp_masks 1']),
    ('dp_masks', [{'size': [9, 9], 'counts': [81]}] * 14, ['dp_masks 1', '9, 9']), ('bbox', [1, 2, 3], ['bbox']),
    ('bbox', [0, 0, -1, 5], ['bbox']), ('bbox', [90, 2, 3, 3], ['outside']), ('dp_x', [1.0], ['dp_x']),
    ('dp_I', [25.0, 1.0, 1.0], ['dp_I']), ('dp_y', [1.0, 1.0, 300.0], ['256']), ('dp_y', None, ['dp_y'])])
def test_a_damaged_annotation_is_named(coco, fails, arguments, key, value, naming):
    path = coco[0] / 'annotations/densepose_coco_2014_train.json'
    edit(path, lambda content: content['annotations'][0].update({key: value}))
    fails('prepare_densepose', *arguments, naming=[path, 'annotation 11', *naming])


@pytest.mark.parametrize(('change', 'naming'), [
    (lambda content: content['annotations'][0].pop('image_id'), 'densepose_coco_2014_train.json'),
    (lambda content: content.pop('annotations'), 'densepose_coco_2014_train.json'),
    (lambda content: content['images'][0].update(file_name='../a.jpg'), '../a.jpg'),
    (lambda content: content['images'][0].update(height=31), 'COCO_train2014_000000000002.jpg')])
def test_damaged_records_are_named(coco, fails, arguments, change, naming):
    edit(coco[0] / 'annotations/densepose_coco_2014_train.json', change)
    fails('prepare_densepose', *arguments, naming=[coco[0], naming])


def test_missing_and_broken_files_are_named(coco, fails, arguments, tmp_path):
    root, names = coco
    image = root / 'train2014' / f'{names[1]}.jpg'
    kept = image.read_bytes()
    image.unlink()
    fails('prepare_densepose', *arguments, naming=[image])
    image.write_bytes(kept)
    fails('prepare_densepose', *arguments, '--densepose', tmp_path,
          naming=[tmp_path / 'densepose_coco_2014_train.json', '--densepose'])
    path = root / 'annotations/instances_train2014.json'
    path.write_text(path.read_text()[:-5])
    fails('prepare_densepose', *arguments, naming=[path, 'not valid JSON'])
    path.unlink()
    fails('prepare_densepose', *arguments, naming=[path])
