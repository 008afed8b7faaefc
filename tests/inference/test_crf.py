import dataclasses
import sys

import numpy as np
import pytest

from spml.errors import SpmlError
from spml.inference.crf import CrfParameters, crf_marginals, require_crf


def scene(num_classes=3, height=23, width=31):
    """Coarse probabilities (not summing to 1, with zeros) and an image of two colours."""
    rng = np.random.default_rng()
    probability = rng.uniform(0, 1.2, (num_classes, height, width)).astype(np.float32)
    probability[rng.integers(num_classes), :5] = 0
    image = np.full((height, width, 3), 90, np.uint8)
    image[:, width // 2:] = 160
    return probability, image + rng.integers(0, 6, image.shape).astype(np.uint8)


def labels(probability, image, parameters):
    return crf_marginals(probability, image, parameters).argmax(axis=0)


def reference(probability, image, iterations, pos_xy, pos_w, bi_xy, bi_rgb, bi_w):
    """pydensecrf called directly, with the unary written out."""
    densecrf = pytest.importorskip('pydensecrf.densecrf')
    num_classes, height, width = probability.shape
    unary = -np.log(np.clip(probability, 1e-5, 1.0)).reshape(num_classes, -1).astype(np.float32)
    crf = densecrf.DenseCRF2D(width, height, num_classes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary))
    crf.addPairwiseGaussian(sxy=pos_xy, compat=pos_w)
    crf.addPairwiseBilateral(sxy=bi_xy, srgb=bi_rgb, rgbim=np.ascontiguousarray(image), compat=bi_w)
    return np.argmax(crf.inference(iterations), axis=0).reshape(height, width)


def test_published_parameters():
    for _ in range(3):
        probability, image = scene()
        label = labels(probability, image, CrfParameters())
        np.testing.assert_array_equal(label, reference(probability, image, 10, 1, 3, 67, 3, 4))


def test_marginals_are_probabilities_of_which_the_label_is_the_largest():
    pytest.importorskip('pydensecrf')
    probability, image = scene()
    marginals = crf_marginals(probability, image, CrfParameters(iter_max=3))
    assert marginals.shape == probability.shape
    assert marginals.dtype == np.float32
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(marginals.argmax(axis=0), reference(probability, image, 3, 1, 3, 67, 3, 4))


def test_every_parameter_arrives():
    probability, image = scene()
    values = (3, 2.5, 1.5, 20.0, 9.0, 6.0)
    names = ('iter_max', 'pos_xy_std', 'pos_w', 'bi_xy_std', 'bi_rgb_std', 'bi_w')
    label = labels(probability, image, CrfParameters(**dict(zip(names, values, strict=True))))
    np.testing.assert_array_equal(label, reference(probability, image, *values))
    assert {field.name for field in dataclasses.fields(CrfParameters)} == set(names)


def test_views_of_arrays_are_taken():
    probability, image = scene()
    expected = labels(probability, image, CrfParameters())
    flipped = labels(probability[:, :, ::-1].copy()[:, :, ::-1], image[:, ::-1].copy()[:, ::-1], CrfParameters())
    np.testing.assert_array_equal(flipped, expected)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pydensecrf.densecrf', None)
    with pytest.raises(SpmlError, match='pip install pydensecrf2'):
        require_crf()
