"""A miniature of VOC 2012 and SBD as their owners publish them."""
import contextlib
import pickle

import pytest
from originals import Originals, write_palette, write_rgb
from own_photos import Photos

from spml.prepare import runner, voc12
from spml.prepare.class_list import read_class_list
from spml.utils.workers import worker_pool


@pytest.fixture
def originals(tmp_path, rng):
    """VOC train: 07_a, 07_b; val: 07_c; SBD train: 08_d, 07_a; val: 07_c, 08_e, whose image is not in VOC."""
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
def photos(tmp_path):
    return Photos(tmp_path)


@pytest.fixture
def class_list(tmp_path):
    """A function from the text of a class list to the list."""
    def written(text):
        path = tmp_path / 'classes.txt'
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_class_list(path)
    return written
