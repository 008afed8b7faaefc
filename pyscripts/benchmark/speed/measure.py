"""Time, peak memory and arithmetic floor of computations, for this benchmark.

A `Case` is one computation done twice, by the library (`fast`) and plainly (`direct`). `measure` runs both on the same
inputs in turn, compares the results and holds the figures against a `Bar`. The floor is the time that the arithmetic
alone would take at the rates this machine reaches in the same run (`measure_rates`): float operations as in a large
matrix product and exponentials as over an array in cache, or the bytes that have to move at least once as in a large
copy, whichever takes longer.
"""
import ctypes
import gc
import multiprocessing
import pathlib
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import torch

from spml.errors import ResourceError

MEBIBYTE = 1 << 20


class Work(NamedTuple):
    """What a computation cannot avoid: float operations, exponentials, bytes read or written."""

    operations: float
    exponentials: float = 0
    bytes: float = 0


class Rates(NamedTuple):
    """What a machine reaches, each per second: float operations, exponentials, bytes."""

    operations: float
    exponentials: float
    bytes: float

    def floor(self, work):
        """Return the seconds that `work` takes at these rates; bytes move while numbers are computed."""
        return max(work.operations / self.operations + work.exponentials / self.exponentials, work.bytes / self.bytes)


class Case(NamedTuple):
    """A computation done twice, by functions without arguments."""

    title: str
    fast: Callable
    direct: Callable
    compare: Callable  # function of the two results; returns None when they agree, else how they differ
    work: Work | None = None  # None where no floor is known


class Bar(NamedTuple):
    """What is required; None requires nothing."""

    faster: float | None = None  # least ratio of the direct version's time to the fast one's
    of_floor: float | None = None  # largest ratio of the time to the floor that excuses a missed `faster`
    lighter: float | None = None  # least ratio of the direct version's peak memory to the fast one's
    limit: int | None = None  # largest peak memory in bytes

    def __str__(self):
        parts = []
        if self.faster:
            slower = 'no slower' if self.faster == 1 else f'at most {1 / self.faster:g}x the time'
            parts.append(f'{self.faster:g}x faster' if self.faster > 1 else slower)
        if self.of_floor:
            parts[-1] += f' or within {self.of_floor:g}x of the floor'
        if self.lighter:
            parts.append(f'1/{self.lighter:g} of the memory')
        if self.limit:
            parts.append(f'under {self.limit // MEBIBYTE:,} MiB')
        return ', '.join(parts)

    def met(self, row):
        """Return whether the figures of a row of `measure` meet the bar."""
        fast_enough = (self.faster is None or row['ratio'] >= self.faster
                       or (self.of_floor is not None and row['of_floor'] <= self.of_floor))
        light_enough = self.lighter is None or row['memory_ratio'] >= self.lighter
        return fast_enough and light_enough and (self.limit is None or row['fast_bytes'] < self.limit)


def measure(case, bar, rates, device, repeats):
    """Measure the times of a Case, the medians of as many runs as `repeats`, (fast, direct), says.

    Returns a dict of `title`; seconds (`fast`, `direct`, `floor`); the ratios `ratio` (direct to fast), `of_floor`;
    `difference` of the results or None; `bar`. `judge` adds what is missing.
    """
    functions = {'fast': case.fast, 'direct': case.direct}
    times, results = run_in_turn(functions, dict(zip(functions, repeats, strict=True)), device)
    row = {'title': case.title, **times, 'ratio': times['direct'] / times['fast'], 'bar': bar,
           'difference': case.compare(results['fast'], results['direct'])}
    if case.work is not None:
        row['floor'] = rates.floor(case.work)
        row['of_floor'] = times['fast'] / row['floor']
    return row


def judge(row):
    """Return the row with the bar as text and `met`: whether results agree and the bar is met (None: not run)."""
    bar = row['bar']
    met = None if row.get('not_run') else row['difference'] is None and (bar is None or bar.met(row))
    return {**row, 'bar': '' if bar is None else str(bar), 'met': met}


