import numpy as np
import torch
import torch.nn.functional as F

from spml.inference.random_walk import affinity, transition, walk


def test_affinity_of_several_views():
    views = [torch.randn(1, 6, *size, dtype=torch.float64) for size in ((24, 30), (18, 22), (8, 8))]
    total = np.zeros((12, 12))
    for view in views:
        grid = F.interpolate(view, size=(3, 4), mode='bilinear', align_corners=False)[0].flatten(1).T.numpy()
        grid = grid / np.linalg.norm(grid, axis=1, keepdims=True)
        for i in range(12):
            for j in range(12):
                total[i, j] += np.exp(5 * (grid[i] @ grid[j] - 1)) / 3
    np.testing.assert_allclose(affinity(iter(views), (3, 4)).numpy(), total, rtol=1e-10)


def test_transition_is_the_twentieth_power_with_columns_of_sum_one():
    values = np.random.default_rng().uniform(0.1, 1, (9, 9))
    expected = np.empty((9, 9))
    for j in range(9):
        for i in range(9):
            expected[i, j] = values[i, j] ** 20 / sum(values[k, j] ** 20 for k in range(9))
    found = transition(torch.from_numpy(values))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(dim=0), np.ones(9))


def test_a_walk_is_six_squarings():
    rng = np.random.default_rng()
    matrix = rng.uniform(0, 1, (30, 30)) ** 8
    matrix /= matrix.sum(axis=0)
    scores = rng.uniform(0, 1, (4, 30))
    found = walk(torch.from_numpy(scores), torch.from_numpy(matrix))
    np.testing.assert_allclose(found.numpy(), scores @ np.linalg.matrix_power(matrix, 64), rtol=1e-9)
    single = walk(torch.from_numpy(scores).float(), torch.from_numpy(matrix).float())
    np.testing.assert_allclose(single.numpy(), scores @ np.linalg.matrix_power(matrix, 64), rtol=1e-3)
    once = walk(torch.from_numpy(scores), torch.from_numpy(matrix), steps=1)
    np.testing.assert_allclose(once.numpy(), scores @ matrix, rtol=1e-12)
