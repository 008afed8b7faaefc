"""Processes that finish images while the network looks at the next ones. No torch in here: the workers import it."""
import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading

from spml.errors import SpmlError


@contextlib.contextmanager
def finisher(num_workers):
    """Yield `submit(function, *args)`: run at once, or in a pool with at most two jobs a worker waiting."""
    if num_workers == 0:
        yield lambda function, *args: function(*args)
        return
    # Spawned, not forked: a fork after CUDA or OpenMP started is not safe.
    context = multiprocessing.get_context('spawn')
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, context, initializer=_end_with_parent)
    waiting = collections.deque()

    def submit(function, *args):
        # Ctrl-C is for this process alone; a worker inherits that it ignores it from before its first import.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            waiting.append(pool.submit(function, *args))
        finally:
            signal.signal(signal.SIGINT, before)
        while len(waiting) > 2 * num_workers:
            waiting.popleft().result()

    try:
        yield submit
        while waiting:
            waiting.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        raise SpmlError(f'one of {num_workers} CRF workers died, perhaps for want of memory; lower --num_workers '
                        '(0 runs CRF in this process)') from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent():
    """Have this worker end when its parent is gone: one that was killed outright cannot say so, and workers wait on."""
    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
