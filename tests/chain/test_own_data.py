"""README.md's "Your own data", word for word, from photos to a scored run (minutes)."""
import json
import pathlib
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from spml.scenes.labels import draw_strokes, object_boxes, strokes
from spml.scenes.scene import render_scene

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLOURS = {'background': (90, 60, 30), 'striped disc': (255, 0, 0), 'square': (0, 160, 0), 'dots': (0, 0, 255)}
TINY = ('num_threads=0 network.embedding_dim=8 network.bn_momentum=0.1 network.kmeans_iterations=2 '
        'network.kmeans_num_clusters=[2,2] train.max_iteration=2 train.warmup_iteration=1 train.crop_size=[32,32] '
        'train.tensorboard_step=1')
SETTINGS = {'BATCH': '2', 'CLUSTERS': '2,2', 'SET_EMBEDDING': TINY, 'SET_CAM': TINY,
            'SET_CLASSIFIER': f'{TINY} train.batch_size=2', 'NUM_WORKERS': '1'}
NUM_TRAIN, NUM_VAL = 6, 2
SCRIBBLED, BOXED = range(2), range(2, 4)  # of the photos to train on; all of them are tagged


def commands(name):
    """The block of shell commands of the section that trains on configs/`name`."""
    section = re.search(r'\n## Your own data\n(.*?)\n## ', (ROOT / 'README.md').read_text(encoding='utf-8'), re.DOTALL)
    block, = [block for block in re.findall(r'```bash\n(.*?)```', section[1], re.DOTALL) if f'DATASET={name} ' in block]
    return block


def draw_photos(folder):
    """Photos with blanks in their names; scribbles (transparent elsewhere), boxes and tags of the first; masks of the
    others."""
    rng = np.random.default_rng()
    colours, names = np.array(list(COLOURS.values()), np.uint8), list(COLOURS)
    boxes = {'images': [], 'annotations': [], 'categories': [
        {'id': index, 'name': name} for index, name in enumerate(names)]}
    tags = []
    for name in ('photos', 'scribbles', 'masks'):
        (folder / name).mkdir(parents=True)
    for index in range(NUM_TRAIN + NUM_VAL):
        scene = render_scene(rng, 48, 64, len(COLOURS), first_class=1 + index % (len(COLOURS) - 1))
        photo = f'holiday {index}.jpg'
        Image.fromarray(scene.image).save(folder / 'photos' / photo, quality=95)
        if index < NUM_TRAIN:
            shown = sorted(set(scene.semantic[scene.semantic < len(COLOURS)].tolist()) - {0})
            tags.append(','.join([photo, *(names[value] for value in shown)]))
        if index in SCRIBBLED:
            labels = draw_strokes(strokes(rng, scene.instance), scene.instance, scene.classes, 1, 3)
            drawn = labels < len(COLOURS)
            rgba = np.dstack([colours[np.where(drawn, labels, 0)], np.where(drawn, 255, 0).astype(np.uint8)])
            Image.fromarray(rgba).save(folder / f'scribbles/holiday {index}.png')
        elif index in BOXED:
            boxes['images'].append({'id': index, 'file_name': photo, 'height': scene.visible.shape[0],
                                    'width': scene.visible.shape[1]})
            for label, (left, top, right, bottom) in object_boxes(scene.visible, scene.classes):
                boxes['annotations'].append({
                    'id': len(boxes['annotations']) + 1, 'image_id': index, 'category_id': label,
                    'bbox': [int(left), int(top), int(right - left), int(bottom - top)]})
        elif index >= NUM_TRAIN:
            values = np.where(scene.semantic == 255, len(COLOURS), scene.semantic)
            Image.fromarray(np.concatenate([colours, [(255, 255, 255)]]).astype(np.uint8)[values]).save(
                folder / f'masks/holiday {index}.png')
    lines = [f'{name} {" ".join(map(str, colour))}' for name, colour in COLOURS.items()]
    (folder / 'classes.txt').write_text('\n'.join([*lines, 'void 255 255 255']) + '\n')
    (folder / 'tags.csv').write_text('\n'.join(tags) + '\n')
    (folder / 'boxes.json').write_text(json.dumps(boxes))


@pytest.fixture(scope='module')
def project(tmp_path_factory, copy_project):
    """A copy of this project with somebody's photos, and the environment in which commands run there."""
    folder = tmp_path_factory.mktemp('project')
    draw_photos(folder / 'mine')
    return folder, copy_project(folder) | SETTINGS


@pytest.fixture(scope='module', params=[
    pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ('mine', 'tagged')])
