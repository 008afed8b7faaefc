import dataclasses
import sys

import naive_inference as naive
import numpy as np
import pytest

from spml.errors import SpmlError
from spml.inference.crf import CrfParameters, crf_marginals, require_crf


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
    assert not given or given.keys() == {field.name for field in dataclasses.fields(CrfParameters)}


def test_views_of_arrays_are_taken(scene):
    pytest.importorskip('pydensecrf')
    flipped = [array[:, ::-1].copy()[:, ::-1] for array in scene]
    np.testing.assert_array_equal(crf_marginals(*flipped, CrfParameters()), crf_marginals(*scene, CrfParameters()))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', None)
    with pytest.raises(SpmlError, match='pip install pydensecrf2'):
        require_crf()
