"""What tests of several folders share: random inputs, one thread, a small configuration and a small data set on disk.

Inputs are fresh in every run. What a test draws by numpy's `default_rng()` and by torch comes from the test's name and
a seed that pytest prints at its start (without -q): `pytest --seed N` draws it again, whatever else is run.
"""
import contextlib
import os
import pathlib
import resource
import runpy
import secrets
import shutil
import signal
import sys
import types
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from spml import config as configuration
from spml.models.build import build_classifier, build_embedding

# Background jobs of a shell ignore Ctrl-C, and their children inherit that; tests of interrupting send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Without a GPU, Triton's interpreter runs the kernels; it is asked for before Triton is imported.
if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'

NUM_CLASSES = 3
PYSCRIPTS = pathlib.Path(__file__).parents[1] / 'pyscripts'


def pytest_addoption(parser):
    parser.addoption('--seed', type=int, default=secrets.randbelow(10 ** 6), help='of the random inputs')


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker('slow') is None)


def pytest_report_header(config):
    return f'random inputs: --seed {config.getoption("seed")} draws them again'


@pytest.fixture(autouse=True)
def _nothing_said_before(monkeypatch):
    """Warnings that a command gives once are given again: a folder of a test that passed may come again."""
    monkeypatch.setattr('spml.program._WARNED', set())


@pytest.fixture(autouse=True)
def _random_inputs(request, monkeypatch):
    """Seed torch, and numpy's `default_rng()`, by the seed of the run and the name of the test."""
    path, _, name = request.node.location
    seeds = np.random.SeedSequence([request.config.getoption('seed'), zlib.crc32(f'{path}::{name}'.encode())])
    make = np.random.default_rng
    monkeypatch.setattr(np.random, 'default_rng', lambda seed=None: make(seeds.spawn(1)[0] if seed is None else seed))
    torch.manual_seed(int(seeds.generate_state(1)[0]))


@pytest.fixture
def rng():
    return np.random.default_rng()