def run(request, project):
    """The name of the data, their folder, that of the results, and what the commands printed."""
    folder, environment = project
    result = subprocess.run(['bash', '-euc', commands(request.param)], cwd=folder, env=environment, capture_output=True,
                            text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    data = folder / 'mine' / ('data' if request.param == 'mine' else 'tagged')
    return request.param, data, folder / f'snapshots/{request.param}/spml', result.stdout


@pytest.mark.slow
def test_the_second_command_is_what_the_first_says(run):
    name, _, _, printed = run
    said = re.search(r'^To train from weights that pip brings, as \S+ is not there:\n +(.*)$', printed, re.MULTILINE)
    assert said[1] == commands(name).strip().split('\n')[-1]


@pytest.mark.slow
def test_every_photo_is_trained_on_with_what_it_has(run):
    name, data, _, _ = run
    lines = [line.split() for line in (data / 'lists/train.txt').read_text().splitlines()]
    assert [fields[4] for fields in lines] == (
        ['scribble'] * 2 + ['box'] * 2 + ['tag'] * 2 if name == 'mine' else ['tag'] * NUM_TRAIN)
    for image, semantic, regions, tags, kind in lines:
        stem = pathlib.Path(image).stem.replace('_', ' ')
        assert Image.open(data / regions).size == Image.open(data / image).size
        if kind == 'tag':
            assert semantic == '-'
            row, = [row for row in (data.parent / 'tags.csv').read_text().splitlines() if row.startswith(f'{stem}.jpg')]
            assert [list(COLOURS)[int(tag)] for tag in tags.split(',')] == sorted(
                row.split(',')[1:], key=list(COLOURS).index)
        elif kind == 'scribble':
            rgba, label = np.array(Image.open(data.parent / f'scribbles/{stem}.png')), np.array(
                Image.open(data / semantic))
            assert ((rgba[..., 3] == 0) == (label == 254)).all()
            np.testing.assert_array_equal(np.array(list(COLOURS.values()))[label[label < 254]],
                                          rgba[label < 254][:, :3])


@pytest.mark.slow
def test_pseudo_labels_hold_tagged_classes_and_what_was_drawn(run):
    _, data, results, _ = run
    for line in (data / 'lists/train.txt').read_text().splitlines():
        image, semantic, _, tags, kind = line.split()
        pseudo = np.array(Image.open(results / f'pseudo_labels/semantic_gray/{pathlib.Path(image).stem}.png'))
        allowed = {0, 254, *(int(tag) for tag in tags.split(',') if tag != '-')}
        if kind != 'tag':
            label = np.array(Image.open(data / semantic))
            np.testing.assert_array_equal(pseudo[label < 254], label[label < 254])
            allowed |= set(np.unique(label).tolist())
        assert set(np.unique(pseudo).tolist()) <= allowed


@pytest.mark.slow
def test_scores_are_those_of_the_predictions(run):
    _, data, results, printed = run
    assert not (results / 'prototypes').exists()  # without truth of the training photos
    for name in ('softmax_joint', 'single', 'final'):
        inside, united = np.zeros(len(COLOURS)), np.zeros(len(COLOURS))
        for path in (data.parent / 'masks').glob('*.png'):
            predicted = np.array(Image.open(results / f'inference_{name}/semantic_gray' / path.name.replace(' ', '_')))
            rgb = np.array(Image.open(path))
            void = (rgb == 255).all(-1)
            for index, colour in enumerate(COLOURS.values()):
                true, found = (rgb == colour).all(-1), (predicted == index) & ~void
                inside[index] += (true & found).sum()
                united[index] += (true | found).sum()
        score = json.loads((results / f'scores/score_{name}.json').read_text())
        assert score['iou'] == pytest.approx(dict(zip(COLOURS, inside / np.maximum(united, 1), strict=True)))
        assert score['num_images'] == NUM_VAL
    assert 'striped disc' in printed.split('IoU: classifier, multi scale + CRF')[1]


@pytest.mark.slow
def test_pictures_are_in_the_colours_of_the_class_list(run):
    _, _, results, _ = run
    for path in (results / 'inference_final/semantic_gray').glob('*.png'):
        colour = np.array(Image.open(results / 'inference_final/semantic_color' / path.name))
        np.testing.assert_array_equal(colour, np.array(list(COLOURS.values()))[np.array(Image.open(path))])
    sheet = {tuple(pixel) for pixel in np.array(Image.open(results / 'contact_sheet.png')).reshape(-1, 3).tolist()}
    assert set(COLOURS.values()) <= sheet
