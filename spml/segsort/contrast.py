"""The contrastive loss of pixels against segments, in memory that grows with pixels + segments, not their product.

For a pixel i with unit embedding v_i in segment s(i), positives A+ and negatives A- among the segments u_s:

    loss_i = -log( num / (num + sum_{A-} exp(kappa v_i.u_s)) ),   num = sum_{A+ without s(i)} exp(kappa v_i.u_s),

or the term of s(i) itself when A+ holds no other segment. With n = log num and m = log of the negatives' sum, loss_i
is softplus(m - n). As the loss is a weighted mean, its gradients are computed in the same pass over chunks of pixels,
and backward only scales them.

There are three ways to say what is positive. `contrast_categories`: it depends on the categories of two segments alone
(a class, a set of tags); pixels are walked category by category with the segments sorted into positives and negatives,
so that no mask is ever formed and nearly all time goes into the three matrix products. `contrast_groups`: pixels only
meet segments of their own group (an image); many groups are padded into one batch where a device prefers few large
kernels. `contrastive_loss`: by any masks. On GPUs that run Triton, kernels (`kernels/contrast.py`) do the second, and
`relations.py` has them do classes and sets that fit an integer.

Logits are kept in units of log 2, since exp2 is cheaper than exp; the factor that turns dot products into logits is
applied to the prototypes, of which there are few. Shape letters: N pixels, S segments, D channels, K categories, G
groups; n, s, g of them in a chunk.
"""
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.segsort import kernels
from spml.segsort.clustering import TILE
from spml.utils.device import CHUNK_ELEMENTS, chunk_elements

# Which segments are A+ and A- of the pixels of some segments: (n,) int64 -> two (n, S) bool.
Masks = Callable[[Tensor], tuple[Tensor, Tensor]]


def fusible(embeddings: Tensor, prototypes: Tensor) -> bool:
    """Return whether `kernels/contrast.py` takes such vectors."""
    return (kernels.available(embeddings.device, 'contrast') and len(embeddings) > 0 and len(prototypes) > 0
            and embeddings.shape[1] <= kernels.CONTRAST_CHANNELS
            and torch.promote_types(embeddings.dtype, prototypes.dtype) != torch.float64)


def contrast_categories(embeddings: Tensor, own: Tensor, prototypes: Tensor, category: Tensor, meets: Tensor,
                        concentration: float) -> Tensor:
    """Mean loss of N pixels against S segments: those whose categories meet are positive, all others negative.

    Args:
        embeddings: (N, D) float.
        own: (N,) int64 index of each pixel's own segment in `prototypes`.
        prototypes: (S, D) float.
        category: (S,) int64 in 0..K-1.
        meets: (K, K) bool, symmetric.
        concentration: kappa.

    Returns:
        Scalar loss, differentiable in embeddings and prototypes; 0 for N = 0.
    """
    def evaluate(sums: '_Sums') -> None:
        _category_by_category(sums, own, category, meets)

    return _evaluate(embeddings, prototypes, concentration, evaluate)


def contrast_groups(embeddings: Tensor, own: Tensor, prototypes: Tensor, group: Tensor, label: Tensor,
                    concentration: float) -> Tensor:
    """Mean over groups with pixels of the mean over their pixels, against the segments of the group alone.

    Args:
        embeddings, own, prototypes, concentration: as in `contrast_categories`.
        group: (S,) int64 group of each segment.
        label: (S,) int64; segments of the group are positive where their labels are equal and negative where not.
    """
    if fusible(embeddings, prototypes):
        from spml.segsort.kernels import contrast as fused

        relation = fused.Relation(label, fused.EQUAL, concentration)
        losses = fused.contrastive_losses(embeddings, own, prototypes, [relation], group)
        if losses is not None:
            return losses[0]

    def evaluate(sums: '_Sums') -> None:
        largest = [vectors.norm(dim=1).max() for vectors in (sums.vectors, sums.targets)]
        # Batches take tables of the segments of a group by themselves.
        small = torch.unique(group, return_counts=True)[1].max().item() ** 2 <= CHUNK_ELEMENTS
        if small and (largest[0] * largest[1]).item() <= kernels.SAFE_LOGIT:
            _batch_by_batch(sums, own, group, label)
            return
        _, pixel_group, count = torch.unique(group[own], return_inverse=True, return_counts=True)

        def masks(rows: Tensor) -> tuple[Tensor, Tensor]:
            same = label[rows, None] == label[None]
            inside = group[rows, None] == group[None]
            return same & inside, ~same & inside

        _by_masks(sums, own, masks, 1 / (len(count) * count[pixel_group].to(sums.vectors.dtype)))

    return _evaluate(embeddings, prototypes, concentration, evaluate)


