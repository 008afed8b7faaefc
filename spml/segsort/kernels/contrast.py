"""The losses of `../contrast.py` by Triton kernels: no value of a pixel and a segment ever reaches memory.

A program takes a block of rows and walks over their columns tile by tile. Of each tile it forms the logits,
exponentiates them for one or two relations at once and keeps only sums: forward, of the positives and of the negatives
of each pixel; backward, with the pixels as rows in one launch and the segments in another, the products of the
derivatives by the logits with the vectors of the columns. That is five products where keeping the logits would take
three, but memory would have to move all of them several times. Vectors come cut into parts (`products.py`).

Nothing is added atomically, so every call gives the same result. The host does little, since it would otherwise be the
slower part: the kernels compute what they need of each pixel themselves, and find their rows without a table. They are
in `contrast_programs.py`.

Shape letters: N pixels, S segments, D channels, W channels of the tiles, R relations (1 or 2), G groups.
"""
import dataclasses
import math
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spml.segsort.kernels import CONTRAST_CHANNELS, SAFE_LOGIT
from spml.segsort.kernels import contrast_programs as programs
from spml.segsort.kernels.products import tiles

# When two segments are positive for each other, by their codes: when they share a bit; when they are equal; when they
# are equal, and a segment of a negative code takes no part.
BITS, EQUAL, EQUAL_LABELLED = range(3)
MAX_RELATIONS = 2
# Rows of a program and columns of a tile, and how Triton compiles it.
_ROWS, _COLUMNS = 64, 32
_COMPILATION = {'num_warps': 4, 'num_stages': 2}
# So many programs occupy a large GPU. Where rows are few, the columns of each are split into parts, whose results need
# memory and are added up.
_PROGRAMS = 1024
_PARTS = 8
# Every program looks through all groups for its own.
_MOST_GROUPS = 1024
# Facts found before the work, in this order, as int64. Of squared lengths, the bits; `span` is the difference between
# the numbers of the last group and the first.
_FACTS = ('pixel_square', 'segment_square', 'pixels_mixed', 'segments_mixed', 'span')


@dataclasses.dataclass(frozen=True)
class Relation:
    """One relation.

    Attributes:
        codes: (S,) int32 or int64 of the segments.
        mode: BITS, EQUAL or EQUAL_LABELLED.
        concentration: kappa.
        weights: (N,) float32 share of each pixel in the loss, 0 for those of segments that take no part; None for
            groups, where every pixel of a group weighs the same, and every group with pixels.
    """

    codes: Tensor
    mode: int
    concentration: float
    weights: Any = None


