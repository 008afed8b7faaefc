"""Both predictors on a fake network, against METHOD.md, "Inference", written out naively."""
import naive_inference as naive
import numpy as np
import pytest
import torch

from spml.inference.predictors import MULTI_SCALE_RATIOS, Embedder, RetrievalPredictor, SoftmaxPredictor, predict

CPU = torch.device('cpu')
CROP, STRIDE = (20, 24), (10, 12)
GRID, ITERATIONS = (2, 3), 3


@pytest.fixture
def network():
    return naive.FakeNetwork()


@pytest.fixture
def embedder(network):
    return Embedder(network, CROP, STRIDE, CPU)


@pytest.fixture
def memory(rng):
    """60 stored prototypes and their labels."""
    return naive.unit(rng.normal(size=(60, 5)), 1), rng.integers(0, 3, 60)


def retrieval(embedder, memory):
    return RetrievalPredictor(embedder, torch.from_numpy(memory[0]), torch.from_numpy(memory[1]), 3, GRID, ITERATIONS)


def fitted(image, image_size):
    """The single scale's view, (3, h, w)."""
    ratio = min(image_size / image.shape[0], image_size / image.shape[1])
    return naive.resize(image.transpose(2, 0, 1), [int(ratio * side) for side in image.shape[:2]])


@pytest.mark.parametrize(('size', 'image_size'), [((37, 29), 48), ((9, 60), 30), ((25, 25), 0)])
def test_softmax_single_scale(network, embedder, size, image_size):
    head, image = naive.FakeHead(), naive.random_image(*size)
    found = predict(image, SoftmaxPredictor(embedder, head), image_size)
    view = fitted(image, image_size) if image_size else image.transpose(2, 0, 1)
    logits = naive.windows(lambda crop: head.logits(network.embed(crop)), view, CROP, STRIDE)
    logits = logits[:, :view.shape[1], :view.shape[2]]
    np.testing.assert_allclose(found.probability, naive.softmax(logits), atol=1e-5)
    np.testing.assert_allclose(found.image, view.transpose(1, 2, 0), atol=1e-5)
    assert found.size == size
    assert found.clusters is None


def test_softmax_multi_scale(network, embedder):
    head, image = naive.FakeHead(), naive.random_image(27, 31)
    found = predict(image, SoftmaxPredictor(embedder, head), 12, ratios=MULTI_SCALE_RATIOS)
    total = []
    for view, mirrored in naive.views(image, (0.5, 0.75, 1, 1.25, 1.5)):
        logits = naive.windows(lambda crop: head.logits(network.embed(crop)), view, CROP, STRIDE)
        logits = logits[:, :view.shape[1], :view.shape[2]]
        logits = naive.resize(logits[:, :, ::-1] if mirrored else logits, (27, 31))
        total.append(naive.softmax(logits))
    assert len(total) == 10
    np.testing.assert_allclose(found.probability, np.mean(total, axis=0), atol=1e-5)
    np.testing.assert_array_equal(found.image, image)
    assert found.size == (27, 31)


@pytest.mark.parametrize('size', [(16, 18), (30, 34)])  # within the crop: padded; beyond it: several windows
def test_retrieval_single_scale(network, embedder, memory, size):
    image = naive.random_image(*size)
    found = predict(image, retrieval(embedder, memory), 0)
    embedding = naive.windows(lambda crop: naive.unit(network.embed(crop), 0), image.transpose(2, 0, 1), CROP, STRIDE)
    clusters = naive.cluster(embedding, size, GRID, ITERATIONS, span=embedding.shape[1:])
    expected = naive.retrieve(embedding[:, :size[0], :size[1]], clusters, *memory)
    np.testing.assert_array_equal(found.clusters, clusters)
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)


def test_retrieval_multi_scale(network, embedder, memory):
    image = naive.random_image(16, 24)  # padded below scale 1.25, so the grids' span shows
    found = predict(image, retrieval(embedder, memory), 0, ratios=MULTI_SCALE_RATIOS)
    ratios = (0.5, 0.75, 1, 1.25, 1.5)
    expected = naive.retrieve_pyramid(image, network, CROP, STRIDE, GRID, ITERATIONS, ratios, *memory)
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)
    assert found.clusters is None
