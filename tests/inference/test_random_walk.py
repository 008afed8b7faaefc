"""The walk's transition and its scores, on embeddings as trained networks give them, against float64."""
import naive_inference as naive
import numpy as np
import pytest
import torch

from spml.inference.pseudo_labels import affinity, transition, walk

GRID = (12, 15)


def clustered(rng, classes=8, channels=16, noise=0.05):
    """Return (1, D, *GRID) float32: blocks of `classes` orthogonal directions, with noise."""
    directions = np.linalg.qr(rng.normal(size=(channels, channels)))[0][:classes]
    blocks = np.kron(rng.integers(0, classes, (4, 5)), np.ones((3, 3), int))
    vectors = directions[blocks] + noise * rng.normal(size=(*GRID, channels))
    return torch.from_numpy(vectors.transpose(2, 0, 1).astype(np.float32))[None]


@pytest.mark.parametrize('views', [1, 2])
def test_no_entry_is_denormal_and_the_scores_are_the_formula_s(rng, views):
    embeddings = [clustered(rng)] * views if views == 1 else [clustered(rng), clustered(rng)]
    found = transition(affinity(embeddings, GRID))
    tiny = torch.finfo(torch.float32).tiny
    assert not ((found > 0) & (found < tiny)).any()
    exact = naive.transition([embedding[0].double().numpy() for embedding in embeddings], GRID)
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-4, atol=1e-29)
    scores = rng.random((4, GRID[0] * GRID[1])).astype(np.float32)
    for steps in (1, 64):
        wanted = scores @ np.linalg.matrix_power(exact, steps)
        np.testing.assert_allclose(walk(torch.from_numpy(scores), found, steps).numpy(), wanted, rtol=1e-4)


def test_what_is_left_out_changes_no_bit_of_the_scores(rng):
    affinities = affinity([clustered(rng)], GRID)
    powered = affinities ** 20
    assert ((powered > 0) & (powered < torch.finfo(torch.float32).tiny)).float().mean() > 0.1  # what this is about
    scores = torch.from_numpy(rng.random((4, GRID[0] * GRID[1])).astype(np.float32))
    assert torch.equal(walk(scores, transition(affinities)), walk(scores, powered / powered.sum(dim=0, keepdim=True)))


def test_cells_without_an_embedding_share_out_their_scores_evenly(rng):
    """A zero vector is as near to itself as to all others."""
    embedding = clustered(rng)
    embedding[:, :, 5, 7] = 0
    found = transition(affinity([embedding], GRID))
    cells = GRID[0] * GRID[1]
    np.testing.assert_allclose(found[:, 5 * GRID[1] + 7].numpy(), 1 / cells, rtol=0.05)
    np.testing.assert_allclose(found.sum(dim=0).numpy(), 1, rtol=1e-4)
