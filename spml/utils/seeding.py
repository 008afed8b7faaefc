"""Every global source of random numbers, seeded, saved and restored together.

The project itself draws from torch alone (weights, dropout); data augmentation has separate generators. Python's and
numpy's are included so that code added to a training is repeatable too.
"""
import random

import numpy as np
import torch


def seed_everything(seed):
    """Seed Python, numpy and torch, CPU and every GPU, from a non-negative int."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the global state is the point)
    torch.manual_seed(seed)


def random_states():
    """Return the states as plain values and tensors, which a checkpoint may hold."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    numpy_state['state'] = {'key': torch.from_numpy(numpy_state['state']['key'].astype(np.int64)),
                            'pos': numpy_state['state']['pos']}
    states = {'cpu': torch.get_rng_state(), 'python': random.getstate(), 'numpy': numpy_state}
    # Asking would initialise CUDA in a training on the CPU.
    if torch.cuda.is_initialized():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states):
    """Restore what `random_states` returned; a state that is absent, in an older file or without a GPU, is left."""
    torch.set_rng_state(states['cpu'])
    if 'python' in states:
        version, numbers, gauss = states['python']
        random.setstate((version, tuple(numbers), gauss))
    if 'numpy' in states:
        inner = states['numpy']['state']
        np.random.set_state({**states['numpy'], 'state': {**inner, 'key': inner['key'].numpy().astype(np.uint32)}})  # noqa: NPY002
    if 'cuda' in states and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states['cuda'])
