import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from spml.inference.crf import CrfParameters
from spml.inference.outputs import denormalise, finish, nearest_resize
from spml.inference.predictors import Prediction

MEANS, STDS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def voc_colour(label):
    """PASCAL VOC's colour of a class below 64, bit by bit."""
    return tuple(sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(2)) for channel in range(3))


def read(path):
    return np.array(Image.open(path))


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


def test_denormalising_a_normalised_image_loses_at_most_one_level():
    original = np.random.default_rng().integers(0, 256, (30, 30, 3))
    image = ((original / 255 - MEANS) / STDS).astype(np.float32)
    difference = original - denormalise(image, MEANS, STDS).astype(int)
    assert set(np.unique(difference)) <= {0, 1}


def test_nearest_resize_is_floor():
    rng = np.random.default_rng()
    for _ in range(5):
        label = rng.integers(0, 256, tuple(rng.integers(1, 30, 2))).astype(np.uint8)
        size = tuple(int(side) for side in rng.integers(1, 40, 2))
        found = nearest_resize(label, size)
        for y in range(size[0]):
            for x in range(size[1]):
                assert found[y, x] == label[y * label.shape[0] // size[0], x * label.shape[1] // size[1]]
        assert found.dtype == np.uint8
    doubled = F.interpolate(torch.from_numpy(label).float()[None, None], scale_factor=2, mode='nearest')[0, 0].numpy()
    np.testing.assert_array_equal(nearest_resize(label, doubled.shape), doubled)


def test_a_finished_image_is_at_its_original_size(tmp_path):
    rng = np.random.default_rng()
    probability = rng.uniform(size=(5, 6, 7)).astype(np.float32)
    probability[3, 0, 0] = probability[1, 0, 0] = 2  # a tie: the first class
    clusters = rng.integers(0, 600, (6, 7))
    finish(Prediction(probability, None, (12, 21), clusters), None, None, None, 'a.b', tmp_path)
    label = read(tmp_path / 'semantic_gray' / 'a.b.png')
    expected = np.array([[probability[:, y // 2, x // 3].argmax() for x in range(21)] for y in range(12)])
    np.testing.assert_array_equal(label, expected)
    assert label[0, 0] == 1
    assert label.dtype == np.uint8
    stored = read(tmp_path / 'semantic_cluster' / 'a.b.png')
    np.testing.assert_array_equal(stored, clusters.repeat(2, 0).repeat(3, 1))
    assert Image.open(tmp_path / 'semantic_cluster' / 'a.b.png').mode.startswith('I')
    colour = read(tmp_path / 'semantic_color' / 'a.b.png')
    for y, x in ((0, 0), (3, 5), (11, 20)):
        assert tuple(colour[y, x]) == voc_colour(int(label[y, x]))


def test_void_is_written_back(tmp_path):
    probability = np.random.default_rng().uniform(size=(4, 5, 5)).astype(np.float32)
    void = np.eye(5, dtype=bool)
    finish(Prediction(probability, None, (5, 5)), None, None, void, 'x', tmp_path)
    label = read(tmp_path / 'semantic_gray' / 'x.png')
    np.testing.assert_array_equal(label, np.where(void, 255, probability.argmax(axis=0)))
    assert not (tmp_path / 'semantic_cluster').exists()


def test_crf_acts_at_the_prediction_s_size(tmp_path):
    densecrf = pytest.importorskip('pydensecrf.densecrf')
    rng = np.random.default_rng()
    probability = rng.uniform(size=(3, 10, 12)).astype(np.float32)
    rgb = rng.integers(0, 256, (10, 12, 3)).astype(np.uint8)
    finish(Prediction(probability, None, (20, 24)), rgb, CrfParameters(iter_max=4), None, 'x', tmp_path)
    crf = densecrf.DenseCRF2D(12, 10, 3)
    crf.setUnaryEnergy(-np.log(np.clip(probability, 1e-5, 1)).reshape(3, -1))
    crf.addPairwiseGaussian(sxy=1, compat=3)
    crf.addPairwiseBilateral(sxy=67, srgb=3, rgbim=rgb, compat=4)
    expected = np.argmax(crf.inference(4), axis=0).reshape(10, 12)
    np.testing.assert_array_equal(read(tmp_path / 'semantic_gray' / 'x.png'), expected.repeat(2, 0).repeat(2, 1))
