"""The device, its arithmetic and random numbers; no other module names a device.

Every global source of random numbers is seeded, saved and restored together. The project itself draws from torch alone
(weights, dropout); data augmentation has separate generators. Python's and numpy's are included so that code added to a
training is repeatable too.
"""
import contextlib
import os
import random

import numpy as np
import torch

from spml.errors import ConfigError, first_line

# Floats that a chunk of a large computation holds: on a CPU 4 MiB, so that the few buffers of a chunk stay in its
# caches; elsewhere 128 MiB, since there starting a kernel costs more than memory.
CPU_CHUNK_ELEMENTS = 1 << 20
CHUNK_ELEMENTS = 1 << 25


def pick_device(name=None):
    """Return the torch.device `name`, by default CUDA or else the CPU; ConfigError if it is none of this machine."""
    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f'--device {name}: not usable here ({first_line(error)}); omit it, or give cpu') from None
    if device.type == 'cuda' and device.index is not None:
        # Counters of memory and random states are those of the current device.
        torch.cuda.set_device(device)
    # Convolutions in TF32 are off by 1e-3, which k-means and CRF amplify; results are to agree between devices.
    torch.backends.cudnn.allow_tf32 = False
    return device


def chunk_elements(device):
    """Return how many floats a chunk of a large computation should hold at once on a torch.device."""
    return CPU_CHUNK_ELEMENTS if device.type == 'cpu' else CHUNK_ELEMENTS


def steady_convolutions(precision):
    """Limit the convolutions of a CPU to AVX2, so that a training gives the same result with and without AVX-512.

    Kernels for AVX-512 sum in another order. A hundred layers with batch norm amplify that to 3e-4 in the embedding,
    and after three steps the cosine between the updates and those of the authors' release (kit_c) is 0.964 instead of
    AVX2's 0.998. AVX2 takes up to an eighth more time. The limit is an environment variable, to be set before the
    process's first convolution; a value that the user has set is kept. bf16 has no limit: AVX2 has no products for it.
    """
    if precision != 'bf16':
        os.environ.setdefault('ONEDNN_MAX_CPU_ISA', 'AVX2')


def autocast(precision, device):
    """Return the context of a network's forward in a precision of PRECISIONS on a torch.device."""
    return torch.autocast(device.type, torch.bfloat16) if precision == 'bf16' else contextlib.nullcontext()


@contextlib.contextmanager
def convolutions(precision, device):
    """Set up cuDNN for a training; ConfigError if the device cannot.

    Convolutions multiply in TF32 where `precision` is tf32. As crops have one size, cuDNN tries its algorithms and
    takes the fastest, as in the release.
    """
    try:
        autocast(precision, device)
    except RuntimeError as error:
        raise ConfigError(f'train.precision: {precision} does not work on {device} ({first_line(error)}); '
                          'set it to fp32') from None
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, cudnn.benchmark = precision == 'tf32', True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before


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
