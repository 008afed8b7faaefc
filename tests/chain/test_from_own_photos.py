"""From photos, scribbles and masks to a classifier that has learnt something: every step, on easy scenes (a minute)."""
import importlib.util
import json
import pathlib
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from spml.program import execute

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLASSES = ('ground 128 128 128', 'disc 60 20 20', 'square 180 255 180')
SIZE = (64, 80)
FASTER = ('train.max_iteration=60', 'train.warmup_iteration=5', 'train.batch_size=4', 'train.crop_size=[48,48]')


def draw_scene(rng, first_class):
    """Return a photo of a dark disc or a bright square, or both, on grey, its class ids, and scribbles on each."""
    colours = np.array([(128, 128, 128), (60, 20, 20), (180, 255, 180)])
    truth, scribbles = np.zeros(SIZE, np.uint8), np.full(SIZE, 255, np.uint8)
    for line in (np.s_[4, 4:76], np.s_[59, 4:76], np.s_[4:60, 2], np.s_[4:60, 40], np.s_[4:60, 77]):
        scribbles[line] = 0
    for place, label in enumerate({first_class, int(rng.integers(1, 3))}):
        x, y, radius = int(rng.integers(20, 23)) + 38 * place, int(rng.integers(24, 42)), int(rng.integers(11, 16))
        if label == 1:
            cv2.circle(truth, (x, y), radius, 1, -1)
        else:
            cv2.rectangle(truth, (x - radius, y - radius), (x + radius, y + radius), 2, -1)
        scribbles[y - 1:y + 2, x - 9:x + 10] = scribbles[y - 9:y + 10, x - 1:x + 2] = label
    photo = colours[truth] + rng.normal(0, 12, (*SIZE, 1)) + rng.normal(0, 8, (*SIZE, 3))
    return photo.clip(0, 255).astype(np.uint8), truth, scribbles


@pytest.fixture
def own(tmp_path):
    """A folder of such photos: 12 with scribbles, 4 with masks; the PNGs hold class ids, 255 is not drawn."""
    rng = np.random.default_rng()
    for name in ('photos', 'scribbles', 'masks'):
        (tmp_path / name).mkdir()
    for index in range(16):
        photo, truth, scribbles = draw_scene(rng, 1 + index % 2)
        Image.fromarray(photo).save(tmp_path / f'photos/{index}.jpg', quality=95)
        kind, label = ('scribbles', scribbles) if index < 12 else ('masks', truth)
        Image.fromarray(label).save(tmp_path / f'{kind}/{index}.png')
    (tmp_path / 'classes.txt').write_text('\n'.join(CLASSES))
    return tmp_path


def works(monkeypatch, path, *arguments):
    """Run a script in this process, as a command line with status 0."""
    spec = importlib.util.spec_from_file_location(f'script_{pathlib.Path(path).stem}', ROOT / 'pyscripts' / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        execute(module.main)
    assert caught.value.code == 0


@pytest.mark.slow
def test_a_classifier_learns_from_scribbles(own, monkeypatch):
    data, run = own / 'data', own / 'run'
    works(monkeypatch, 'data/prepare_custom.py', '--images', own / 'photos', '--scribbles', own / 'scribbles',
          '--masks', own / 'masks', '--classes', own / 'classes.txt', '--out', data, '--base', 'demo',
          '--num_workers', 0)
    common = ['--data_dir', data, '--device', 'cpu', '--set', *FASTER]
    embedding = ['--cfg_path', data / 'configs/scribble.yaml', *common]
    classifier = ['--cfg_path', data / 'configs/classifier.yaml', *common]
    train, val = data / 'lists/train_scribble.txt', data / 'lists/val.txt'
    works(monkeypatch, 'train/train.py', *embedding, '--data_list', train, '--snapshot_dir', run / 'stage1')
    works(monkeypatch, 'inference/pseudo_label.py', *embedding, '--data_list', train, '--snapshot_dir', run / 'stage1',
          '--save_dir', run / 'pseudo', '--source', 'softmax_random_walk', '--list_out', run / 'pseudo.txt',
          '--num_workers', 0)
    works(monkeypatch, 'train/train_classifier.py', *classifier, f'network.pretrained={run}/stage1/model-59.pth',
          '--data_list', run / 'pseudo.txt', '--snapshot_dir', run / 'classifier')
    works(monkeypatch, 'inference/inference.py', *classifier, '--data_list', val, '--snapshot_dir', run / 'classifier',
          '--save_dir', run / 'val', '--predictor', 'softmax')
    works(monkeypatch, 'benchmark/benchmark_by_mIoU.py', '--cfg_path', data / 'configs/scribble.yaml', '--pred_dir',
          run / 'val/semantic_gray', '--gt_dir', data, '--gt_list', val, '--json', run / 'score.json')
    score = json.loads((run / 'score.json').read_text())
    assert list(score['iou']) == ['ground', 'disc', 'square']
    assert score['num_images'] == 4
    truth = np.stack([np.array(Image.open(own / f'masks/{index}.png')) for index in range(12, 16)])
    all_ground = (truth == 0).mean() / 3
    assert score['mean_iou'] > 2 * all_ground
