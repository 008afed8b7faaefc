"""The products of retrieval, see `retrieval.py`, as a Triton kernel that keeps only the largest of every block."""
import torch
import triton
import triton.language as tl
from torch import Tensor

from spml.segsort.kernels import RETRIEVAL_CHANNELS
from spml.segsort.kernels.products import cut, load, product, tiles, transposed

# Prototypes of a block.
BLOCK = 64
# Queries of a tile.
_ROWS = 64
# So many programs occupy a large GPU.
_PROGRAMS = 1024
_COMPILATION = {'num_warps': 4, 'num_stages': 3}


def largest_by_block(queries: Tensor, prototypes: Tensor) -> Tensor:
    """Return (Q, blocks) float32, the largest product of each query with BLOCK prototypes in turn.

    Args:
        queries: (Q, D) float32, D up to RETRIEVAL_CHANNELS.
        prototypes: (M, D) float32.
    """
    queries, prototypes = queries.contiguous(), prototypes.contiguous()
    blocks, query_tiles = -(-len(prototypes) // BLOCK), -(-len(queries) // _ROWS)
    each = max(1, -(-blocks * query_tiles // _PROGRAMS))
    first, rest = tiles(queries.shape[1])
    largest = queries.new_empty(len(queries), blocks)
    if len(queries):
        # Triton works on the current device.
        with torch.cuda.device_of(queries):
            _keep_largest[(query_tiles, -(-blocks // each))](
                queries, prototypes, largest, len(queries), len(prototypes), blocks, each, ROWS=_ROWS, COLUMNS=BLOCK,
                CHANNELS=queries.shape[1], FIRST=first, REST=rest, **_COMPILATION)
    return largest


def try_out(device: torch.device) -> None:
    """Compile and run the kernel at its largest."""
    vectors = torch.ones(2, RETRIEVAL_CHANNELS, dtype=torch.float32, device=device)
    largest_by_block(vectors, vectors)


@triton.jit(do_not_specialize=['num_queries', 'num_prototypes', 'num_blocks', 'each'])
def _keep_largest(queries, prototypes, largest, num_queries, num_prototypes, num_blocks, each, ROWS: tl.constexpr,
                  COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr):
    """Take a tile of the queries through some of the blocks."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid = rows < num_queries
    row_first = cut(load(queries, rows, valid, CHANNELS, 0, FIRST))
    row_rest = row_first
    if REST > 0:
        row_rest = cut(load(queries, rows, valid, CHANNELS, FIRST, REST))
    start = tl.program_id(1) * each
    for block in range(start, tl.minimum(start + each, num_blocks)):
        columns = block * COLUMNS + tl.arange(0, COLUMNS)
        inside = columns < num_prototypes
        products = tl.zeros([ROWS, COLUMNS], tl.float32)
        column_first = cut(load(prototypes, columns, inside, CHANNELS, 0, FIRST))
        if REST > 0:
            column_rest = cut(load(prototypes, columns, inside, CHANNELS, FIRST, REST))
            products = product(row_rest, transposed(column_rest), products)
        products = product(row_first, transposed(column_first), products)
        best = tl.max(tl.where(inside[None, :], products, float('-inf')), axis=1)
        tl.store(largest + rows.to(tl.int64) * num_blocks + block, best, mask=valid)
