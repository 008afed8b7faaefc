import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from naive_segsort import kmeans, normalised, random_units

from spml.segsort import clustering
from spml.segsort.clustering import cluster_image, initial_clusters, spherical_kmeans, sum_by_label
from spml.utils import device


def axis_clusters(k, size):
    """Round i * (k - 1) / (size - 1), half to even, exactly; None where float32 might fall on either side of a half."""
    out = []
    for i in range(size):
        value = Fraction(i * (k - 1), size - 1) if size > 1 else Fraction(0)
        near_half = abs(value - int(value) - Fraction(1, 2)) < Fraction(1, 10 ** 4)
        dyadic = value.denominator & (value.denominator - 1) == 0 and (size - 1) & (size - 2) == 0
        out.append(None if near_half and not dyadic else round(value))
    return out


@pytest.mark.parametrize(('height', 'width', 'grid'), [
    (5, 9, (4, 3)), (9, 5, (2, 5)), (3, 17, (2, 4)), (8, 7, (1, 1)), (1, 1, (3, 3)), (3, 2, (6, 6)), (32, 40, (6, 6))])
def test_initial_clusters(height, width, grid):
    ys, xs = axis_clusters(grid[0], height), axis_clusters(grid[1], width)
    got = initial_clusters(height, width, grid)
    assert got.shape == (height, width)
    assert got.dtype == torch.int64
    ids = sorted({y + grid[0] * x for y in ys for x in xs if y is not None and x is not None})
    assert None not in ys + xs, 'choose sizes without doubtful halves'
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            assert got[i, j] == ids.index(y + grid[0] * x)


def test_initial_clusters_round_half_to_even():
    # 0, 1/2, 1, 3/2, 2 and 0, 1/2, 1.
    assert initial_clusters(5, 1, (3, 1))[:, 0].tolist() == [0, 0, 1, 2, 2]
    assert initial_clusters(1, 3, (1, 2))[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize('moves', [1, 3, 40])
def test_sums_on_a_cpu_follow_the_labels_that_move(moves, rng):
    vectors, labels = torch.from_numpy(rng.standard_normal((64, 5))).float(), torch.from_numpy(rng.integers(0, 4, 64))
    labels[[5, 17, 40]] = 4
    sums_of = clustering._SumsOnCpu(vectors, 5)
    for leaving in (None, 17, 5, 40, None):
        if leaving is not None:
            labels = labels.clone()
            labels[torch.from_numpy(rng.choice([row for row in range(64) if labels[row] < 4], moves - 1))] = 2
            labels[leaving] = 3
        got = sums_of(labels)
        want = torch.stack([vectors[labels == label].double().sum(dim=0) for label in range(5)])
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    # Not what rounding leaves: that would have a direction.
    assert (got[4] == 0).all()


@pytest.mark.parametrize('iterations', [0, 1, 2, 10])
def test_kmeans_of_a_batch_with_different_void_equals_naive_image_by_image(iterations, rng):
    batch, pixels, k = 3, 40, 5
    vectors = random_units(batch, pixels, 4)
    initial = torch.from_numpy(rng.integers(0, k, (batch, pixels)))
    valid = torch.from_numpy(rng.random((batch, pixels)) < 0.7)
    valid[1] = True
    got = spherical_kmeans(vectors, initial, k, iterations, valid)
    assert torch.equal(spherical_kmeans(vectors[1:2], initial[1:2], k, iterations)[0], got[1])
    for b in range(batch):
        keep = valid[b].numpy()
        want = kmeans(vectors[b].numpy()[keep], initial[b].numpy()[keep].tolist(), k, iterations)
        assert got[b][valid[b]].tolist() == want
        assert (got[b][~valid[b]] == k).all()


@pytest.mark.parametrize('chunk', [1, 20, 45, 10 ** 6])
def test_kmeans_does_not_depend_on_the_size_of_chunks(chunk, monkeypatch):
    # Two pixels, four, one image and all images at a time.
    monkeypatch.setattr(device, 'CPU_CHUNK_ELEMENTS', chunk)
    monkeypatch.setattr(clustering, 'TILE', 2)
    vectors, initial = random_units(3, 9, 4), torch.from_numpy(np.random.default_rng().integers(0, 5, (3, 9)))
    valid = torch.rand(3, 9) < 0.8
    got = spherical_kmeans(vectors, initial, 5, 4, valid)
    for b in range(3):
        keep = valid[b].numpy()
        assert got[b][valid[b]].tolist() == kmeans(vectors[b].numpy()[keep], initial[b][valid[b]].tolist(), 5, 4)


def test_kmeans_of_vectors_that_are_not_finite_gives_some_clusters():
    vectors = random_units(2, 9, 4)
    vectors[0, 3], vectors[1] = math.nan, math.inf
    got = spherical_kmeans(vectors, torch.arange(9).expand(2, -1) % 3, 3, 2)
    assert ((got >= 0) & (got < 3)).all()


def test_kmeans_of_narrow_floats_is_computed_in_float32():
    # 300 clusters are more than bfloat16 tells apart.
    vectors = random_units(1, 900, 3).bfloat16()
    initial = torch.arange(900)[None] % 300
    assert torch.equal(spherical_kmeans(vectors, initial, 300, 1), spherical_kmeans(vectors.float(), initial, 300, 1))


@pytest.mark.parametrize(('iterations', 'want'), [
    # Equal prototypes: all tie to the first and cluster 1 empties; its zero prototype then beats -1.
    (0, [0, 0, 0, 1, 0]), (1, [0, 0, 0, 0, 0]), (2, [0, 0, 0, 0, 1]), (3, [0, 0, 0, 0, 1])])
def test_ties_go_to_the_first_and_an_emptied_cluster_wins_again(iterations, want):
    vectors = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [-1, 0]])
    initial = torch.tensor([0, 0, 0, 1, 0])
    got = spherical_kmeans(vectors[None], initial[None], 2, iterations)
    assert got[0].tolist() == want
    assert kmeans(vectors.double().numpy(), initial.tolist(), 2, iterations) == want


def test_kmeans_records_no_gradient():
    vectors = random_units(1, 8, 3).requires_grad_()
    got = spherical_kmeans(vectors, torch.arange(8)[None] % 2, 2, 2)
    assert not got.requires_grad
    # Its labels take part in graphs nevertheless.
    sum_by_label(vectors[0], got[0], 2).sum().backward()
    torch.testing.assert_close(vectors.grad, torch.ones_like(vectors))


def test_cluster_image():
    vectors = np.random.default_rng().standard_normal((5, 9, 3))
    vectors = np.stack([[normalised(vector) for vector in row] for row in vectors])
    got, k = cluster_image(torch.from_numpy(vectors), (2, 3), 4)
    ys, xs = axis_clusters(2, 5), axis_clusters(3, 9)
    initial = [y + 2 * x for y in ys for x in xs]
    assert k == 6
    assert got.flatten().tolist() == kmeans(vectors.reshape(-1, 3), initial, 6, 4)
