"""Telling that memory ran out, and saying which setting to lower.

Every allocator has an exception of its own: Python's, the GPU's, and the CPU's of torch and of OpenCV, which are
recognised by their words alone. No torch in here: the command line asks before it has imported any.
"""
import contextlib

from spml.errors import ResourceError

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
    """Turn an exhausted memory inside the `with` block into one line.

    Args:
        what: what was being done, for example `iteration 7`.
        advice: which settings to lower.

    Raises:
        ResourceError: memory ran out; the message holds both.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().split('\n')[0][:200] or type(error).__name__
        raise ResourceError(f'{what}: out of memory; {advice} ({reason})') from None
