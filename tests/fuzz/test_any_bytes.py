"""Whatever bytes a file holds, reading it gives a result or one line of error from this project.

`pytest tests/fuzz` reads a few hundred cases with each reader. The slow tests read 10,000 and print how many there were
and how long they took.
"""
import math
import pathlib
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

QUICK, SLOW = 250, 10_000


def is_image(image, path):
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3


def is_label(label, path):
    assert label.dtype == np.uint8
    assert label.ndim == 2


def are_cams(cams, path):
    assert all(type(key) is int and 0 <= key < 254 for key in cams)
    assert len({cam.shape for cam in cams.values()}) <= 1
    for cam in cams.values():
        assert cam.dtype == np.float32
        assert cam.ndim == 2
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
            inside = pathlib.Path(place).is_relative_to(path.parent)
            assert inside or field.startswith('/')
            assert '..' not in place.parts


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
    'yaml': (configuration.load_config, strategies.YAML_FILES, is_configuration),
    'checkpoint': (read_checkpoint, strategies.CHECKPOINTS, is_dict),
}


def fuzz(strategy, case, number):
    """Call `case` on `number` draws and return how many of them it was."""
    done = []

    @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(drawn):
        done.append(1)
        case(drawn)

    run()
    return len(done)


def check_error(error, name):
    line = one_line(error)
    assert line.isprintable()
    assert len(line) < 2000
    assert name in line


def read_cases(reader, folder, number):
    """Read `number` files with a reader; return how many could be read and how many could not."""
    read, strategy, check = READERS[reader]
    path, counts = folder / 'file.txt', {True: 0, False: 0}

    def case(content):
        path.write_bytes(content)
        try:
            result = read(path)
        except SpmlError as error:
            check_error(error, str(path))
            counts[False] += 1
        else:
            check(result, path)
            counts[True] += 1

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # decoders and numpy warn of what they find odd
        fuzz(strategy, case, number)
    return counts[True], counts[False]


@pytest.fixture(autouse=True)
def _no_traces(tmp_path_factory):
    hypothesis.configuration.set_hypothesis_home_dir(tmp_path_factory.getbasetemp() / 'hypothesis')


@pytest.mark.parametrize('reader', READERS)
def test_any_bytes_give_a_result_or_one_line(tmp_path, reader):
    good, bad = read_cases(reader, tmp_path, QUICK)
    assert good > 0  # not everything is refused for the same trivial reason
    assert bad > 0
    assert good + bad >= QUICK


@pytest.mark.slow
@pytest.mark.parametrize('reader', READERS)
def test_ten_thousand_cases_of_any_bytes(tmp_path, reader, capfd):
    began = time.monotonic()
    good, bad = read_cases(reader, tmp_path, SLOW)
    with capfd.disabled():
        print(f'\n{reader}: {good + bad} cases in {time.monotonic() - began:.0f} s, {good} read, {bad} refused')
    assert good + bad >= SLOW


def resolve_case(drawn):
    mapping, overrides = drawn
    try:
        config = configuration.resolve(mapping, overrides)
    except SpmlError as error:
        check_error(error, '')
    else:
        is_configuration(config, None)


CONFIGURATIONS = st.tuples(strategies.CONFIGURATIONS, strategies.OVERRIDES)


def test_any_mapping_and_overrides_give_a_configuration_or_one_line():
    assert fuzz(CONFIGURATIONS, resolve_case, QUICK) >= QUICK


@pytest.mark.slow
def test_ten_thousand_mappings_and_overrides(capfd):
    began = time.monotonic()
    number = fuzz(CONFIGURATIONS, resolve_case, SLOW)
    with capfd.disabled():
        print(f'\nschema: {number} cases in {time.monotonic() - began:.0f} s')
    assert number >= SLOW


def test_a_list_that_is_parsed_past_its_errors_never_fails(tmp_path):
    path = tmp_path / 'list.txt'

    def case(content):
        path.write_bytes(content)
        try:
            entries, errors = parse_list(path, tmp_path, allow_absolute=False)
        except SpmlError as error:
            check_error(error, str(path))
            return
        for entry in entries:
            assert not any(field.startswith('/') for field in entry.fields)
        for error in errors:
            check_error(error, str(path))

    fuzz(strategies.LISTS, case, QUICK)
