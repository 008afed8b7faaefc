"""From miniatures of VOC, SBD and ScribbleSup as their owners publish them to a trained, scored scribble run."""
import json
import shutil

import numpy as np
import pytest
from originals import Originals, write_scribbles
from PIL import Image

from spml import config as configuration
from spml.config.schema import VOC_CLASS_NAMES
from spml.data.readers import read_image
from spml.scenes import dataset as synthetic
from spml.scenes import labels as synthetic_labels
from spml.scenes.regions import over_segmentation
from spml.utils.formats import write_png

NUM_TRAIN, NUM_VAL = 8, 3


@pytest.fixture
def world(tmp_path):
    """Scenes of the built-in data set, published as VOC, SBD and ScribbleSup are."""
    scenes = tmp_path / 'scenes'
    synthetic.generate(scenes, num_train=NUM_TRAIN, num_val=NUM_VAL, num_test=0, size=(64, 80))
    made = Originals(tmp_path)
    made.scribbles = tmp_path / 'pascal_2012'
    made.scribbles.mkdir()
    names = sorted(path.stem for path in (scenes / 'VOC2012/segcls').iterdir())
    for index, name in enumerate(names):
        truth, instances = (np.array(Image.open(scenes / f'VOC2012/{folder}/{name}.png'))
                            for folder in ('segcls', 'seginst'))
        made.sizes[name] = truth.shape
        if index % 2 or 'val' in name:
            made.write_voc(name, truth, instances)
        else:  # SBD has no void
            made.write_sbd(name, np.where(truth == 255, 0, truth), np.where(instances == 255, 0, instances))
        shutil.copy(scenes / f'VOC2012/JPEGImages/{name}.jpg', made.voc / 'JPEGImages')
        paths = synthetic_labels.strokes(np.random.default_rng(index), instances)
        write_scribbles(made.scribbles / f'{name}.xml', [
            (VOC_CLASS_NAMES[truth[instances == identity][0]], path.round().astype(int).tolist())
            for identity, path in paths], truth.shape)
    of_voc = {path.stem for path in (made.voc / 'SegmentationClass').iterdir()}
    splits = made.voc / 'ImageSets' / 'Segmentation'
    made.split(splits / 'train.txt', [name for name in names if name in of_voc and 'train' in name])
    made.split(splits / 'val.txt', [name for name in names if 'val' in name])
    made.split(made.sbd / 'train.txt', [name for name in names if name not in of_voc])
    made.split(made.sbd / 'val.txt', [])
    return made


def test_a_scribble_run(world, works, small_config, tmp_path):
    out = world.out
    works('prepare_voc12', '--voc', world.voc, '--sbd', world.sbd, '--out', out, '--num_workers', 0)
    works('prepare_scribble', '--scribbles', world.scribbles, '--out', out, '--num_workers', 0)
    for path in sorted((out / 'VOC2012/JPEGImages').glob('*train*.jpg')):
        write_png(out / 'VOC2012/hed' / f'{path.stem}.png', over_segmentation(read_image(path)))
    config = tmp_path / 'config.yaml'
    config.write_text(configuration.dump(small_config('dataset.num_classes=21', 'train.max_iteration=3')))
    common = ['--cfg_path', config, '--data_dir', out, '--device', 'cpu']
    works('train', *common, '--data_list', out / 'lists/train_scribble.txt', '--snapshot_dir', tmp_path / 'run')
    losses = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
    assert all(np.isfinite(line['loss']) for line in losses)
    works('inference', *common, '--data_list', out / 'lists/val.txt', '--snapshot_dir', tmp_path / 'run',
          '--save_dir', tmp_path / 'val', '--predictor', 'softmax')
    works('benchmark_by_mIoU', '--pred_dir', tmp_path / 'val/semantic_gray', '--gt_dir', out / 'VOC2012/segcls',
          '--num_classes', 21, '--json', tmp_path / 'score.json')
    score = json.loads((tmp_path / 'score.json').read_text())
    assert score['num_images'] == NUM_VAL
    assert 0 <= score['mean_iou'] <= 1
    lines = (out / 'lists/train_scribble.txt').read_text().splitlines()
    assert len(lines) == NUM_TRAIN
