"""Whatever bytes a file holds, reading it gives a result or one line of error from this project, within 1 GiB.

`pytest tests/fuzz` reads some dozens to hundreds of cases with each reader, the slow tests 1,000 to 10,000; where
bytes are not bounded, they print how long it took.
"""
import math
import pathlib
import subprocess
import sys
import time
import warnings

import hypothesis.configuration
import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spml import config as configuration
from spml.data.lists import parse_list, read_list
from spml.data.readers import read_cam, read_image, read_label, read_prototypes
from spml.errors import SpmlError
from spml.models.weights import read_checkpoint
from spml.program import one_line


def is_image(image, path):
    assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)


def is_label(label, path):
    assert (label.dtype, label.ndim) == (np.uint8, 2)


def are_cams(cams, path):
    assert all(type(key) is int and 0 <= key < 254 for key in cams)
    assert len({cam.shape for cam in cams.values()}) <= 1
    for cam in cams.values():
        assert (cam.dtype, cam.ndim) == (np.float32, 2)
        assert -0.01 <= cam.min() <= cam.max() <= 1.01


def are_prototypes(result, path):
    prototypes, labels = result
    assert (prototypes.dtype, labels.dtype) == (np.float32, np.int64)
    assert prototypes.ndim == 2
    assert labels.shape == prototypes.shape[:1]
    assert np.isfinite(prototypes).all()
    assert all(0 <= label <= 255 for label in labels)


def are_inside(entries, path):
    assert entries
    for entry in entries:
        for field, place in zip(entry.fields, (entry.image, entry.semantic, entry.regions), strict=False):
            if place is None:
                assert field == '-'
                continue
            inside = pathlib.Path(place).is_relative_to(path.parent)
            assert inside or field.startswith('/')
            assert '..' not in place.parts
        assert all(0 <= tag < 254 for tag in entry.tags)


def are_parsed(result, path):
    entries, errors = result
    assert not any(field.startswith('/') for entry in entries for field in entry.fields)
    for error in errors:
        check_error(error, str(path))


def is_configuration(config, path):
    assert configuration.resolve(configuration.to_dict(config)) == config
    assert math.isfinite(config.train.base_lr)


def is_dict(content, path):
    assert isinstance(content, dict)


READERS = {
    'image': (read_image, strategies.PICTURES, is_image),
    'label': (read_label, strategies.LABELS, is_label),
    'cam': (read_cam, strategies.CAMS, are_cams),
    'prototypes': (read_prototypes, strategies.PROTOTYPES, are_prototypes),
    'list': (lambda path: read_list(path, path.parent), strategies.LISTS, are_inside),
    'parsed list': (lambda path: parse_list(path, path.parent, allow_absolute=False), strategies.LISTS, are_parsed),
    'yaml': (configuration.load_config, strategies.YAML_FILES, is_configuration),
    'mapping': (lambda drawn: configuration.resolve(*drawn),
                st.tuples(strategies.CONFIGURATIONS, strategies.OVERRIDES), is_configuration),
    'checkpoint': (read_checkpoint, strategies.CHECKPOINTS, is_dict),
}


def check_error(error, name):
    line = one_line(error)
    assert line.isprintable()
    assert len(line) < 2000
    assert name in line


def read_cases(read, strategy, check, path, number):
    """Give a reader `number` files or mappings; return how many could be read and how many could not."""
    counts = {True: 0, False: 0}

    @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(drawn):
        from_file = isinstance(drawn, bytes)
        if from_file:
            path.write_bytes(drawn)
        try:
            result = read(path if from_file else drawn)
        except SpmlError as error:
            check_error(error, str(path) if from_file else '')
            counts[False] += 1
        else:
            check(result, path)
            counts[True] += 1

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # decoders and numpy warn of what they find odd
        run()
    return counts[True], counts[False]


@pytest.mark.parametrize('number', [250, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize('reader', READERS)
def test_any_bytes_give_a_result_or_one_line(tmp_path, tmp_path_factory, capfd, reader, number):
    hypothesis.configuration.set_hypothesis_home_dir(tmp_path_factory.getbasetemp() / 'hypothesis')
    began = time.monotonic()
    good, bad = read_cases(*READERS[reader], tmp_path / 'file.txt', number)
    if number >= 10_000:
        with capfd.disabled():
            print(f'\n{reader}: {good + bad} cases in {time.monotonic() - began:.0f} s, {good} read, {bad} refused')
    assert good > 0  # not everything is refused for the same trivial reason
    assert bad > 0
    assert good + bad >= number


PROGRAM = pathlib.Path(__file__).with_name('bounded.py')


@pytest.mark.parametrize('number', [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_reader_takes_more_than_a_gibibyte(tmp_path, rng, number):
    seed = int(rng.integers(2 ** 32))
    ended = subprocess.run([sys.executable, PROGRAM, str(seed), str(number), tmp_path], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    counts = {name: (int(good), int(bad)) for name, good, bad in map(str.split, ended.stdout.splitlines())}
    assert len(counts) == 10
    for name, (good, bad) in counts.items():
        assert good + bad == number
        assert bad > 0, name


def test_the_limit_is_one(tmp_path):
    """A reader that takes what a file states is found."""
    program = ('import sys, pathlib\nsys.path.insert(0, sys.argv[4])\nimport bounded\n'
               'bounded.READERS = {"cam": lambda path: bytearray(3 << 30)}\n'
               'bounded.main(1, 1, pathlib.Path(sys.argv[3]))')
    ended = subprocess.run([sys.executable, '-c', program, '1', '1', tmp_path, PROGRAM.parent], capture_output=True,
                           text=True)
    assert ended.returncode == 1
    assert 'AssertionError: cam, seed 1, case 0: MemoryError' in ended.stderr