def contrastive_losses(embeddings: Tensor, own: Tensor, prototypes: Tensor, relations: Sequence[Relation],
                       group: Tensor | None = None) -> Tensor | None:
    """Return the (R,) float32 weighted sums of the losses of N > 0 pixels, differentiable in both vectors.

    None where exponentials might leave the range of float32: they are taken as they are, without a maximum that is
    subtracted first. Unit vectors and a kappa up to 27 are safe.

    Args:
        embeddings: (N, D) float.
        own: (N,) int64 index of each pixel's own segment in `prototypes`.
        prototypes: (S, D) float.
        relations: one or two.
        group: (S,) int64; pixels meet the segments of their segment's group alone. None: all meet all.
    """
    # Triton works on the current device.
    with torch.cuda.device_of(embeddings):
        embeddings, own, prototypes = (tensor.contiguous() for tensor in (embeddings, own, prototypes))
        options = _options(relations, embeddings.shape[1])
        facts = torch.full((len(_FACTS),), -1, device=own.device)
        parts = [_cut(vectors.detach(), facts[index:]) for index, vectors in enumerate((embeddings, prototypes))]
        codes = _stack([relation.codes for relation in relations])
        itself = torch.empty(len(relations), len(own), dtype=torch.float32, device=own.device)
        programs.multiply_own[(-(-len(own) // _ROWS),)](embeddings, prototypes, own, itself, len(own), **options)
        starts = None if group is None else _find_groups(group.contiguous(), own, facts)
        pixels = _Side(parts[0], codes[:, own], starts and starts[0])
        segments = _Side(parts[1], codes, starts and starts[1])
    # All that controls this comes in one transfer, while the GPU is busy with the above.
    known = dict(zip(_FACTS, facts.tolist(), strict=True))
    lengths = [struct.unpack('f', struct.pack('i', known[name]))[0] for name in ('pixel_square', 'segment_square')]
    largest = max(relation.concentration for relation in relations) / math.log(2)
    if not math.sqrt(lengths[0] * lengths[1]) * largest <= SAFE_LOGIT:
        return None
    if group is not None:
        if known['pixels_mixed'] > 0 or known['segments_mixed'] > 0 or known['span'] >= _MOST_GROUPS:
            return _in_order(embeddings, own, prototypes, relations, group)
        pixels, segments = (dataclasses.replace(side, starts=side.starts[:known['span'] + 2])
                            for side in (pixels, segments))
    losses: Tensor = _FusedContrast.apply(embeddings, prototypes, own, (pixels, segments), relations, itself, options)
    return losses


def try_out(device: torch.device) -> None:
    """Compile and run the kernels at their largest."""
    # Backward is tried too, wherever the kernels are called first.
    with torch.inference_mode(False), torch.enable_grad():
        vectors = torch.ones(2, CONTRAST_CHANNELS, dtype=torch.float32, device=device, requires_grad=True)
        own, codes = torch.arange(2, device=device), torch.zeros(2, dtype=torch.int32, device=device)
        relation = Relation(codes, BITS, 0.0, vectors.detach()[:, 0])
        losses = contrastive_losses(vectors, own, vectors, [relation, relation])
        if losses is not None:
            losses.sum().backward()


def _in_order(embeddings: Tensor, own: Tensor, prototypes: Tensor, relations: Sequence[Relation],
              group: Tensor) -> Tensor | None:
    """Do what `contrastive_losses` does for groups that are mixed, or whose numbers are far apart."""
    groups, group = torch.unique(group, return_inverse=True)
    if len(groups) > _MOST_GROUPS:
        return None
    order = group.argsort(stable=True)
    own, prototypes, group = order.argsort()[own], prototypes[order], group[order]
    relations = [dataclasses.replace(relation, codes=relation.codes[order]) for relation in relations]
    pixel_order = group[own].argsort(stable=True)
    return contrastive_losses(embeddings[pixel_order], own[pixel_order], prototypes, relations, group)


class _FusedContrast(torch.autograd.Function):
    """Backward computes the tiles again instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, prototypes: Tensor, own: Tensor, sides: 'tuple[_Side, _Side]',
                relations: Sequence[Relation], itself: Tensor, options: dict[str, Any]) -> Tensor:
        is_grouped = sides[0].starts is not None
        weights = itself if is_grouped else torch.stack([relation.weights for relation in relations])
        factors = itself.new_empty(len(relations), 3, len(own))
        grid, _ = _grid(*sides)
        losses = itself.new_empty(len(relations), grid[0])
        with torch.cuda.device_of(own):
            programs.sum_up[grid](*_arguments(*sides), own, weights, itself, losses, factors, GROUPED=is_grouped,
                                  **options)
        # Saved, memory is free again after backward. Integers made for inference cannot be, but copies of them.
        ctx.save_for_backward(own.clone() if own.is_inference() else own, factors,
                              *(tensor for side in sides for tensor in (side.parts, side.codes, side.starts)))
        ctx.options, ctx.types = options, (embeddings.dtype, prototypes.dtype)
        return losses.sum(dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        own, factors, *tensors = ctx.saved_tensors
        sides = _Side(*tensors[:3]), _Side(*tensors[3:])
        found: list[Tensor | None] = [None, None]
        for index in range(2):
            if ctx.needs_input_grad[index]:
                rows, columns = sides[index], sides[1 - index]
                grid, parts = _grid(rows, columns, _PARTS)
                grad = factors.new_empty(parts, rows.size, ctx.options['CHANNELS'])
                with torch.cuda.device_of(own):
                    programs.multiply[grid](*_arguments(rows, columns), own, factors, grads.contiguous(), grad,
                                            GROUPED=rows.starts is not None, ROWS_ARE_PIXELS=index == 0, **ctx.options)
                found[index] = (grad[0] if parts == 1 else grad.sum(dim=0)).to(ctx.types[index])
        return *found, None, None, None, None, None


@dataclasses.dataclass(frozen=True)
class _Side:
    """What rows or columns are, pixels or segments.

    Attributes:
        parts: (3, rows, W) bfloat16 that add up to the vectors.
        codes: (R, rows).
        starts: (G + 1,) int64, where each group starts and the last one ends; or None.
    """

    parts: Tensor
    codes: Tensor
    starts: Any

    @property
    def size(self) -> int:
        """How many there are."""
        return self.parts.shape[1]


def _find_groups(group: Tensor, own: Tensor, facts: Tensor) -> tuple[Tensor, Tensor]:
    """Fill in what `facts` holds of groups; return where pixels and segments of up to `_MOST_GROUPS` start.

    The latter holds for groups in order, from the first one's number on.
    """
    pixel_group = torch.empty_like(own)
    count = max(len(own), len(group))
    programs.look_at_groups[(-(-count // 1024),)](group, own, pixel_group, facts, len(own), len(group), COUNT=1024)
    edges = group[:1] + torch.arange(_MOST_GROUPS + 1, device=group.device)
    return torch.searchsorted(pixel_group, edges), torch.searchsorted(group, edges)


def _arguments(rows: _Side, columns: _Side) -> tuple[Any, ...]:
    """Return the first arguments of the kernels."""
    sides = [(side.parts, side.codes, side.codes if side.starts is None else side.starts, side.size)
             for side in (rows, columns)]
    return *sides[0], *sides[1], 1 if rows.starts is None else len(rows.starts) - 1


def _grid(rows: _Side, columns: _Side, most: int = 1) -> tuple[tuple[int, int], int]:
    """Return the programs of a launch, as blocks of rows times parts of their columns, and the number of parts."""
    groups = 1 if rows.starts is None else len(rows.starts) - 1
    # A group may leave a block incomplete.
    blocks = -(-rows.size // _ROWS) + groups - 1
    parts = max(1, min(most, _PROGRAMS // blocks, columns.size // (4 * _COLUMNS * groups)))
    return (blocks, parts), parts


def _stack(codes: list[Tensor]) -> Tensor:
    narrow = all(code.dtype == torch.int32 for code in codes)
    return torch.stack(codes if narrow else [code.long() for code in codes])


def _cut(vectors: Tensor, square: Tensor) -> Tensor:
    """Return (rows, D) vectors as (3, rows, W) bfloat16 that add up to them, channels padded with zeros.

    The bits of the largest squared length go to `square`, an int64 that is less before; they are in the same order.
    """
    first, rest = tiles(vectors.shape[1])
    parts = vectors.new_empty(3, len(vectors), first + rest, dtype=torch.bfloat16)
    programs.store_parts[(-(-len(vectors) // _ROWS),)](vectors, parts, square, len(vectors), ROWS=_ROWS,
                                                       CHANNELS=vectors.shape[1], FIRST=first, REST=rest)
    return parts


def _options(relations: Sequence[Relation], channels: int) -> dict[str, Any]:
    """Return the factors of the exponents, and the arguments that say what is compiled."""
    scales = [relation.concentration / math.log(2) for relation in relations]
    first, rest = tiles(channels)
    return {'scale_0': scales[0], 'scale_1': scales[-1], 'MODE_0': relations[0].mode,
            'MODE_1': relations[1].mode if len(relations) > 1 else -1, 'CHANNELS': channels, 'FIRST': first,
            'REST': rest, 'ROWS': _ROWS, 'COLUMNS': _COLUMNS, **_COMPILATION}
