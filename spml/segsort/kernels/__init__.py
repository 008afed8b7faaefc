"""Triton kernels for what takes GPUs longest; everything works without them, too.

`available` says whether they run on a device. The modules beside it import Triton, which not every PyTorch brings, so
they are imported where they are called.
"""
import functools
import importlib.util
import logging

import torch

logger = logging.getLogger(__name__)

# More channels do not fit the memory of a multiprocessor, 99 KiB on the smaller GPUs.
CONTRAST_CHANNELS, RETRIEVAL_CHANNELS = 128, 80


@functools.cache
def available(device: torch.device) -> bool:
    """Return whether the kernels run on a torch.device: by trying, since much may be missing, as a C compiler."""
    if (device.type != 'cuda' or importlib.util.find_spec('triton') is None
            or torch.cuda.get_device_capability(device) < (8, 0)):  # before, no bfloat16
        return False
    try:
        from spml.segsort.kernels import kmeans

        labels = torch.zeros(1, 16, dtype=torch.int64, device=device)
        kmeans.iterate(torch.ones(1, 16, 16, device=device), labels, num_clusters=1, iterations=1)
        torch.cuda.synchronize(device)
    except Exception as error:  # whatever goes wrong there: the plain way remains
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning('the Triton kernels do not run on %s (%s); PyTorch does their work, slower', device, reason)
        return False
    return True


def kmeans_fits(num_clusters: int, channels: int) -> bool:
    """Return whether so many clusters, of vectors of so many channels, fit the memory of a multiprocessor."""
    tile = max(64, 1 << (num_clusters - 1).bit_length())
    return tile <= 256 and channels <= 128 and tile * channels <= 256 * 80
