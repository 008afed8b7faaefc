import random

import numpy as np
import torch

from spml.utils.device import restore_random_states, seed_everything


def draw():
    # An odd number of normal variates: Python's and numpy's legacy generators make pairs and keep one back.
    return (random.random(), random.gauss(0, 1), np.random.randn(3).tolist(), torch.rand(4).tolist())  # noqa: NPY002


def test_a_seed_covers_python_numpy_and_torch():
    draws = []
    for seed in (3, 3, 4, 2 ** 32 + 3):
        seed_everything(seed)
        draws.append(draw())
    assert draws[0] == draws[1]
    assert all(one != other for one, other in zip(draws[0], draws[2], strict=True))


def test_states_of_older_files_restore_torch_alone():
    state = torch.get_rng_state()
    drawn, python = torch.rand(3), random.getstate()
    restore_random_states({'cpu': state})
    assert torch.equal(torch.rand(3), drawn)
    assert random.getstate() == python
