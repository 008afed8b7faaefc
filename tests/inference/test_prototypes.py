import collections

import naive_inference as naive
import numpy as np
import pytest
import torch
from naive_layers import nearest

from spml.errors import DataError
from spml.inference.predictors import Embedder, image_prototypes, load_prototypes

CPU = torch.device('cpu')
CROP, STRIDE, GRID, ITERATIONS = (20, 24), (10, 12), (2, 3), 2


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
