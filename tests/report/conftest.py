"""A small finished run with random contents, as a pipeline's script leaves it."""
import json
import types

import numpy as np
import pytest
from PIL import Image

from spml import config as configuration
from spml.evaluation.miou import confusion, iou_from_confusion
from spml.evaluation.scores import score_summary
from spml.pipeline.record import Recorder

CLASS_NAMES = ['sky', 'cat', 'big <b>dog</b> "x" & </script>']
PARTS = {'train': ['t0', 't1', 't2', 't3', 't4'], 'val': ['v0', 'v1', 'v2', 'v3']}


def blocks(rng, values):
    return np.kron(rng.choice(values, (5, 5)), np.ones((8, 8), int))[:40, :36].astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_data(folder):
    """Write images, weak labels and truth, and the three lists; returns the truth by image name."""
    rng, truths = np.random.default_rng(), {}
    for name in (name for names in PARTS.values() for name in names):
        truths[name] = blocks(rng, [0, 1, 2, 255])
        truths[name][:8, :24] = np.repeat([0, 1, 2], 8)  # every class occurs
        save(folder / 'image' / f'{name}.png', rng.integers(0, 256, (40, 36, 3), dtype=np.uint8))
        save(folder / 'truth' / f'{name}.png', truths[name])
        save(folder / 'weak' / f'{name}.png', blocks(rng, [0, 1, 2, 200]))
    for name, part, label in (('train', 'train', 'weak'), ('full', 'train', 'truth'), ('val', 'val', 'truth')):
        (folder / f'{name}.txt').write_text(''.join(
            f'image/{image}.png {label}/{image}.png {label}/{image}.png\n' for image in PARTS[part]))
    return truths


def make_predictions(folder, names):
    rng, made = np.random.default_rng(), {}
    for name in names:
        made[name] = blocks(rng, [0, 1, 2])
        save(folder / 'semantic_gray' / f'{name}.png', made[name])
    return made


def make_score(run, name, predictions, truths):
    matrix = sum(confusion(pred, truths[image], 3) for image, pred in predictions.items())
    (run / 'scores').mkdir(exist_ok=True)
    (run / 'scores' / f'{name}.json').write_text(json.dumps(score_summary(
        iou_from_confusion(matrix), CLASS_NAMES, len(predictions), confusion=matrix.tolist())))


def make_prototypes(folder, names):
    rng = np.random.default_rng()
    for name in names:
        save(folder / 'semantic_cluster' / f'{name}.png', blocks(rng, range(9)).astype(np.uint16))
        vectors = rng.normal(size=(9, 6)).astype(np.float32)
        (folder / 'semantic_prototype').mkdir(exist_ok=True)
        np.savez(folder / 'semantic_prototype' / f'{name}.npz',
                 prototype=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
                 prototype_label=rng.choice([0, 1, 2, 255], 9))


def write_record(run, data):
    """Write the record of a pipeline with a predictor for each list, of which every stage took 9.5 s and 300 MiB."""
    recorder, lists = Recorder(run), {name: str(data / f'{name}.txt') for name in ('train', 'full', 'val')}
    common = ['--data_dir', str(data)]
    recorder.write('run', run_dir=str(run), script='old.sh', version='0', torch='0', settings={'DATAROOT': '/old'})
    recorder.write('run', run_dir=str(run), script='bashscripts/x.sh', version='1.2', torch='3.4',
                   settings={'DATAROOT': str(data), 'RUN_NAME': run.parent.name})
    for name, title, script, output, arguments in (
            ('train_embedding', '', 'train/train.py', 'stage1', ['--data_list', lists['train']]),
            ('oracle', '', 'inference/prototype.py', 'prototypes', ['--save_dir', str(run / 'prototypes')]),
            ('label', '', 'inference/pseudo_label.py', 'labelled', ['--data_list', lists['train']]),
            ('score_pseudo', 'pseudo labels', 'benchmark/benchmark_by_mIoU.py', 'scores/score_pseudo.json',
             ['--pred_dir', str(run / 'labelled/semantic_gray'), '--gt_list', lists['full']]),
            ('train_classifier', '', 'train/train_classifier.py', 'classifier', []),
            ('predict', '', 'inference/inference.py', 'predicted', ['--data_list', lists['val']]),
            ('score_final', 'the end', 'benchmark/benchmark_by_mIoU.py', 'scores/score_final.json',
             ['--pred_dir', str(run / 'predicted/semantic_gray'), '--gt_list', lists['val']])):
        recorder.write('stage', stage=name, title=title, script=f'pyscripts/{script}', output=output, status='done',
                       arguments=common + arguments, seconds=9.5, memory=300 << 20, gpu_memory=0)


def make_run(run, data, truths, config):
    """Write everything a pipeline's run leaves."""
    for training in ('stage1', 'classifier'):
        (run / training).mkdir(parents=True)
        (run / training / 'config.yaml').write_text(configuration.dump(config))
        (run / training / 'metrics.jsonl').write_text(''.join(json.dumps(
            {'iteration': 10 * step, 'lr': 0.01, 'loss': 3 / (step + 1), 'accuracy': step / 20,
             'sem_ann_loss': 1 / (step + 1)}) + '\n' for step in range(20)))
    pseudo = make_predictions(run / 'labelled', PARTS['train'])
    final = make_predictions(run / 'predicted', PARTS['val'])
    make_score(run, 'score_pseudo', pseudo, truths)
    make_score(run, 'score_final', final, truths)
    make_prototypes(run / 'prototypes', PARTS['train'])
    write_record(run, data)
    return final


@pytest.fixture
def made(tmp_path, small_config):
    """The folders of a data set and of two runs on it, the truth, and the first run's final predictions."""
    data = tmp_path / 'data'
    truths = make_data(data)
    runs, finals = [tmp_path / 'a' / 'run', tmp_path / 'b' / 'run'], []
    for index, run in enumerate(runs):
        finals.append(make_run(run, data, truths, small_config(
            f'train.base_lr=0.0{index + 1}', 'dataset.class_names=' + json.dumps(CLASS_NAMES))))
    return types.SimpleNamespace(data=data, truths=truths, runs=runs, final=finals[0], class_names=CLASS_NAMES,
                                 parts=PARTS)
