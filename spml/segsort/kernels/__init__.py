"""Triton kernels for what takes GPUs longest; everything works without them, too.

`available` says whether they run on a device. The other modules import Triton, which not every PyTorch includes, so
they are imported where they are called. `SPML_TRITON=0` in the environment leaves them out.
"""
import functools
import importlib
import importlib.util
import logging
import os

import torch

from spml.errors import first_line

logger = logging.getLogger(__name__)

# Logits up to this size, in units of log 2, are exponentiated as they are: sums of 2^40 and of 2^-40 and their
# quotients are far from the limits of float32.
SAFE_LOGIT = 40.0
# More channels do not fit the memory of a multiprocessor, 99 KiB on the smaller GPUs.
CONTRAST_CHANNELS, RETRIEVAL_CHANNELS = 128, 80


def kmeans_fits(num_clusters: int, channels: int) -> bool:
    """Return whether so many clusters, of vectors of so many channels, fit the memory of a multiprocessor."""
    tile = max(64, 1 << (num_clusters - 1).bit_length())
    return tile <= 256 and channels <= 128 and tile * channels <= 256 * 80


@functools.cache
def available(device: torch.device, name: str) -> bool:
    """Return whether the kernels of the module `name` run on a torch.device.

    By trying their largest tiles, since much may be missing: a C compiler, memory, what a version of Triton knows.
    """
    if (device.type != 'cuda' or os.environ.get('SPML_TRITON') == '0' or torch.version.hip is not None
            or importlib.util.find_spec('triton') is None
            or torch.cuda.get_device_capability(device) < (8, 0)):  # before, no bfloat16
        return False
    try:
        importlib.import_module(f'spml.segsort.kernels.{name}').try_out(device)
        torch.cuda.synchronize(device)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # whatever goes wrong there, PyTorch can do it
        logger.warning('the Triton kernels of %s do not run on %s (%s); PyTorch does their work, slower', name, device,
                       first_line(error))
        return False
    return True
