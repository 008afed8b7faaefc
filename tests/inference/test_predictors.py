"""Both predictors on a fake network, against METHOD.md, "Inference", written out naively."""
import collections

import naive_inference as naive
import numpy as np
import pytest
import torch
from naive_layers import nearest

from spml.errors import DataError
from spml.inference.predictors import (
    MULTI_SCALE_RATIOS,
    Embedder,
    RetrievalPredictor,
    SoftmaxPredictor,
    image_prototypes,
    load_prototypes,
    predict,
)

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


def expected_prototypes(network, view, label):
    """Prototypes, labels and clusters of one view; the grids span the padded map."""
    embedding = naive.windows(lambda crop: naive.unit(network.embed(crop), 0), view, CROP, STRIDE)
    size = view.shape[1:]
    clusters = naive.cluster(embedding, size, GRID, ITERATIONS, span=embedding.shape[1:])
    label, labels = nearest(label, size), []
    vectors = naive.prototypes(embedding[:, :size[0], :size[1]], clusters)
    for k in vectors:
        counts = collections.Counter(label[clusters == k].tolist())
        most = max(counts.values())
        labels.append(min(value for value, count in counts.items() if count == most))
    return np.stack(list(vectors.values())), labels, clusters


@pytest.mark.parametrize(('size', 'multi_scale', 'image_size'), [
    ((16, 16), False, 0), ((24, 32), False, 0), ((16, 16), True, 0), ((24, 32), True, 0), ((12, 16), False, 32)])
def test_prototypes_and_their_majority_labels(size, multi_scale, image_size):
    network, image = naive.FakeNetwork(), naive.random_image(*size)
    label = np.random.default_rng().choice([0, 2, 200, 255], size).astype(np.uint8)
    found = image_prototypes(Embedder(network, CROP, STRIDE, CPU), image, label, GRID, ITERATIONS,
                             image_size, multi_scale)
    ratios = (0.5, 1, 1.5) if multi_scale else (image_size / max(size) if image_size else 1,)
    parts = [expected_prototypes(network, view, label)
             for view, _ in naive.views(image, ratios, mirrors=False)]
    np.testing.assert_allclose(found[0], np.concatenate([part[0] for part in parts]), atol=1e-5)
    np.testing.assert_array_equal(found[1], np.concatenate([part[1] for part in parts]))
    np.testing.assert_array_equal(found[2], parts[-1][2])


def store(folder, name, labels, dim=4):
    folder.mkdir(exist_ok=True)
    vectors = np.random.default_rng().normal(size=(len(labels), dim)).astype(np.float32)
    np.savez(folder / f'{name}.npz', prototype=vectors, prototype_label=np.array(labels, np.int64))
    return vectors


def test_stored_prototypes_are_all_files_in_order_without_void(tmp_path):
    second = store(tmp_path, 'b', [255, 0, 2, 1] * 4)
    first = store(tmp_path, 'a', [1, 255] + [2] * 12)
    vectors, labels = load_prototypes(tmp_path, 4, 3)
    kept = np.concatenate([first[[0, *range(2, 14)]], second[[i for i in range(16) if i % 4]]])
    np.testing.assert_allclose(vectors.numpy(), kept / np.linalg.norm(kept, axis=1, keepdims=True), rtol=1e-5)
    assert labels.tolist() == [1] + [2] * 12 + [0, 2, 1] * 4
    assert vectors.dtype == torch.float32


def test_twenty_prototypes_that_have_a_class_are_needed(tmp_path):
    store(tmp_path, 'a', [0] * 19 + [255] * 30)
    with pytest.raises(DataError, match=f'{tmp_path}: 19 .*20'):
        load_prototypes(tmp_path, 4, 3)
    store(tmp_path, 'b', [1])
    assert len(load_prototypes(tmp_path, 4, 3)[1]) == 20


def test_prototypes_of_another_network_are_refused(tmp_path):
    store(tmp_path, 'good', [0] * 30)
    store(tmp_path, 'other', [0] * 30, dim=5)
    with pytest.raises(DataError, match=r'other\.npz: .*D = 5.*D = 4'):
        load_prototypes(tmp_path, 4, 3)


@pytest.mark.parametrize('name', ['missing', '.'])
def test_a_folder_without_prototypes_is_named(tmp_path, name):
    with pytest.raises(DataError, match=r'no prototypes .*semantic_prototype'):
        load_prototypes(tmp_path / name, 4, 3)
