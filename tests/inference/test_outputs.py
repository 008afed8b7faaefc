import dataclasses
import sys

import naive_inference as naive
import numpy as np
import pytest
from PIL import Image

from spml.errors import SpmlError
from spml.inference.outputs import (
    CrfParameters,
    Finish,
    Prediction,
    crf_marginals,
    denormalise,
    require_crf,
    write_label_maps,
)

MEANS, STDS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def voc_colour(label):
    """PASCAL VOC's colour of a class below 64, bit by bit."""
    return tuple(sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(2)) for channel in range(3))


def read(folder, name='x', kind='semantic_gray'):
    return np.array(Image.open(folder / kind / f'{name}.png'))


def finished(folder, probability, size=None, how=None, known=None, **more):
    """The grey label map that is written for a Prediction."""
    prediction = Prediction(probability, more.pop('image', None), size or probability.shape[1:], **more)
    assert write_label_maps(prediction, how or Finish(), known, 'x', folder) == 'x'
    return read(folder)


def test_denormalised_bytes_are_truncated():
    exact = np.random.default_rng().uniform(-30, 290, (40, 50, 3))
    near = np.abs(exact - np.round(exact)) < 1e-3  # where float32 may fall on either side
    exact[near] += 0.3
    image = ((exact / 255 - MEANS) / STDS).astype(np.float32)
    kept = image.copy()
    found = denormalise(image, MEANS, STDS)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.floor(np.clip(exact, 0, 255)))
    np.testing.assert_array_equal(image, kept)


def test_a_finished_image_is_at_its_original_size(tmp_path, rng):
    probability = rng.uniform(size=(5, 6, 7)).astype(np.float32)
    probability[3, 0, 0] = probability[1, 0, 0] = 2  # a tie: the first class
    clusters, unlabelled = rng.integers(0, 600, (6, 7)), rng.uniform(size=(6, 7)) < 0.3
    unlabelled[0, 0] = False
    known = np.full((12, 21), 254, np.uint8)
    known[np.eye(12, 21, 5, dtype=bool)], known[3, :4] = 255, 2
    label = finished(tmp_path, probability, (12, 21), known=known, clusters=clusters, unlabelled=unlabelled)
    small = np.where(unlabelled, 254, probability.argmax(axis=0))
    np.testing.assert_array_equal(label, np.where(known < 254, known,
                                                  np.where(known == 255, 255, small.repeat(2, 0).repeat(3, 1))))
    assert (label[0, 0], label.dtype) == (1, np.uint8)
    np.testing.assert_array_equal(read(tmp_path, kind='semantic_cluster'), clusters.repeat(2, 0).repeat(3, 1))
    assert Image.open(tmp_path / 'semantic_cluster' / 'x.png').mode.startswith('I')
    colour = read(tmp_path, kind='semantic_color')
    for y, x in np.argwhere(label < 5)[::20]:
        assert tuple(colour[y, x]) == voc_colour(int(label[y, x]))


def between(values):
    """A threshold in the middle of random values, at a distance from each of them."""
    ordered = np.unique(values)
    ordered = ordered[len(ordered) // 4:-len(ordered) // 4]
    widest = np.diff(ordered).argmax()
    return float(ordered[widest] + ordered[widest + 1]) / 2


def share_of_largest(scores):
    """The largest of (C, h, w) scores over their sum, pixel by pixel; 0 where all are 0."""
    scores = scores.astype(np.float64)
    sizes = scores.shape[1:]
    return np.array([[max(pixel) / sum(pixel) if any(pixel) else 0
                      for pixel in (scores[:, y, x] for x in range(sizes[1]))] for y in range(sizes[0])])


@pytest.mark.parametrize('scale', [0.01, 1, 40])  # walked scores are not probabilities: their sums are anything
def test_uncertain_pixels_stay_unlabelled(tmp_path, scale, rng):
    scores = (scale * rng.uniform(size=(4, 9, 11)) ** 3).astype(np.float32)
    scores[:, 2, 3] = 0
    threshold = between(share_of_largest(scores))
    void = rng.uniform(size=(9, 11)) < 0.2
    label = finished(tmp_path, scores, how=Finish(threshold=threshold), known=np.where(void, 255, 254).astype(np.uint8))
    uncertain = share_of_largest(scores) < threshold
    assert uncertain[2, 3]
    assert 0 < uncertain.sum() < uncertain.size
    expected = np.where(void, 255, np.where(uncertain, 254, scores.argmax(axis=0)))
    np.testing.assert_array_equal(label, expected)
    colour = read(tmp_path, kind='semantic_color')
    assert set(map(tuple, colour[expected == 254].tolist())) == {(72, 72, 72)}
    assert set(map(tuple, colour[expected == 255].tolist())) == {(224, 224, 192)}
    assert not (tmp_path / 'semantic_cluster').exists()


def test_only_certain_pixels_reach_a_threshold_of_one(tmp_path):
    scores = np.random.default_rng().uniform(0.1, 1, (3, 4, 4)).astype(np.float32)
    scores[1:, 0] = 0
    label = finished(tmp_path, scores, how=Finish(threshold=1.0))
    np.testing.assert_array_equal(label, [[0] * 4] + [[254] * 4] * 3)


def test_with_crf_its_marginals_are_the_confidence_at_the_prediction_s_size(tmp_path, rng):
    probability = rng.uniform(size=(3, 14, 12)).astype(np.float32)
    rgb = rng.integers(0, 256, (14, 12, 3)).astype(np.uint8)
    marginals = naive.crf(probability, rgb, 4)
    label = finished(tmp_path, probability, (28, 24), Finish(CrfParameters(iter_max=4)), image=rgb)
    np.testing.assert_array_equal(label, marginals.argmax(axis=0).repeat(2, 0).repeat(2, 1))
    marginals = naive.crf(probability, rgb, 2, pos_w=1, bi_w=1)
    threshold = between(marginals.max(axis=0))
    expected = np.where(marginals.max(axis=0) < threshold, 254, marginals.argmax(axis=0))
    assert 0 < (expected == 254).sum() < expected.size
    how = Finish(CrfParameters(iter_max=2, pos_w=1, bi_w=1), threshold)
    np.testing.assert_array_equal(finished(tmp_path, probability, how=how, image=rgb), expected)


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