@pytest.fixture
def call_script(monkeypatch, capsys):
    """A function from a script of pyscripts/ and its words to its exit status, standard output and standard error."""
    def call(name, *words):
        path, = map(str, PYSCRIPTS.glob(f'*/{name}.py'))
        monkeypatch.setattr(sys, 'argv', [path, *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            runpy.run_path(path, run_name='__main__')
        return left.value.code, *capsys.readouterr()
    return call


@pytest.fixture
def works(call_script):
    """A function that runs a script, asserts that it ends well, and returns what it prints."""
    def run(name, *words):
        status, out, err = call_script(name, *words)
        assert status == 0, err
        return out
    return run


@pytest.fixture
def fails(call_script):
    """A function that runs a script, asserts its status and one line of error, the last, that holds some words.

    It returns what the script prints.
    """
    def check(name, *words, naming, status=2):
        found, out, err = call_script(name, *words)
        assert found == status, err
        assert 'Traceback' not in err
        lines = err.rstrip('\n').split('\n')
        assert [line.startswith('error: ') for line in lines] == [False] * (len(lines) - 1) + [True], err
        for word in naming:
            assert str(word) in lines[-1]
        return out
    return check


@pytest.fixture(scope='session')
def copy_project():
    """A function that copies this project to a new folder; `python` of the environment that it returns is this one."""
    def copy(folder):
        for name in ('spml', 'pyscripts', 'bashscripts', 'configs'):
            shutil.copytree(PYSCRIPTS.parent / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
        (folder / 'bin').mkdir()
        # What commands install is what the tests run with.
        for name, does in (('python', f'exec "{sys.executable}" "$@"'), ('pip', '')):
            (folder / 'bin' / name).write_text(f'#!/bin/sh\n{does}\n')
            (folder / 'bin' / name).chmod(0o755)
        kept = {name: os.environ[name] for name in ('HOME', 'LANG', 'TMPDIR') if name in os.environ}
        return {**kept, 'PATH': f'{folder / "bin"}:{os.environ["PATH"]}', 'PYTHONPATH': str(folder),
                'OMP_NUM_THREADS': '1', 'SPML_PYTHON': sys.executable}
    return copy


@pytest.fixture
def file_size_limit():
    """A function from a size to a context in which no file grows larger: a full disk fails in the same places."""
    @contextlib.contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return limit


@pytest.fixture
def one_thread():
    """Torch on one thread, so that sums are in one order and results can be compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def identical():
    """A function: whether two nests of dicts and lists hold bit-identical tensors and equal values."""
    def compare(one, other):
        if isinstance(one, torch.Tensor):
            return torch.equal(one, other) and one.dtype == other.dtype
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(compare(value, other[key]) for key, value in one.items())
        if isinstance(one, (list, tuple)):
            return len(one) == len(other) and all(map(compare, one, other))
        return one == other
    return compare


@pytest.fixture
def save_model():
    """A function that writes a checkpoint of networks, by default of random weights, and of their configuration."""
    def save(path, config, *networks):
        embedding, classifier = networks or (build_embedding(config), build_classifier(config))
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({'embedding_model': embedding.state_dict(), 'prediction_model': classifier.state_dict(),
                    'config': configuration.to_dict(config)}, path)
        return path
    return save


@pytest.fixture
def small_config():
    """A function from `section.key=value` overrides to a configuration that trains in a second."""
    def make(*overrides):
        return configuration.resolve({
            'num_threads': 0, 'seed': 5,
            'dataset': {'dataset': 'VOC2012', 'num_classes': NUM_CLASSES},
            'network': {'backbone_types': 'panoptic_deeplab_14', 'embedding_dim': 8, 'kmeans_iterations': 3,
                        'kmeans_num_clusters': [2, 2], 'frozen_stages': [], 'bn_momentum': 0.1},
            'train': {'max_iteration': 4, 'tensorboard_step': 1, 'base_lr': 1e-3, 'warmup_iteration': 2,
                      'batch_size': 2, 'crop_size': [32, 32], 'memory_bank_size': 2, 'sem_occ_loss_types': 'segsort'},
            'test': {'image_size': 0, 'crop_size': [32, 32], 'stride': [16, 16]}}, overrides)
    return make


@pytest.fixture
def small_data(tmp_path):
    """A folder with three images of 40x36 pixels and their labels, and the lists of them with 1, 2 and 3 fields.

    Every label has unlabelled (200) and void (255) pixels; the images share no foreground tag.
    """
    rng = np.random.default_rng()
    folder = tmp_path / 'data'
    names = ['a', 'b', 'c']
    for kind in ('image', 'semantic', 'instance'):
        (folder / kind).mkdir(parents=True)
    for name, classes in zip(names, ([0, 1], [0, 2], [0, 0]), strict=True):
        values = [*classes, 200, 200, 255]
        blocks = {'image': rng.integers(0, 256, (5, 5, 3)), 'semantic': rng.choice(values, (5, 5)),
                  'instance': rng.integers(0, 4, (5, 5))}
        blocks['semantic'][rng.integers(5)] = values
        for kind, block in blocks.items():
            pixels = np.kron(block, np.ones((8, 8, 1) if kind == 'image' else (8, 8), int))[:40, :36]
            if kind == 'image':
                pixels = np.clip(pixels + rng.integers(-20, 21, pixels.shape), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f'{name}.png')
    lists = {}
    for fields, kinds in enumerate((('image',), ('image', 'semantic'), ('image', 'semantic', 'instance')), start=1):
        lists[fields] = tmp_path / f'list_{fields}.txt'
        lists[fields].write_text(''.join(' '.join(f'{kind}/{name}.png' for kind in kinds) + '\n' for name in names))
    return types.SimpleNamespace(folder=folder, names=names, lists=lists, list=lists[3])
