import dataclasses
import sys

import naive_inference as naive
import numpy as np
import pytest

from spml.errors import SpmlError
from spml.inference.outputs import CrfParameters, crf_marginals, require_crf


@pytest.fixture
def scene(rng):
    """Coarse probabilities (not summing to 1, with zeros) and an image of two colours."""
    probability = rng.uniform(0, 1.2, (3, 23, 31)).astype(np.float32)
    probability[rng.integers(3), :5] = 0
    image = np.full((23, 31, 3), 90, np.uint8)
    image[:, 15:] = 160
    return probability, image + rng.integers(0, 6, image.shape).astype(np.uint8)


@pytest.mark.parametrize('given', [{}, {'iter_max': 3, 'pos_xy_std': 2.5, 'pos_w': 1.5, 'bi_xy_std': 20.0,
                                        'bi_rgb_std': 9.0, 'bi_w': 6.0}])
def test_marginals_are_the_library_s(scene, given):
    expected = naive.crf(*scene, **given)
    marginals = crf_marginals(*scene, CrfParameters(**given))
    np.testing.assert_array_equal(marginals, expected)
    assert marginals.dtype == np.float32
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)
    assert not given or {*given, 'merge_below'} == {field.name for field in dataclasses.fields(CrfParameters)}


@pytest.fixture
def many_classes(scene, rng):
    """Three classes of 12 that a pixel may have, the others with scores below 1e-5, and an image."""
    probability = rng.uniform(0, 9e-6, (12, 23, 31)).astype(np.float32)
    possible = sorted(rng.choice(12, 3, replace=False))
    # In places nothing is known.
    probability[possible] = scene[0] * (rng.random((23, 31)) < 0.8)
    return probability, scene[1], possible


def test_classes_that_are_nowhere_can_be_computed_as_one(many_classes):
    probability, image, possible = many_classes
    expected = naive.crf(probability, image)
    found = crf_marginals(probability, image, CrfParameters(merge_below=1e-5))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert found.dtype == np.float32
    second, first = np.sort(expected, axis=0)[-2:]
    clear = first - second > 1e-4
    assert clear.mean() > 0.7
    np.testing.assert_array_equal(found.argmax(axis=0)[clear], expected.argmax(axis=0)[clear])
    assert set(expected.argmax(axis=0)[clear]) <= set(possible)


def test_a_larger_bound_is_an_approximation(many_classes, rng):
    probability, image, possible = many_classes
    rare = [index for index in range(12) if index not in possible]
    probability[rare] = rng.uniform(0, 0.004, (9, 23, 31))
    probability[possible[0]] += 0.05
    expected = naive.crf(probability, image)
    found = crf_marginals(probability, image, CrfParameters(merge_below=0.005))
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=0.05)
    exact = crf_marginals(probability, image, CrfParameters(merge_below=1e-5))
    np.testing.assert_array_equal(exact, expected)


def test_classes_of_which_all_are_below_the_bound(scene):
    probability = np.zeros((4, 23, 31), np.float32)
    found = crf_marginals(probability, scene[1], CrfParameters(merge_below=0.5))
    np.testing.assert_allclose(found, 0.25, atol=1e-4)


def test_views_of_arrays_are_taken(scene):
    pytest.importorskip('pydensecrf')
    flipped = [array[:, ::-1].copy()[:, ::-1] for array in scene]
    np.testing.assert_array_equal(crf_marginals(*flipped, CrfParameters()), crf_marginals(*scene, CrfParameters()))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', None)
    with pytest.raises(SpmlError, match='pip install pydensecrf2'):
        require_crf()
