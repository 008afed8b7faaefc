"""Recognising that RAM or GPU memory ran out, and saying which setting to lower.

Every allocator raises its own exception: Python's, the GPU's, and torch's and OpenCV's on the CPU, which can only be
recognised by their messages. Nothing here imports torch: the command line uses this module without it.
"""
import contextlib

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
