"""Recognising that RAM or GPU memory ran out, and saying which setting to lower.

Every allocator raises its own exception: Python's, the GPU's, and torch's and OpenCV's on the CPU, which can only be
recognised by their messages. Nothing here imports torch: the command line uses this module without it.

Only a stage's own process can tell its pipeline the memory of its tensors on a GPU: the pipeline names a file for that
in the environment (`SPML_USAGE`); outside of one nothing is written.
"""
import contextlib
import json
import os
import pathlib
import sys

from spml.errors import ResourceError, first_line

_SIGNS = ("can't allocate memory", 'Cannot allocate memory', 'not enough memory', 'out of memory',
          'Insufficient memory', 'ALLOC_FAILED', 'bad_alloc')


def is_out_of_memory(error):
    """Return whether an exception says that memory ran out, of the machine or of a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':
        return True
    # OpenCV's exceptions derive from Exception alone.
    return (isinstance(error, RuntimeError) or type(error).__module__ == 'cv2') and any(
        sign in str(error) for sign in _SIGNS)


@contextlib.contextmanager
def memory_advice(what, advice):
    """Raise ResourceError, with `what` was being done and `advice`, where memory runs out inside the `with` block."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(f'{what}: out of memory; {advice} ({first_line(error)[:200]})') from None


def note_gpu_memory():
    """Write the most bytes of tensors that this process held on its GPU to the pipeline's file, if there are any."""
    torch = sys.modules.get('torch')  # do not import torch just for this
    path = os.environ.get('SPML_USAGE')
    if not path or os.environ.get('RANK', '0') != '0' or torch is None or not torch.cuda.is_initialized():
        return
    try:
        pathlib.Path(path).write_text(json.dumps({'gpu_memory': torch.cuda.max_memory_allocated()}))
    except OSError as error:
        # The stage's work is done; an unknown cost is no reason to fail it.
        print(f'note: {path}: {error.strerror}; the GPU memory of this stage is not recorded', file=sys.stderr)
