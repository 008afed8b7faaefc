"""Handing work to processes: in order, with few jobs waiting, and gone silently on Ctrl-C.

Workers are spawned, not forked: a fork after CUDA or OpenMP started is not safe. They import the script again, so what
they call must be in a module, and should import nothing heavy.
"""
import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading

from spml.errors import SpmlError
from spml.utils import interrupt


def processors():
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@contextlib.contextmanager
def worker_pool(num_workers, title, on_result=None):
    """Yield `submit(function, *args)`: run at once, or in a pool with at most two jobs a worker waiting.

    Args:
        num_workers: processes; 0 runs everything in this one.
        on_result: called here with each result, in the order of submission; None drops the results.

    SpmlError: a worker died. What a job itself raises comes out of `submit` or the end of the `with` block; jobs that
    have not begun are then dropped.
    """
    on_result = on_result or (lambda result: None)
    if num_workers == 0:
        yield lambda function, *args: on_result(function(*args))
        return
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, multiprocessing.get_context('spawn'),
                                                  initializer=_end_with_parent)
    waiting = collections.deque()

    def submit(function, *args):
        # Ctrl-C is for this process alone; a worker inherits ignoring it, from before its first import.
        with interrupt.handled([signal.SIGINT], signal.SIG_IGN):
            waiting.append(pool.submit(function, *args))
        while len(waiting) > 2 * num_workers:
            on_result(waiting.popleft().result())

    try:
        yield submit
        while waiting:
            on_result(waiting.popleft().result())
    except concurrent.futures.process.BrokenProcessPool:
        raise SpmlError(f'one of {num_workers} {title} workers died, perhaps out of memory; lower --num_workers '
                        f'(0 works in this process)') from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent():
    """Have this worker end when its parent is gone: one that was killed outright cannot say so, and workers wait on."""
    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