def contrastive_loss(embeddings: Tensor, own: Tensor, prototypes: Tensor, masks: Masks,
                     concentration: float) -> Tensor:
    """Mean loss of N pixels against S segments by any masks; several times the work of `contrast_categories`.

    Args:
        embeddings, own, prototypes, concentration: as in `contrast_categories`.
        masks: function from (n,) int64 segment indices to two (n, S) bool tensors: the positives A+ (which may hold the
            segment itself) and the negatives A- of the pixels of those segments.
    """
    def evaluate(sums: '_Sums') -> None:
        _by_masks(sums, own, masks, torch.full_like(own, 1 / len(own), dtype=sums.vectors.dtype))

    return _evaluate(embeddings, prototypes, concentration, evaluate)


def _evaluate(embeddings: Tensor, prototypes: Tensor, concentration: float,
              evaluate: Callable[['_Sums'], None]) -> Tensor:
    if len(embeddings) == 0:
        # A zero that back-propagates zeros.
        return embeddings.sum() * 0 + prototypes.sum() * 0
    loss: Tensor = _Contrast.apply(embeddings, prototypes, float(concentration), evaluate)
    return loss


class _Contrast(torch.autograd.Function):
    """Loss and gradients in one pass; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, prototypes: Tensor, concentration: float,
                evaluate: Callable[['_Sums'], None]) -> Tensor:
        # Reductions run in float32 or wider, whatever autocast hands in.
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            sums = _Sums(embeddings.to(wide), prototypes.to(wide), concentration, any(ctx.needs_input_grad[:2]))
            evaluate(sums)
        if sums.needs_grad:
            ctx.save_for_backward(sums.grad_vectors.to(embeddings.dtype),
                                  sums.grad_targets.mul_(sums.scale).to(prototypes.dtype))
        return sums.loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_vectors, grad_targets = ctx.saved_tensors
        return grad * grad_vectors, grad * grad_targets, None, None


class _Sums:
    """The inputs of a pass and what it adds up.

    Attributes:
        vectors: (N, D) float, the embeddings.
        scale: kappa in units of log 2.
        targets: (S, D) float, the prototypes times `scale`, so that their products with vectors are logits.
        needs_grad: whether the gradients are asked for.
        loss: scalar.
        grad_vectors: (N, D), the derivatives by the logits, times targets; has to be written everywhere.
        grad_targets: (S, D), still to be multiplied by `scale`: the derivatives by the logits, times vectors.
    """

    def __init__(self, vectors: Tensor, prototypes: Tensor, concentration: float, needs_grad: bool) -> None:
        self.vectors = vectors
        self.scale = concentration / math.log(2)
        self.targets = prototypes * self.scale
        self.needs_grad = needs_grad
        self.loss = vectors.new_zeros(())
        self.grad_vectors: Any = torch.empty_like(vectors) if needs_grad else None
        self.grad_targets: Any = torch.zeros_like(prototypes) if needs_grad else None


def _category_by_category(sums: _Sums, own: Tensor, category: Tensor, meets: Tensor) -> None:
    """Walk the pixels category by category."""
    count = len(sums.targets)
    pixel_category = category[own]
    order = pixel_category.argsort(stable=True)
    # All sizes that control the loop, in one transfer.
    met = (meets * torch.bincount(category, minlength=len(meets))).sum(dim=1)
    sizes = torch.stack([torch.bincount(pixel_category, minlength=len(meets)), met, meets.diagonal().long()]).T.tolist()
    place = torch.empty_like(category)
    chunk = max(1, chunk_elements(category.device) // max(1, count))
    weight = 1 / len(own)
    start = 0
    for index, (pixels, positives, with_itself) in enumerate(sizes):
        rows_of_category, start = order[start:start + pixels], start + pixels
        if pixels == 0 or positives == count:
            # Without negatives the loss and its gradients are 0.
            if sums.needs_grad:
                sums.grad_vectors.index_fill_(0, rows_of_category, 0)
            continue
        columns = (~meets[index])[category].to(torch.uint8).argsort(stable=True)
        place[columns] = torch.arange(count, device=columns.device)
        targets = _take(sums.targets, columns)
        grad_targets = torch.zeros_like(targets)
        for rows in rows_of_category.split(chunk):
            vectors, segment = _take(sums.vectors, rows), own.index_select(0, rows)
            logits = vectors @ targets.T
            # A segment that is positive, and not the only one, is excluded from its own pixels' numerator.
            if with_itself and positives > 1:
                logits.scatter_(1, place[segment][:, None], -torch.inf)
            # Without any positive the numerator is the pixel's own segment, which is a negative, too.
            lone = _take(sums.targets, segment) if positives == 0 else None
            numerator = logits[:, :positives] if lone is None else (vectors * lone).sum(dim=1, keepdim=True)
            sums.loss += _exponentiate(numerator, logits[:, positives:], weight, sums.needs_grad).sum()
            if sums.needs_grad:
                grad_vectors = logits @ targets
                grad_targets.addmm_(logits.T, vectors)
                if lone is not None:
                    grad_vectors += numerator * lone
                    sums.grad_targets.index_add_(0, segment, numerator * vectors)
                sums.grad_vectors.index_copy_(0, rows, grad_vectors)
        if sums.needs_grad:
            sums.grad_targets += _take(grad_targets, place)


def _by_masks(sums: _Sums, own: Tensor, masks: Masks, weight: Tensor) -> None:
    """Walk the pixels in their order; `weight` is the (N,) float share of each in the mean."""
    chunk = max(1, chunk_elements(own.device) // max(1, len(sums.targets)))
    for rows in torch.arange(len(own), device=own.device).split(chunk):
        vectors, segment = sums.vectors[rows], own[rows][:, None]
        positive, negative = masks(own[rows])
        # Decided by counting: the sign of a float difference would misjudge small sums.
        others = positive.scatter(1, segment, False)
        numerator = others.scatter(1, segment, ~others.any(dim=1, keepdim=True))
        logits = vectors @ sums.targets.T
        grad, grad_negative = logits.masked_fill(~numerator, -torch.inf), logits.masked_fill_(~negative, -torch.inf)
        sums.loss += _exponentiate(grad, grad_negative, weight[rows][:, None], sums.needs_grad).sum()
        if sums.needs_grad:
            grad += grad_negative
            sums.grad_vectors[rows] = grad @ sums.targets
            sums.grad_targets.addmm_(grad.T, vectors)


def _exponentiate(positive: Tensor, negative: Tensor, weight: float | Tensor, needs_grad: bool) -> Tensor:
    """Return the (n, 1) losses of (n, p) and (n, q) logits, times their weight (a number or (n, 1)).

    The logits are overwritten, with the derivatives by them if `needs_grad`.
    """
    top_positive = positive.amax(dim=1, keepdim=True)
    # A row without negatives has no finite maximum; any finite one keeps its exponentials at exactly 0.
    top_negative = negative.amax(dim=1, keepdim=True).clamp(min=torch.finfo(negative.dtype).min)
    sum_positive = positive.sub_(top_positive).exp2_().sum(dim=1, keepdim=True)
    sum_negative = negative.sub_(top_negative).exp2_().sum(dim=1, keepdim=True)
    gap = math.log(2) * ((sum_negative.log2() + top_negative) - (sum_positive.log2() + top_positive))
    if needs_grad:
        share = torch.sigmoid(gap) * (math.log(2) * weight)
        positive.mul_(-share / sum_positive)
        negative.mul_(share / sum_negative.clamp(min=torch.finfo(negative.dtype).tiny))
    return F.softplus(gap) * weight


def _batch_by_batch(sums: _Sums, own: Tensor, group: Tensor, label: Tensor) -> None:
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
        targets = _take(sums.targets, columns) * present[..., None]
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
            vectors = _take(sums.vectors, taken) if at is None else sums.vectors[at].view(*taken.shape, -1)
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
        segment: (g, n) int64 own segments within the group.
        present: (g, s) bool, false for padding, or (1, s) for one group.
        tables: of `_alike`.
        weight: (g, n) of the losses.
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
        counts: list of the number of rows of each group.
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


def _take(matrix: Tensor, rows: Tensor) -> Tensor:
    """Return matrix[rows] for (...) int64 rows; on a CPU index_select is many times as fast as indexing."""
    return matrix.index_select(0, rows.flatten()).view(*rows.shape, matrix.shape[1])
