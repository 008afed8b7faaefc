"""README.md's "Your own data", word for word, from photos to a scored run (minutes)."""
import json
import pathlib
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from spml.scenes.labels import draw_strokes, strokes
from spml.scenes.scene import render_scene

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLOURS = {'background': (90, 60, 30), 'striped disc': (255, 0, 0), 'square': (0, 160, 0), 'dots': (0, 0, 255)}
TINY = ('num_threads=0 network.backbone_types=panoptic_deeplab_14 network.embedding_dim=8 network.frozen_stages=[] '
        'network.bn_momentum=0.1 network.kmeans_iterations=2 network.kmeans_num_clusters=[2,2] train.max_iteration=2 '
        'train.warmup_iteration=1 train.crop_size=[32,32] train.tensorboard_step=1')
SETTINGS = {'PRETRAINED': '', 'BATCH': '2', 'CLUSTERS': '2,2', 'SET_EMBEDDING': TINY,
            'SET_CLASSIFIER': f'{TINY} train.batch_size=2', 'NUM_WORKERS': '1'}


def commands():
    """The shell commands of the section."""
    section = re.search(r'\n## Your own data\n(.*?)\n## ', (ROOT / 'README.md').read_text(encoding='utf-8'), re.DOTALL)
    blocks = re.findall(r'```bash\n(.*?)```', section[1], re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def draw_photos(folder, num_train, num_val):
    """Photos with blanks in their names; scribbles (transparent elsewhere) of the first, masks of the others."""
    rng = np.random.default_rng()
    colours = np.array(list(COLOURS.values()), np.uint8)
    for name in ('photos', 'scribbles', 'masks'):
        (folder / name).mkdir(parents=True)
    for index in range(num_train + num_val):
        scene = render_scene(rng, 48, 64, len(COLOURS), first_class=1 + index % (len(COLOURS) - 1))
        Image.fromarray(scene.image).save(folder / f'photos/holiday {index}.jpg', quality=95)
        if index < num_train:
            labels = draw_strokes(strokes(rng, scene.instance), scene.instance, scene.classes, 1, 3)
            drawn = labels < len(COLOURS)
            rgba = np.dstack([colours[np.where(drawn, labels, 0)], np.where(drawn, 255, 0).astype(np.uint8)])
            Image.fromarray(rgba).save(folder / f'scribbles/holiday {index}.png')
        else:
            values = np.where(scene.semantic == 255, len(COLOURS), scene.semantic)
            Image.fromarray(np.concatenate([colours, [(255, 255, 255)]]).astype(np.uint8)[values]).save(
                folder / f'masks/holiday {index}.png')
    lines = [f'{name} {" ".join(map(str, colour))}' for name, colour in COLOURS.items()]
    (folder / 'classes.txt').write_text('\n'.join([*lines, 'void 255 255 255']) + '\n')


@pytest.fixture(scope='module')
def project(tmp_path_factory, copy_project):
    """A copy of this project in which the commands ran, and what they printed."""
    folder = tmp_path_factory.mktemp('project')
    draw_photos(folder / 'mine', num_train=5, num_val=2)
    environment = copy_project(folder) | SETTINGS
    result = subprocess.run(['bash', '-euc', commands()], cwd=folder, env=environment, capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return folder, result.stdout


@pytest.mark.slow
def test_the_second_command_is_what_the_first_says(project):
    _, printed = project
    said = printed.split('To train:\n')[1].split('\n')[0].strip()
    assert said == commands().strip().split('\n')[-1]


@pytest.mark.slow
def test_labels_are_what_was_drawn(project):
    folder, _ = project
    for line in (folder / 'mine/data/lists/train.txt').read_text().splitlines():
        image, weak, regions = (folder / 'mine/data' / field for field in line.split()[:3])
        rgba = np.array(Image.open(folder / 'mine/scribbles' / f'{image.stem.replace("_", " ")}.png'))
        label = np.array(Image.open(weak))
        assert ((rgba[..., 3] == 0) == (label == 254)).all()
        np.testing.assert_array_equal(np.array(list(COLOURS.values()))[label[label < 254]], rgba[label < 254][:, :3])
        assert Image.open(regions).size == Image.open(image).size == Image.open(weak).size


@pytest.mark.slow
def test_scores_are_those_of_the_predictions(project):
    folder, printed = project
    run = folder / 'snapshots/mine/spml'
    assert not (run / 'prototypes').exists()  # without truth of the training photos
    for name in ('softmax_joint', 'single', 'final'):
        inside, united = np.zeros(len(COLOURS)), np.zeros(len(COLOURS))
        for path in (folder / 'mine/masks').glob('*.png'):
            predicted = np.array(Image.open(run / f'inference_{name}/semantic_gray' / path.name.replace(' ', '_')))
            rgb = np.array(Image.open(path))
            void = (rgb == 255).all(-1)
            for index, colour in enumerate(COLOURS.values()):
                true, found = (rgb == colour).all(-1), (predicted == index) & ~void
                inside[index] += (true & found).sum()
                united[index] += (true | found).sum()
        score = json.loads((run / f'scores/score_{name}.json').read_text())
        assert score['iou'] == pytest.approx(dict(zip(COLOURS, inside / np.maximum(united, 1), strict=True)))
        assert score['num_images'] == 2
    assert 'striped disc' in printed.split('IoU: classifier, multi scale + CRF')[1]


@pytest.mark.slow
def test_pictures_are_in_the_colours_of_the_class_list(project):
    folder, _ = project
    run = folder / 'snapshots/mine/spml'
    for path in (run / 'inference_final/semantic_gray').glob('*.png'):
        colour = np.array(Image.open(run / 'inference_final/semantic_color' / path.name))
        np.testing.assert_array_equal(colour, np.array(list(COLOURS.values()))[np.array(Image.open(path))])
    sheet = {tuple(pixel) for pixel in np.array(Image.open(run / 'contact_sheet.png')).reshape(-1, 3).tolist()}
    assert set(COLOURS.values()) <= sheet
