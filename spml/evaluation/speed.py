"""Time, peak memory and arithmetic floor of a computation, for `pyscripts/benchmark/benchmark_speed.py`.

A `Case` is one computation done twice, by the library and directly; `measure` runs both on the same inputs in turn,
compares the results and holds the figures against a `Bar`. The floor is the time the arithmetic alone would take at the
rates this machine reaches in the same run (`measure_rates`): multiplications and additions as in a large matrix
product, exponentials as over an array in cache, or the bytes that have to move at least once as in a large copy,
whichever takes longer.
"""
import ctypes
import dataclasses
import gc
import multiprocessing
import pathlib
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch

MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Work:
    """What a computation cannot do without: float operations, exponentials, bytes read or written."""

    operations: float = 0
    exponentials: float = 0
    bytes: float = 0


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a machine reaches, each per second: float operations, exponentials, bytes."""

    operations: float
    exponentials: float
    bytes: float

    def floor(self, work):
        """Return the seconds that `work` takes at these rates; bytes move while numbers are computed."""
        return max(work.operations / self.operations + work.exponentials / self.exponentials, work.bytes / self.bytes)


@dataclasses.dataclass(frozen=True)
class Case:
    """A computation done twice.

    Attributes:
        title: for the table.
        fast, direct: functions without arguments that return results for `compare`.
        compare: function of the two results; returns None when they agree, else how they differ.
        work: Work.
    """

    title: str
    fast: Callable
    direct: Callable
    compare: Callable
    work: Work


@dataclasses.dataclass(frozen=True)
class Bar:
    """What is asked for; None asks nothing.

    Attributes:
        faster: least ratio of the direct version's time to the fast one's.
        of_floor: largest ratio of the time to the floor that excuses a missed `faster`.
        lighter: least ratio of the direct version's peak memory to the fast one's.
        limit: largest peak memory in bytes.
    """

    faster: float | None = None
    of_floor: float | None = None
    lighter: float | None = None
    limit: int | None = None

    def __str__(self):
        parts = [f'{self.faster:g}x faster' if self.faster else '',
                 f'or within {self.of_floor:g}x of the floor' if self.of_floor else '',
                 f'1/{self.lighter:g} of the memory' if self.lighter else '',
                 f'under {self.limit // MEBIBYTE:,} MiB' if self.limit else '']
        return ', '.join(part for part in parts if part)

    def met(self, row):
        """Return whether the figures of a row of `measure` meet the bar."""
        fast_enough = (self.faster is None or row['ratio'] >= self.faster
                       or (self.of_floor is not None and row['of_floor'] <= self.of_floor))
        light_enough = self.lighter is None or row['memory_ratio'] >= self.lighter
        return fast_enough and light_enough and (self.limit is None or row['fast_bytes'] < self.limit)


def measure(build, arguments, small, bar, rates, device, repeats):
    """Measure a Case.

    Args:
        build: module-level function of (device, **arguments) that returns the Case.
        arguments: its sizes, a dict.
        small: sizes for a first run that only loads code, a dict.
        bar: Bar.
        rates: Rates.
        device: torch.device.
        repeats: (fast, direct), how many runs each median is taken of.

    Returns:
        Dict of `title`, seconds (`fast`, `direct`, `floor`) and their ratios, bytes, `bar`, `difference` and `met`.
    """
    build(device, **small).fast()
    case = build(device, **arguments)
    difference = case.compare(case.fast(), case.direct())
    times = median_times({'fast': case.fast, 'direct': case.direct}, dict(zip(('fast', 'direct'), repeats, strict=True)),
                         device)
    floor = rates.floor(case.work)
    row = {'title': case.title, **times, 'floor': floor, 'ratio': times['direct'] / times['fast'],
           'of_floor': times['fast'] / floor}
    del case
    for name in ('fast', 'direct'):
        row[f'{name}_bytes'] = peak_memory(build, arguments, small, name, device)
    row['memory_ratio'] = row['direct_bytes'] / max(1, row['fast_bytes'])
    return {**row, 'bar': str(bar), 'difference': difference, 'met': difference is None and bar.met(row)}


def median_times(functions, repeats, device):
    """Return {name: median seconds} of a dict of functions, run in turn so that all see the same machine."""
    times = {name: [] for name in functions}
    for turn in range(max(repeats.values())):
        for name, function in functions.items():
            if turn < repeats[name]:
                synchronise(device)
                start = time.perf_counter()
                function()
                synchronise(device)
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def synchronise(device):
    """Wait until a torch.device has done all it was asked to; a CPU always has."""
    module = getattr(torch, device.type)
    if hasattr(module, 'synchronize'):
        module.synchronize()


def peak_memory(build, arguments, small, name, device):
    """Return the bytes that the function `name` of a Case (`fast` or `direct`) holds at most, beyond its inputs.

    By the allocator where the device has one that counts; else by the resident set of a process of its own.
    """
    module = getattr(torch, device.type)
    if hasattr(module, 'reset_peak_memory_stats'):
        return _allocator_peak(getattr(build(device, **arguments), name), module)
    # Spawned: a fork after OpenMP started threads is not safe.
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        return pool.submit(_resident_peak, build, arguments, small, name, device).result()


def _allocator_peak(function, module):
    gc.collect()
    module.reset_peak_memory_stats()
    before = module.memory_allocated()
    function()
    return module.max_memory_allocated() - before


def _resident_peak(build, arguments, small, name, device):
    # Libraries load and reserve memory of their own at the first call.
    getattr(build(device, **small), name)()
    function = getattr(build(device, **arguments), name)
    gc.collect()
    # Memory that was freed but not returned would hide what the call takes.
    ctypes.CDLL(None).malloc_trim(0)
    # 5 sets the peak back to what is resident now.
    pathlib.Path('/proc/self/clear_refs').write_text('5')
    before = _status('VmRSS')
    result = function()
    peak = _status('VmHWM')
    del result
    return peak - before


def _status(field):
    """Return a field of /proc/self/status in bytes."""
    return int(re.search(rf'{field}:\s+(\d+) kB', pathlib.Path('/proc/self/status').read_text())[1]) * 1024


def measure_rates(device):
    """Return the Rates of a torch.device in float32."""
    size = 4096
    left, right = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    cached = torch.rand(1 << 19, device=device)
    large = torch.rand(1 << 26, device=device)
    copy = torch.empty_like(large)
    functions = {'operations': lambda: torch.mm(left, right), 'bytes': lambda: copy.copy_(large)}
    # The cheaper of the two exponentials.
    functions |= {name: lambda f=f: [f(cached, out=copy[:len(cached)]) for _ in range(20)]
                  for name, f in (('exp', torch.exp), ('exp2', torch.exp2))}
    for function in functions.values():
        function()
    seconds = median_times(functions, dict.fromkeys(functions, 5), device)
    return Rates(operations=2 * size ** 3 / seconds['operations'], bytes=2 * 4 * len(large) / seconds['bytes'],
                 exponentials=20 * len(cached) / min(seconds['exp'], seconds['exp2']))
