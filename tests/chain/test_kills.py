"""`kill -9` at random times, five times each in training, prototypes, inference and pseudo labels.

Only complete files may have their final names, and the run that is finally left alone has to end with what an
undisturbed one gives. Processes are forked from one that has imported everything, so that kills hit the work.
"""
import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import runpy
import shutil
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from spml import config as configuration
from spml.models.build import build_classifier, build_embedding

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 5
IMAGES = 24
STAGES = {
    'train': ('train/train.py', []),
    'prototype': ('inference/prototype.py', ['--kmeans_num_clusters', '3,3', '--multi_scale']),
    'inference': ('inference/inference.py', ['--predictor', 'softmax', '--crf', '--num_workers', '0',
                                             '--crf_iter_max', '5']),
    'pseudo_label': ('inference/pseudo_label.py', ['--source', 'softmax_random_walk', '--num_workers', '1',
                                                   '--crf_iter_max', '5']),
}


def run_script(script, arguments, log):
    """Run a script of this repository in this process, as the command line would."""
    torch.set_num_threads(1)
    with open(log, 'a') as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        sys.argv = [script, *arguments]
        runpy.run_path(str(ROOT / 'pyscripts' / script), run_name='__main__')


@pytest.fixture(scope='module')
def forked():
    """A function that starts a script in a separate process and returns the process."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torch.utils.tensorboard', 'spml.training.build', 'spml.inference.jobs'])

    def start(*arguments):
        process = context.Process(target=run_script, args=arguments)
        process.start()
        return process
    start('data/make_synthetic.py', ['--help'], os.devnull).join()  # the first brings the server up
    return start


class Stage:
    """One script on the small data set under many names, with networks of random weights."""

    def __init__(self, name, folder, data, config, start):
        self.name, self.folder, self.start = name, folder, start
        self.script, self.options = STAGES[name]
        for kind in ('image', 'semantic', 'instance'):
            for number in range(IMAGES):
                shutil.copy(data.folder / kind / f'{data.names[number % 3]}.png', data.folder / kind / f'{number}.png')
        data.list.write_text(''.join(f'image/{number}.png semantic/{number}.png instance/{number}.png\n'
                                     for number in range(IMAGES)))
        (folder / 'config.yaml').write_text(configuration.dump(config))
        self.common = ['--cfg_path', str(folder / 'config.yaml'), '--data_dir', str(data.folder), '--data_list',
                       str(data.list), '--device', 'cpu']
        torch.save({'embedding_model': build_embedding(config).state_dict(),
                    'prediction_model': build_classifier(config).state_dict()}, folder / 'weights.pth')

    def begin(self, out):
        """Start the script, on top of what an earlier run left, and return the process."""
        if self.name == 'train':
            where = ['--snapshot_dir', str(out), '--resume']
        else:
            where = ['--checkpoint', str(self.folder / 'weights.pth'), '--save_dir', str(out)]
        if self.name == 'pseudo_label':
            where += ['--list_out', str(out / 'list.txt')]
        return self.start(self.script, [*self.common, *self.options, *where], str(self.folder / 'log.txt'))

    def finish(self, out):
        """Run the script undisturbed and return how long it took."""
        began = time.monotonic()
        process = self.begin(out)
        process.join()
        assert process.exitcode == 0, (self.folder / 'log.txt').read_text()[-3000:]
        return time.monotonic() - began


def read_complete(path):
    """Read a file that has its final name; one that is cut short fails."""
    if path.suffix == '.pth':
        return torch.load(path, weights_only=True)
    if path.suffix == '.png':
        return np.array(Image.open(path)).tolist()
    if path.suffix == '.npz':
        with np.load(path) as arrays:
            return {name: arrays[name].tolist() for name in arrays}
    if path.suffix == '.json':
        return json.loads(path.read_text())
    if path.suffix == '.yaml':
        return yaml.safe_load(path.read_text())
    # What is done is noted in the order in which it was.
    return sorted(path.read_text().splitlines()) if path.name == 'made_from.jsonl' else path.read_text()


def results(folder):
    """Return the content of every file under its final name, except TensorBoard's, which contain the time."""
    paths = [path for path in folder.rglob('*') if path.is_file() and not path.name.startswith('.')]
    return {str(path.relative_to(folder)): read_complete(path) for path in paths if 'tfevents' not in path.name}


@pytest.mark.slow
@pytest.mark.parametrize('name', STAGES)
def test_kills_at_random_times_change_nothing(name, tmp_path, small_data, small_config, forked, identical):
    if name in ('inference', 'pseudo_label'):
        pytest.importorskip('pydensecrf')
    config = small_config('train.max_iteration=18', 'train.snapshot_step=5', 'train.keep_snapshots=2',
                          'train.snapshot_minutes=0.005')
    stage = Stage(name, tmp_path, small_data, config, forked)
    duration = stage.finish(tmp_path / 'undisturbed')
    expected = results(tmp_path / 'undisturbed')
    out, kills, moments, steps = tmp_path / 'out', 0, random.Random(), 0
    # On a machine with other work the first ones may all come before the work has begun.
    while kills < KILLS or (not steps and kills < 8 * KILLS):
        process = stage.begin(out)
        process.join(moments.uniform(0.1, 0.7 if kills < KILLS else 1.5) * duration)
        process.kill()
        process.join()
        if process.exitcode == 0:  # it had finished already
            shutil.rmtree(out)
            continue
        kills += 1
        found = results(out) if out.exists() else {}
        steps += len(found) > 3
        if name != 'train':
            made = {path: content for path, content in found.items() if path.endswith(('.png', '.npz', '.json'))}
            assert all(identical(content, expected[path]) for path, content in made.items())
    assert steps, 'no kill hit the work itself'
    stage.finish(out)
    found = results(out)
    for listing in (found, expected):
        for path in [path for path in listing if path == 'list.txt']:
            listing[path] = listing[path].replace(str(out), str(tmp_path / 'undisturbed'))
    if name == 'train':
        for listing in (found, expected):
            listing['metrics.jsonl'] = [json.loads(line) for line in listing['metrics.jsonl'].splitlines()]
    assert found.keys() == expected.keys()
    assert [path for path in found if not identical(found[path], expected[path])] == []
    assert not list(out.rglob('.*.tmp'))
