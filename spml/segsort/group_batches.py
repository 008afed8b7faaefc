"""The walk of `contrast.py` over groups: as many at once as fit a chunk, by sums of exponentials without a maximum.

Shape letters: N pixels, S segments, D channels, G groups; n, s, g of them in a batch.
"""
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spml.segsort.clustering import TILE, take
from spml.utils.device import chunk_elements

if TYPE_CHECKING:
    from spml.segsort.contrast import Sums


def batch_by_batch(sums: 'Sums', own: Tensor, group: Tensor, label: Tensor) -> None:
    """Walk the groups, as many at once as fit a chunk when padded to the largest; logits within `SAFE_LOGIT`."""
    groups, pixel_group = torch.unique(group[own], return_inverse=True)
    # Segments of groups without pixels come last and are ignored.
    segment_group = torch.searchsorted(groups, group)
    segment_group[groups[segment_group.clamp(max=len(groups) - 1)] != group] = len(groups)
    pixels, segments = _Rows(pixel_group, len(groups)), _Rows(segment_group, len(groups))
    chunk = chunk_elements(own.device)
    block = max(1, chunk // (max(*pixels.counts, *segments.counts) * max(segments.counts)))
    if sums.needs_grad and block > 1:
        # Padding repeats rows, so that gradients are added.
        sums.grad_vectors.zero_()
    for first in range(0, len(groups), block):
        batch = slice(first, first + block)
        (rows, valid), (columns, present) = pixels.padded(batch), segments.padded(batch)
        weight = valid.to(sums.vectors.dtype) / (valid.sum(dim=1, keepdim=True) * len(groups))
        tables = _alike(label[columns].where(present, label.max() + 1), present)
        targets = take(sums.targets, columns) * present[..., None]
        grad_targets = torch.zeros_like(targets)
        segment = segments.place.index_select(0, own.index_select(0, rows.flatten())).view_as(rows).where(valid, 0)
        # Several threads share a batch of products, but not always a single one, so one group is split into tiles.
        alone = len(rows) == 1
        parts = _parts(rows.shape[1], chunk // columns.numel(), TILE if alone else 1)
        # One buffer for the matrices of all parts: new ones would cost a CPU as much as the arithmetic on it.
        buffer = sums.vectors.new_empty(max(part.stop - part.start for part in parts) * columns.numel())
        # The pixels of one group that follow each other need not be copied either.
        start = int(pixels.starts[first]) if alone and pixels.in_order else None
        for part in parts:
            tile = TILE if alone and (part.stop - part.start) % TILE == 0 else part.stop - part.start
            taken, places, weights = (values[:, part].reshape(-1, tile) for values in (rows, segment, weight))
            at = None if start is None else slice(start + part.start, start + part.stop)
            vectors = take(sums.vectors, taken) if at is None else sums.vectors[at].view(*taken.shape, -1)
            spread = targets.expand(len(taken), -1, -1)
            loss, grad, share = _batch_chunk(vectors, spread, places, present, tables, weights, buffer)
            sums.loss += loss
            if not sums.needs_grad:
                continue
            product = torch.bmm(grad.transpose(1, 2), vectors * share)
            grad_targets += product.sum(dim=0, keepdim=True) if alone else product
            if at is not None:
                torch.bmm(grad, spread, out=sums.grad_vectors[at].view_as(vectors)).mul_(share)
                continue
            # Padding has weight 0, so that whatever row it repeats gets only zeros. One group has none.
            put = sums.grad_vectors.index_copy_ if alone else sums.grad_vectors.index_add_
            put(0, taken.flatten(), torch.bmm(grad, spread).mul_(share).flatten(0, 1))
        if sums.needs_grad:
            sums.grad_targets.index_add_(0, columns.flatten(), grad_targets.flatten(0, 1))


def _alike(label: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return of each of g * s segments: whether it has negatives, whether positives, and which.

    Args:
        label: (g, s) int64; padding has a label that nothing else has.
        present: (g, s) bool, false for padding.

    Returns:
        Two (g * s,) bool, and (g * s, m) int64 places within their group of the segments of a label, the segment itself
        among them and also wherever there are less than m.
    """
    ordered, order = label.sort(dim=1)
    start, stop = (torch.searchsorted(ordered, label, right=right) for right in (False, True))
    count = stop - start
    places = start[..., None] + torch.arange(int(count.max()), device=label.device)
    itself = torch.arange(label.shape[1], device=label.device)[:, None]
    alike = order.gather(1, places.clamp(max=label.shape[1] - 1).flatten(1)).view_as(places)
    alike = alike.where(places < stop[..., None], itself)
    return (count < present.sum(dim=1, keepdim=True)).flatten(), (count > 1).flatten(), alike.flatten(0, 1)


def _parts(count: int, most: int, tile: int) -> list[slice]:
    """Cut `count` into slices of about `most` that are multiples of `tile`, and what remains."""
    step, whole = max(1, most // tile) * tile, count // tile * tile
    parts = [slice(start, min(start + step, whole)) for start in range(0, whole, step)]
    return parts + [slice(whole, count)] * (whole < count)


def _batch_chunk(vectors: Tensor, targets: Tensor, segment: Tensor, present: Tensor,
                 tables: tuple[Tensor, Tensor, Tensor], weight: Tensor, buffer: Tensor) -> tuple[Tensor, ...]:
    """Return the weighted sum of the losses, and derivatives by the logits as (g, n, s) times (g, n, 1).

    Args:
        vectors, targets: (g, n, D), (g, s, D); one group may come as g tiles of it.
        segment, weight: (g, n) int64 own segments within the group, (g, n) of the losses.
        present, tables: (g, s) bool, false for padding, or (1, s) for one group; of `_alike`.
        buffer: (at least g * n * s,), overwritten; the (g, n, s) derivatives are views of it.
    """
    size = (*segment.shape, present.shape[1])
    exponentials, own = buffer[:math.prod(size)].view(size), segment[..., None]
    row = (segment + present.shape[1] * torch.arange(len(present), device=segment.device)[:, None]).flatten()
    has_negative, has_positive, alike = (table.index_select(0, row).view(*segment.shape, -1) for table in tables)
    torch.bmm(vectors, targets.transpose(1, 2), out=exponentials).exp2_()
    if len(present) > 1:
        exponentials *= present[:, None]
    own_term = exponentials.gather(2, own)
    exponentials.scatter_(2, own, 0)
    positives = exponentials.gather(2, alike)
    positive = positives.sum(dim=2, keepdim=True)
    # The rest; it is lost in rounding only where it is negligible against the positives.
    negative = (exponentials.sum(dim=2, keepdim=True) - positive).clamp_(min=0) * has_negative
    numerator = torch.where(has_positive, positive, own_term)
    quotient, weight = negative / numerator, weight[..., None]
    loss = (torch.log1p(quotient) * weight).sum()
    # What the derivatives of a pixel share is cheaper to apply to products with vectors than to all segments.
    share = math.log(2) * weight / (numerator + negative)
    grad = exponentials.scatter_(2, alike, positives.mul_(-quotient))
    return loss, grad.scatter_(2, own, torch.where(has_positive, 0, -negative)), share


class _Rows:
    """Rows by group.

    Attributes:
        order: (R,) int64 rows, group after group.
        place: (R,) int64 place of a row within its group.
        in_order: whether the rows already come group after group.
    """

    def __init__(self, group: Tensor, num_groups: int) -> None:
        self.in_order = bool((group[1:] >= group[:-1]).all())
        rows = torch.arange(len(group), device=group.device)
        self.order = rows if self.in_order else group.argsort(stable=True)
        counts = torch.bincount(group, minlength=num_groups)
        self.starts = counts.cumsum(0) - counts
        self.counts: list[int] = counts[:num_groups].tolist()
        self.place = torch.empty_like(self.order)
        self.place[self.order] = rows - self.starts[group[self.order]]

    def padded(self, batch: slice) -> tuple[Tensor, Tensor]:
        """Return (g, w) int64 rows of a slice of the groups, w of the largest, and (g, w) bool, false for padding."""
        counts = torch.tensor(self.counts[batch], device=self.order.device)[:, None]
        places = torch.arange(max(self.counts[batch]), device=self.order.device)
        rows = self.starts[:len(self.counts)][batch][:, None] + places
        return self.order[rows.clamp(max=len(self.order) - 1)], places < counts