def run_in_turn(functions, repeats, device, summary=statistics.median):
    """Run a dict of functions in turn, so that all see the same machine, each as often as `repeats` says.

    Returns {name: seconds}, the median unless `summary` is another function of a list, and {name: result of the last
    run}.
    """
    times, results = {name: [] for name in functions}, {}
    for turn in range(max(repeats.values())):
        for name, function in functions.items():
            if turn < repeats[name]:
                results.pop(name, None)
                synchronise(device)
                start = time.perf_counter()
                results[name] = function()
                synchronise(device)
                times[name].append(time.perf_counter() - start)
    return {name: summary(values) for name, values in times.items()}, results


def synchronise(device):
    """Wait until a torch.device has finished all its work."""
    getattr(torch, device.type).synchronize()


def peak_memory(build, arguments, small, name, device):
    """Return the bytes that the function `name` of a Case (`fast` or `direct`) holds at most, beyond its inputs.

    By the allocator of the device where there is one that counts; else by the resident set of a separate process.

    Args:
        build: module-level function of (device, **arguments) that returns the Case.
        arguments: its sizes, a dict.
        small: sizes of a first run, which loads libraries and lets them reserve their memory.
        name, device: of the function, and a torch.device.
    """
    if hasattr(getattr(torch, device.type), 'max_memory_allocated'):
        getattr(build(device, **small), name)()
        return allocator_peak(getattr(build(device, **arguments), name), device)
    # Spawned: a fork after OpenMP started threads is not safe.
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        try:
            return pool.submit(_resident_peak, build, arguments, small, name, device).result()
        except BrokenProcessPool:
            raise ResourceError(f'{build.__name__}: the process that measures its memory died, perhaps out of memory'
                                '; leave it out of --stage') from None


def allocator_peak(function, device):
    """Return the bytes a function allocates at most beyond what is; None on a device whose allocator does not count."""
    module = getattr(torch, device.type)
    if not hasattr(module, 'max_memory_allocated'):
        return None
    gc.collect()
    module.reset_peak_memory_stats()
    before = module.memory_allocated()
    function()
    return module.max_memory_allocated() - before


def _resident_peak(build, arguments, small, name, device):
    getattr(build(device, **small), name)()
    function = getattr(build(device, **arguments), name)
    gc.collect()
    # Memory that was freed but not returned would hide what the call takes.
    ctypes.CDLL(None).malloc_trim(0)
    # 5 sets the peak back to what is resident now.
    pathlib.Path('/proc/self/clear_refs').write_text('5')
    before = _status('VmRSS')
    result = function()  # noqa: F841 - held until the peak is read
    return _status('VmHWM') - before


def _status(field):
    """Return a field of /proc/self/status in bytes."""
    return int(re.search(rf'{field}:\s+(\d+) kB', pathlib.Path('/proc/self/status').read_text())[1]) * 1024


def measure_rates(device):
    """Return the Rates of a torch.device in float32."""
    size, length = 4096, 1 << 26
    left, right = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    # In a CPU's cache. A GPU would do so few in less time than it takes to start.
    cached = torch.rand(1 << 19 if device.type == 'cpu' else 1 << 22, device=device)
    large = torch.rand(length, device=device)
    copy = torch.empty_like(large)

    def exponentiate(function):
        for _ in range(20):
            function(cached, out=copy[:len(cached)])

    # Of the two exponentials the cheaper counts.
    functions = {'product': lambda: torch.mm(left, right), 'copy': lambda: copy.copy_(large),
                 'exp': lambda: exponentiate(torch.exp), 'exp2': lambda: exponentiate(torch.exp2)}
    # What a machine can reach is the best it does; a median would count other load.
    seconds, _ = run_in_turn(functions, dict.fromkeys(functions, 12), device, summary=min)
    return Rates(operations=2 * size ** 3 / seconds['product'], bytes=2 * 4 * length / seconds['copy'],
                 exponentials=20 * len(cached) / min(seconds['exp'], seconds['exp2']))
