"""A miniature of VOC 2012 and SBD as their owners publish them, and a way to run the preparation scripts."""
import contextlib
import pathlib
import pickle
import types

import numpy as np
import pytest
from originals import Originals, write_palette, write_rgb

from spml.prepare import runner, voc12
from spml.utils.workers import worker_pool

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def originals(tmp_path):
    """VOC train: 07_a, 07_b; val: 07_c; SBD train: 08_d, 07_a; val: 07_c, 08_e, whose image is not in VOC."""
    rng = np.random.default_rng()
    made = Originals(tmp_path)
    for name in ('07_a', '07_b', '07_c', '08_d'):
        made.image(name, rng, made.voc / 'JPEGImages')
    for name in ('08_d', '07_a', '07_c', '08_e'):
        made.image(name, rng, made.sbd / 'img')
        made.sbd_labels(name, rng)
    made.voc_labels('07_a', rng)
    made.voc_labels('07_b', rng, write_rgb)
    made.voc_labels('07_c', rng, lambda path, label: write_palette(path, label, rng.permutation(256)))
    splits = made.voc / 'ImageSets' / 'Segmentation'
    made.split(splits / 'train.txt', ['07_b', '07_a'])
    made.split(splits / 'val.txt', ['07_c'])
    made.split(splits / 'trainval.txt', ['07_a', '07_b', '07_c'])
    made.split(made.sbd / 'train.txt', ['08_d', '07_a'])
    made.split(made.sbd / 'val.txt', ['07_c', '08_e'])
    return made


@pytest.fixture
def prepared(originals):
    """The same after prepare_voc12: under `out` are images, truth and lists; train+ is 07_a, 07_b, 08_d, 08_e."""
    voc12.prepare(originals.voc, originals.sbd, originals.out, 0)
    return originals


@pytest.fixture(autouse=True)
def _work_as_workers_get_it(monkeypatch):
    """Pass on functions and items pickled, as worker processes get them, where a preparation works in this one."""
    @contextlib.contextmanager
    def pickling_pool(num_workers, title, on_result=None):
        with worker_pool(num_workers, title, on_result) as submit:
            yield lambda *job: submit(*(job if num_workers else pickle.loads(pickle.dumps(job))))

    monkeypatch.setattr(runner, 'worker_pool', pickling_pool)


@pytest.fixture
def run_script(call_script):
    """A function from a script's name and arguments to its status, standard output and standard error."""
    def run(name, *arguments):
        path, = ROOT.glob(f'pyscripts/*/{name}.py')
        status, out, err = call_script(path, *arguments)
        return types.SimpleNamespace(status=status, out=out, err=err)
    return run


@pytest.fixture
def fails(run_script):
    """A function that runs a script and asserts status 2 and one line of error, the last, that holds some words."""
    def check(name, *arguments, naming):
        result = run_script(name, *arguments)
        assert result.status == 2, result.err
        assert 'Traceback' not in result.err
        lines = result.err.rstrip('\n').split('\n')
        assert [line.startswith('error: ') for line in lines] == [False] * (len(lines) - 1) + [True], result.err
        for word in naming:
            assert str(word) in lines[-1]
    return check
