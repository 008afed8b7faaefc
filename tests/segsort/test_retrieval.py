import numpy as np
import pytest
import torch
from naive_segsort import normalised, random_units

from spml.segsort.retrieval import NEIGHBOURS, cluster_prototypes, majority_labels, nearest_label_counts
from spml.utils import device


def test_cluster_prototypes(rng):
    vectors, clusters = rng.standard_normal((50, 4)) * 5, rng.choice([2, 5, 6, 11], 50)
    clusters[:4] = [2, 5, 6, 11]
    prototypes, ids = cluster_prototypes(torch.from_numpy(vectors), torch.from_numpy(clusters))
    assert prototypes.shape == (4, 4)
    for n, cluster in enumerate(clusters):
        want = normalised(sum(normalised(vector) for vector in vectors[clusters == cluster]))
        np.testing.assert_allclose(prototypes[ids[n]], want, atol=1e-12)
        assert ((ids == ids[n]).numpy() == (clusters == cluster)).all()


def test_majority_labels(rng):
    clusters, labels = rng.integers(0, 8, 60), rng.choice([0, 3, 7, 255], 60)
    clusters[:8] = range(8)
    got = majority_labels(torch.from_numpy(clusters), torch.from_numpy(labels), 8)
    for cluster in range(8):
        members = labels[clusters == cluster].tolist()
        most = max(members.count(label) for label in members)
        assert got[cluster] == min(label for label in members if members.count(label) == most)


def test_majority_ties_go_to_the_smallest_and_void_competes():
    clusters = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    labels = torch.tensor([9, 4, 4, 9, 255, 255, 1, 255, 254])
    assert majority_labels(clusters, labels, 3).tolist() == [4, 255, 254]


@pytest.mark.parametrize('count', [20, 31, 32, 57, 700, 1024])
@pytest.mark.parametrize('chunk', [1, 10 ** 6])
def test_nearest_label_counts(count, chunk, monkeypatch, rng):
    # One tile of prototypes at a time, and all of them.
    monkeypatch.setattr(device, 'CPU_CHUNK_ELEMENTS', chunk)
    queries, prototypes, labels = random_units(9, 4), random_units(count, 4), rng.integers(0, 6, count)
    got = nearest_label_counts(queries, prototypes, torch.from_numpy(labels), 6)
    for q in range(9):
        dots = [float((queries[q] * prototype).sum()) for prototype in prototypes]
        nearest = sorted(range(count), key=lambda m: -dots[m])[:20]
        assert got[q].tolist() == [sum(labels[m] == c for m in nearest) for c in range(6)]
    assert NEIGHBOURS == 20
    assert (got.sum(dim=1) == 20).all()


def test_retrieved_label_is_the_smallest_on_ties():
    prototypes = torch.tensor([[1.0, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    counts = nearest_label_counts(torch.tensor([[1.0, 0]]), prototypes, torch.tensor([2, 1, 0, 0]), 3, neighbours=2)
    assert counts.tolist() == [[0, 1, 1]]
    assert counts.argmax(dim=1).tolist() == [1]
