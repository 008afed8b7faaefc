"""From a data set to batches: which samples each step of each process takes, and the workers that fetch them.

Training sees one endless stream of samples, the list over and over. Step t of W processes takes B*W consecutive
positions of it, so what a step sees is known from t alone; that is what lets a run resume, or change its number of
workers, exactly.
"""
import dataclasses
import functools
import logging
import multiprocessing
import signal

import cv2
import numpy as np
import torch
import torch.utils.data

from spml.errors import DataError, ResourceError
from spml.program import warn_once

logger = logging.getLogger(__name__)

# What processes hand tensors over through; containers often have 64 MB of it.
_SHARED = '/dev/shm'  # noqa: S108 (nothing is written there by name)


@dataclasses.dataclass(eq=False)
class StreamSampler(torch.utils.data.Sampler):
    """Batches of `(position, index)` pairs: step t on rank r has positions (t*W + r)*B .. +B of the endless stream.

    Without shuffling, position p is the list's sample p modulo its length. With it, each pass e over the list (e = p //
    length) has its own order, a permutation drawn from `(seed, e)`.
    """

    length: int  # samples in the list
    batch_size: int  # samples B per step and process
    rank: int = 0  # this process, 0..W-1
    world_size: int = 1  # processes W
    shuffle: bool = False
    seed: int = 0  # the same on all processes
    start_step: int = 0  # the first step t
    num_steps: int = 1

    def __post_init__(self):
        if self.length < 1:
            raise DataError('the list of training images is empty')

    def __len__(self):
        return self.num_steps

    def __iter__(self):
        @functools.lru_cache(maxsize=1)
        def order(epoch):
            # The trailing number sets these draws apart from the augmentation's, which start from (seed, position).
            return np.random.default_rng([self.seed, epoch, 1]).permutation(self.length).tolist()

        for step in range(self.start_step, self.start_step + self.num_steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                epoch, place = divmod(position, self.length)
                batch.append((position, order(epoch)[place] if self.shuffle else place))
            yield batch


def build_loader(dataset, batch_sampler, num_workers=0, pin_memory=False, seed=0):
    """Build the loader of training batches.

    Items, which are dicts, are asked for by the `(position, index)` of a `StreamSampler`; batches are dicts of stacked
    tensors (B, ...), and strings become lists. `num_workers` processes load, or this one if 0; `pin_memory` is for
    faster copies to a GPU; `seed` is that of the workers' global random states (Python's, numpy's and torch's). A
    `DataError` met in a worker is raised by the loop over the loader, with its own one-line message, and so is a
    `ResourceError` when a worker dies. What items say of damage is logged once a file and not part of the batches.
    """
    # Workers are not persistent: the stream is read once, so they end with the loop, even when it fails.
    # A separate generator: otherwise making an iterator would draw from torch's global random state, which dropout
    # uses, and a resumed run would differ.
    return _Loader(_Guarded(dataset), batch_sampler=batch_sampler, num_workers=num_workers, pin_memory=pin_memory,
                   collate_fn=_collate, worker_init_fn=_init_worker, generator=torch.Generator().manual_seed(seed))


class _Loader(torch.utils.data.DataLoader):
    def __iter__(self):
        # Torch reports the death of a worker from a signal handler, even in the middle of an update of the weights.
        # It is noticed just as well when the next batch is requested.
        before = signal.getsignal(signal.SIGCHLD)
        batches = self._batches()
        if signal.getsignal(signal.SIGCHLD) is not before:
            signal.signal(signal.SIGCHLD, before)
        try:
            for batch in batches:
                if isinstance(batch, DataError):
                    raise batch
                for text in batch.pop('damage', ()):  # workers do not know what others have said
                    warn_once(logger, text)
                if batch.pop('piped', False):
                    warn_once(logger, f'{_SHARED} is too small to hand over batches, which go through pipes instead; '
                              'a larger one is faster (docker run --shm-size=2g)')
                    batch = {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                             for name, value in batch.items()}
                yield batch
        except (RuntimeError, OSError, EOFError) as error:
            if self.num_workers == 0 or not _tells_of_a_death(error):
                raise
            raise ResourceError(f'a process that loads images died, perhaps out of memory, or of {_SHARED} (in '
                                f'containers: docker run --shm-size=2g); lower num_threads (now {self.num_workers}; '
                                '0 loads in the training process itself)') from None
        finally:
            # Release it now: left to the garbage collector, it would wait five seconds for each worker.
            del batches

    def _batches(self):
        if self.num_workers:
            try:
                multiprocessing.Lock()  # what torch begins with, and does not clear away where it fails
            except OSError as error:
                raise ResourceError(f'no process that loads images can be started ({error.strerror}): {_SHARED} is '
                                    'full (in containers: docker run --shm-size=2g), or set num_threads=0') from None
        return super().__iter__()


def _tells_of_a_death(error):
    """Whether an exception of torch's loader says that a worker is gone: in words, or by the end of its connection."""
    if isinstance(error, RuntimeError):
        return 'DataLoader worker (pid' in str(error)
    return isinstance(error, (ConnectionError, EOFError, FileNotFoundError)) and 'DataLoader worker' not in str(error)


class _Guarded(torch.utils.data.Dataset):
    """Hands a `DataError` on as the batch: torch would wrap one raised in a worker into a page of traceback."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitems__(self, keys):
        try:
            return [self.dataset[key] for key in keys]
        except DataError as error:
            return error


def _collate(items):
    if isinstance(items, DataError):
        return items
    damage = [item['damage'] for item in items if 'damage' in item]
    items = [{name: value for name, value in item.items() if name != 'damage'} for item in items]
    try:
        batch = _shared(torch.utils.data.default_collate(items))
    except RuntimeError as error:
        if torch.utils.data.get_worker_info() is None or not any(
                sign in str(error) for sign in ('shared memory', '/torch_')):
            raise
        batch = {**_piped(items), 'piped': True}
    return {**batch, 'damage': damage} if damage else batch


def _shared(batch):
    """Return a batch whose tensors are in shared memory, in a worker: where that fails later, nobody would know."""
    if torch.utils.data.get_worker_info() is not None:
        for value in batch.values():
            if isinstance(value, torch.Tensor):
                value.share_memory_()
    return batch


def _piped(items):
    """Return a batch of arrays in place of tensors: they go through pipes and need no shared memory."""
    batch = {}
    for name, first in items[0].items():
        values = [item[name] for item in items]
        if isinstance(first, torch.Tensor):
            batch[name] = np.stack([value.numpy() for value in values])
        else:
            batch[name] = values if isinstance(first, str) else torch.utils.data.default_collate(values).numpy()
    return batch


def _init_worker(_):
    # The workers are the parallelism; threads inside each would only fight over the cores. Torch limits its own.
    cv2.setNumThreads(0)
    # Ctrl-C reaches every process of the terminal; the training one says when it no longer needs this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
