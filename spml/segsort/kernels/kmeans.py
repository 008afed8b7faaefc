"""The iterations of spherical k-means, see `clustering.spherical_kmeans`, as Triton kernels.

A program takes a range of an image's pixels, moves each to its nearest prototype and sums up the vectors of every
cluster, as products with one-hot rows: vectors are read once an iteration, similarities never reach memory, and nothing
is added atomically, so every call gives the same result.

Tensor cores multiply no float32. A number between -1 and 1 is two float16 up to 3e-8, which float32 rounds off a sum
of many, too, so three products of such parts do for one (`products.py` cuts numbers of any size, into three).
"""
import torch
import triton
import triton.language as tl
from torch import Tensor

from spml.segsort.kernels.products import load, store, tiles

# Pixels of a tile and stages of the pipeline: on GPUs of data centres, whose multiprocessors have more memory than
# others, and elsewhere.
_LARGE, _SMALL = (64, 3), (32, 2)
# Programs per launch, which occupy a large GPU, by whether clusters fill a small tile; partial sums reduced per pass.
_PROGRAMS = {True: 396, False: 132}
_SUMS = 64


def iterate(vectors: Tensor, labels: Tensor, num_clusters: int, iterations: int) -> Tensor:
    """Return (B, P) int64 clusters after some iterations.

    Args:
        vectors: (B, P, D) float32 unit vectors; D and K as `kmeans_fits` allows.
        labels: (B, P) int64 clusters; K and above stay what they are.
        iterations: at least 1.
    """
    batch, pixels, channels = vectors.shape
    first, rest = tiles(channels)
    sizes = {'CHANNELS': channels, 'FIRST': first, 'REST': rest}
    is_small = num_clusters <= 64
    rows = 64 if is_small else 1 << (num_clusters - 1).bit_length()
    columns, num_stages = _LARGE if _has_large_memory(vectors.device) else _SMALL
    each = -(-pixels * batch // (_PROGRAMS[is_small] * columns)) * columns
    programs = -(-pixels // each)
    parts, prototypes = (vectors.new_empty(2, count, first + rest, dtype=torch.float16)
                         for count in (batch * pixels, batch * num_clusters))
    sums = vectors.new_empty(batch, programs, num_clusters, channels)
    labels = labels.clone().contiguous()
    # Triton works on the current device.
    with torch.cuda.device_of(vectors):
        _halve[(-(-batch * pixels // 64),)](vectors.contiguous(), labels, parts, batch * pixels, num_clusters, ROWS=64,
                                            **sizes)
        for iteration in range(iterations + 1):
            is_last = iteration == iterations
            _assign_and_sum[(programs, batch)](
                parts, prototypes, labels, sums, pixels, each, num_clusters, batch, ASSIGN=iteration > 0,
                SUM=not is_last, ROWS=rows, COLUMNS=columns, num_warps=4 if is_small else 8, num_stages=num_stages,
                **sizes)
            if not is_last:
                _normalise[(num_clusters, batch)](sums, prototypes, programs, num_clusters, batch, SUMS=_SUMS, **sizes)
    return labels


def try_out(device: torch.device) -> None:
    """Compile and run the kernels at their largest."""
    vectors = torch.ones(1, 2, 80, dtype=torch.float32, device=device)
    iterate(vectors, torch.zeros(1, 2, dtype=torch.int64, device=device), num_clusters=256, iterations=1)


def _has_large_memory(device: torch.device) -> bool:
    return device.type == 'cuda' and torch.cuda.get_device_capability(device) in ((8, 0), (9, 0), (10, 0), (10, 3))


@triton.jit
def _store_halves(parts, step, values, rows, valid, START: tl.constexpr, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    high = values.to(tl.float16)
    store(parts, high, rows, valid, WIDTH, START, COUNT)
    store(parts + step, (values - high.to(tl.float32)).to(tl.float16), rows, valid, WIDTH, START, COUNT)


@triton.jit(do_not_specialize=['num_rows', 'num_clusters'])
def _halve(vectors, labels, parts, num_rows, num_clusters, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
           FIRST: tl.constexpr, REST: tl.constexpr):
    """Store (2, rows, FIRST + REST) float16 that add up to the vectors, padded with zeros.

    What is left out becomes 0 in case it is not finite: products with 0 would spread it to all clusters.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid = rows < num_rows
    step = tl.cast(num_rows, tl.int64) * (FIRST + REST)
    takes_part = tl.load(labels + rows, mask=valid, other=num_clusters) < num_clusters
    _store_halves(parts, step, load(vectors, rows, takes_part, CHANNELS, 0, FIRST), rows, valid, 0, FIRST,
                  FIRST + REST)
    if REST > 0:
        _store_halves(parts, step, load(vectors, rows, takes_part, CHANNELS, FIRST, REST), rows, valid, FIRST, REST,
                      FIRST + REST)


@triton.jit(do_not_specialize=['num_programs', 'num_clusters', 'batch'])
def _normalise(sums, prototypes, num_programs, num_clusters, batch, SUMS: tl.constexpr, CHANNELS: tl.constexpr,
               FIRST: tl.constexpr, REST: tl.constexpr):
    """Add up the programs' sums of a cluster, normalise them and store their parts."""
    image, cluster = tl.program_id(1).to(tl.int64), tl.program_id(0)
    first = tl.zeros([1, FIRST], tl.float32)
    rest = first
    if REST > 0:
        rest = tl.zeros([1, REST], tl.float32)
    sums += image * num_programs * num_clusters * CHANNELS
    for start in range(0, num_programs, SUMS):
        programs = start + tl.arange(0, SUMS)
        rows = programs * num_clusters + cluster
        first += tl.sum(load(sums, rows, programs < num_programs, CHANNELS, 0, FIRST), axis=0, keep_dims=True)
        if REST > 0:
            rest += tl.sum(load(sums, rows, programs < num_programs, CHANNELS, FIRST, REST), axis=0, keep_dims=True)
    square = tl.sum(first * first)
    if REST > 0:
        square += tl.sum(rest * rest)
    norm = tl.maximum(tl.sqrt(square), 1e-12)
    row = image * num_clusters + cluster + tl.arange(0, 1)
    step = tl.cast(batch, tl.int64) * num_clusters * (FIRST + REST)
    valid = row >= 0
    _store_halves(prototypes, step, first / norm, row, valid, 0, FIRST, FIRST + REST)
    if REST > 0:
        _store_halves(prototypes, step, rest / norm, row, valid, FIRST, REST, FIRST + REST)


@triton.jit
def _load_halves(parts, step, rows, valid, START: tl.constexpr, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    pointers = parts + rows.to(tl.int64)[:, None] * WIDTH + (START + tl.arange(0, COUNT))[None, :]
    return tl.load(pointers, mask=valid[:, None], other=0.0), tl.load(pointers + step, mask=valid[:, None], other=0.0)


@triton.jit
def _product(one, other, total):
    total = tl.dot(one[1], tl.trans(other[0]), total)
    total = tl.dot(one[0], tl.trans(other[1]), total)
    return tl.dot(one[0], tl.trans(other[0]), total)


@triton.jit(do_not_specialize=['num_pixels', 'each', 'num_clusters', 'batch'])
def _assign_and_sum(parts, prototypes, labels, sums, num_pixels, each, num_clusters, batch, ASSIGN: tl.constexpr,
                    SUM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
                    FIRST: tl.constexpr, REST: tl.constexpr):
    """Give the pixels of a program their nearest prototypes (ASSIGN) and store the sums of its clusters (SUM)."""
    image = tl.program_id(1).to(tl.int64)
    step = tl.cast(batch, tl.int64) * num_pixels * (FIRST + REST)
    parts += image * num_pixels * (FIRST + REST)
    labels += image * num_pixels
    clusters = tl.arange(0, ROWS)
    occurs = clusters < num_clusters
    sum_first = tl.zeros([ROWS, FIRST], tl.float32)
    sum_rest = sum_first
    if REST > 0:
        sum_rest = tl.zeros([ROWS, REST], tl.float32)
    if ASSIGN:
        prototype_step = tl.cast(batch, tl.int64) * num_clusters * (FIRST + REST)
        prototypes += image * num_clusters * (FIRST + REST)
        prototype_first = _load_halves(prototypes, prototype_step, clusters, occurs, 0, FIRST, FIRST + REST)
        prototype_rest = prototype_first
        if REST > 0:
            prototype_rest = _load_halves(prototypes, prototype_step, clusters, occurs, FIRST, REST, FIRST + REST)
    start = tl.program_id(0) * each
    stop = tl.minimum(start + each, num_pixels)
    for column in range(start, stop, COLUMNS):
        columns = column + tl.arange(0, COLUMNS)
        valid = columns < stop
        first = _load_halves(parts, step, columns, valid, 0, FIRST, FIRST + REST)
        rest = first
        if REST > 0:
            rest = _load_halves(parts, step, columns, valid, FIRST, REST, FIRST + REST)
        found = tl.load(labels + columns, mask=valid, other=num_clusters).to(tl.int32)
        if ASSIGN:
            products = tl.zeros([ROWS, COLUMNS], tl.float32)
            if REST > 0:
                products = _product(prototype_rest, rest, products)
            products = _product(prototype_first, first, products)
            # The first on ties. What is not finite gets some cluster: the loss will tell, with the images' names.
            nearest = tl.argmax(tl.where(occurs[:, None], products, float('-inf')), axis=0)
            found = tl.where(found < num_clusters, tl.minimum(nearest, num_clusters - 1), found)
            tl.store(labels + columns, found.to(tl.int64), mask=valid)
        if SUM:
            members = tl.where(clusters[:, None] == found[None, :], 1.0, 0.0).to(tl.float16)
            sum_first = tl.dot(members, first[1], sum_first)
            sum_first = tl.dot(members, first[0], sum_first)
            if REST > 0:
                sum_rest = tl.dot(members, rest[1], sum_rest)
                sum_rest = tl.dot(members, rest[0], sum_rest)
    if SUM:
        sums += (image * tl.num_programs(0) + tl.program_id(0)) * num_clusters * CHANNELS
        store(sums, sum_first, clusters, occurs, CHANNELS, 0, FIRST)
        if REST > 0:
            store(sums, sum_rest, clusters, occurs, CHANNELS, FIRST, REST)
