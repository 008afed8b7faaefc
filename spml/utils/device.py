"""Choosing the device; no other module names one."""
import torch

from spml.errors import ConfigError

# Floats that a chunk of a large computation holds: on a CPU 2 MiB, so that the few buffers of a chunk stay in its
# caches; elsewhere 128 MiB, since there starting a kernel costs more than memory.
CPU_CHUNK_ELEMENTS = 1 << 19
CHUNK_ELEMENTS = 1 << 25


def pick_device(name=None):
    """Return the torch.device `name`, or CUDA when there is one and the CPU otherwise.

    Raises:
        ConfigError: `name` is no device of this machine.
    """
    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split('\n')[0]
        raise ConfigError(f'--device {name}: not usable here ({reason}); leave it out, or give cpu') from None
    # Convolutions in TF32 are off by 1e-3, which k-means and CRF amplify; results are to agree between devices.
    torch.backends.cudnn.allow_tf32 = False
    return device


def chunk_elements(device):
    """Return how many floats a chunk of a large computation should hold at once on a torch.device."""
    return CPU_CHUNK_ELEMENTS if device.type == 'cpu' else CHUNK_ELEMENTS
