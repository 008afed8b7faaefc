"""The scribble pipeline as the quickstart runs it, through bash, on the built-in data in full (minutes)."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'bashscripts' / 'voc12' / 'train_spml_scribble.sh'
SCORES = ('score_retrieval', 'score_softmax_joint', 'score_pseudo', 'score_single', 'score_final')


def run_pipeline(folder):
    environment = {**os.environ, 'DATASET': 'demo', 'SNAPSHOT_ROOT': str(folder), 'DATAROOT': str(folder / 'data'),
                   'SPML_PYTHON': sys.executable}
    return subprocess.run(['bash', str(SCRIPT)], env=environment, capture_output=True, text=True, cwd=folder,
                          check=False)


def all_background_miou(truth_dir, names, num_classes):
    """The mIoU of predicting class 0 everywhere: its IoU is its share of the non-void pixels, all others are 0."""
    background = total = 0
    for name in names:
        truth = np.asarray(Image.open(truth_dir / f'{name}.png'))
        background, total = background + (truth == 0).sum(), total + (truth < num_classes).sum()
    return background / total / num_classes


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp('chain')
    result = run_pipeline(folder)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return folder, result


@pytest.mark.slow
def test_scores_beat_all_background_twice(pipeline):
    folder, _ = pipeline
    run = folder / 'spml_scribble'
    scores = {name: json.loads((run / 'scores' / f'{name}.json').read_text())['mean_iou'] for name in SCORES}
    names = [pathlib.Path(line.split()[0]).stem for line in (folder / 'data/lists/val.txt').read_text().splitlines()]
    bar = 2 * all_background_miou(folder / 'data/VOC2012/segcls', names, 6)
    assert scores['score_single'] >= bar, scores
    assert scores['score_final'] >= bar, scores
    assert all(0 <= value <= 1 for value in scores.values())


@pytest.mark.slow
def test_every_image_is_predicted_at_its_size(pipeline):
    folder, _ = pipeline
    for line in (folder / 'data/lists/val.txt').read_text().splitlines():
        image, truth = (folder / 'data' / field for field in line.split()[:2])
        prediction = Image.open(folder / 'spml_scribble/inference_final/semantic_gray' / f'{image.stem}.png')
        assert prediction.size == Image.open(truth).size
        assert prediction.mode == 'L'


@pytest.mark.slow
def test_pictures_and_configurations_stand_beside_the_results(pipeline):
    folder, result = pipeline
    run = folder / 'spml_scribble'
    assert Image.open(run / 'contact_sheet.png').size[0] > 300
    for stage in ('stage1', 'classifier', 'prototypes', 'pseudo_labels', 'inference_final'):
        assert (run / stage / 'config.yaml').is_file(), stage
    assert 'contact_sheet.png' in result.stdout
    assert any((run / 'stage1' / 'tensorboard').iterdir())


@pytest.mark.slow
def test_second_run_skips_every_stage(pipeline):
    folder, _ = pipeline
    weights = next((folder / 'spml_scribble/classifier').glob('model-*.pth'))
    before = weights.stat().st_mtime_ns
    result = run_pipeline(folder)
    assert result.returncode == 0
    assert ' ...' not in result.stdout, 'a stage ran again'
    assert result.stdout.count('skipped') >= 10
    assert weights.stat().st_mtime_ns == before
