"""The contrastive loss of pixels against segments, in memory that grows with pixels + segments, not their product.

For a pixel i with unit embedding v_i in segment s(i), positives A+ and negatives A- among the segments u_s:

    loss_i = -log( num / (num + sum_{A-} exp(kappa v_i.u_s)) ),   num = sum_{A+ without s(i)} exp(kappa v_i.u_s),

or the term of s(i) itself when A+ holds no other segment. With n = log num and m = log of the negatives' sum, loss_i
is softplus(m - n): no exponential of a similarity is ever formed outside a log-sum-exp, and a pixel without negatives
costs 0. As the loss is a weighted mean, its gradients are computed in the same pass over chunks of pixels, and
backward only scales them.

Three ways to say what is positive: `contrast_kinds`, where that depends on the kinds of two segments alone (a class, a
set of tags); pixels are walked kind by kind with the segments sorted into positives and negatives, so that no mask is
ever formed and nearly all time goes into the three matrix products. `contrast_groups`, where pixels only meet segments
of their own group (an image); several groups are padded into one batch where a device prefers few large kernels.
`contrast`, with any masks.

Logits are kept in units of log 2, since exp2 is cheaper than exp. Shape letters: N pixels, S segments, D channels, K
kinds, G groups; n, s, g of them in a chunk.
"""
import math

import torch
import torch.nn.functional as F

from spml.utils.device import chunk_elements


def contrast_kinds(embeddings, own, prototypes, kind, meets, concentration):
    """Mean loss of N pixels against S segments, of which those whose kinds meet are positive, all others negative.

    Args:
        embeddings: (N, D) float.
        own: (N,) int64 index of each pixel's own segment in `prototypes`.
        prototypes: (S, D) float.
        kind: (S,) int64 in 0..K-1.
        meets: (K, K) bool, symmetric.
        concentration: kappa.

    Returns:
        Scalar loss, differentiable in embeddings and prototypes; 0 for N = 0.
    """
    if len(embeddings) == 0:
        return _zero(embeddings, prototypes)

    def evaluate(vectors, targets, needs_grad):
        return _kind_by_kind(vectors, own, targets, kind, meets, concentration, needs_grad)

    return _Contrast.apply(embeddings, prototypes, evaluate)


def contrast_groups(embeddings, own, prototypes, group, label, concentration):
    """Mean over groups with pixels of the mean over their pixels, against the segments of the group alone.

    Args:
        embeddings, own, prototypes, concentration: as in `contrast_kinds`.
        group: (S,) int64 group of each segment.
        label: (S,) int64; segments of the group are positive where their labels are equal and negative where not.
    """
    if len(embeddings) == 0:
        return _zero(embeddings, prototypes)

    def evaluate(vectors, targets, needs_grad):
        return _batch_by_batch(vectors, own, targets, group, label, concentration, needs_grad)

    return _Contrast.apply(embeddings, prototypes, evaluate)


def contrast(embeddings, own, prototypes, masks, concentration):
    """Mean loss of N pixels against S segments by any masks; several times the work of `contrast_kinds`.

    Args:
        embeddings, own, prototypes, concentration: as in `contrast_kinds`.
        masks: function from (n,) int64 segment indices to two (n, S) bool tensors: the positives A+ (which may hold the
            segment itself) and the negatives A- of the pixels of those segments.
    """
    if len(embeddings) == 0:
        return _zero(embeddings, prototypes)

    def evaluate(vectors, targets, needs_grad):
        accumulator = _Accumulator(vectors, targets, needs_grad)
        chunk = max(1, chunk_elements(vectors.device) // len(targets))
        for start in range(0, len(vectors), chunk):
            rows = slice(start, start + chunk)
            scaled = vectors[rows] * (concentration / math.log(2))
            loss, grad_logits = _masked_chunk(scaled[None], targets[None], *_penalties(*masks(own[rows]), own[rows]),
                                              needs_grad)
            accumulator.total += loss.sum()
            if needs_grad:
                accumulator.vectors[rows] = grad_logits[0] @ targets
                accumulator.targets.addmm_(grad_logits[0].T, scaled)
        return accumulator.result(concentration, 1 / len(vectors))

    return _Contrast.apply(embeddings, prototypes, evaluate)


class _Contrast(torch.autograd.Function):
    """Loss and gradients in one pass; backward only scales them."""

    @staticmethod
    def forward(ctx, embeddings, prototypes, evaluate):
        # Reductions run in float32 or wider, whatever autocast hands in.
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        needs_grad = any(ctx.needs_input_grad[:2])
        with torch.autocast(embeddings.device.type, enabled=False):
            loss, grad_vectors, grad_targets = evaluate(embeddings.to(wide), prototypes.to(wide), needs_grad)
        if needs_grad:
            ctx.save_for_backward(grad_vectors.to(embeddings.dtype), grad_targets.to(prototypes.dtype))
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        grad_vectors, grad_targets = ctx.saved_tensors
        return grad * grad_vectors, grad * grad_targets, None


class _Accumulator:
    """Sums over chunks: the loss and, by the logits' derivatives, the gradients still lacking their common factors."""

    def __init__(self, vectors, targets, needs_grad):
        self.total = vectors.new_zeros(())
        self.vectors = torch.zeros_like(vectors) if needs_grad else None
        self.targets = torch.zeros_like(targets) if needs_grad else None

    def result(self, concentration, weight):
        """Return the loss and the two gradients; `targets` was summed with vectors scaled by kappa / log 2."""
        if self.vectors is not None:
            self.vectors *= concentration * weight
            self.targets *= math.log(2) * weight
        return self.total * weight, self.vectors, self.targets


def _kind_by_kind(vectors, own, targets, kind, meets, concentration, needs_grad):
    """Evaluate `contrast_kinds` on vectors and targets of one float type."""
    accumulator = _Accumulator(vectors, targets, needs_grad)
    pixel_kind = kind[own]
    order = pixel_kind.argsort(stable=True)
    # All the sizes that steer the loop, in one transfer.
    met = (meets * torch.bincount(kind, minlength=len(meets))).sum(dim=1)
    sizes = torch.stack([torch.bincount(pixel_kind, minlength=len(meets)), met, meets.diagonal().long()]).T.tolist()
    position = torch.empty_like(kind)
    start = 0
    for index, (pixels, positives, with_itself) in enumerate(sizes):
        rows_of_kind, start = order[start:start + pixels], start + pixels
        if pixels == 0 or positives == len(targets):
            # Without negatives the loss and its gradients are 0.
            continue
        columns = (~meets[index])[kind].to(torch.uint8).argsort(stable=True)
        position[columns] = torch.arange(len(columns), device=columns.device)
        sorted_targets = targets[columns]
        grad_sorted = torch.zeros_like(sorted_targets)
        chunk = max(1, chunk_elements(vectors.device) // len(targets))
        for rows in rows_of_kind.split(chunk):
            scaled = _take(vectors, rows).mul_(concentration / math.log(2))
            logits = scaled @ sorted_targets.T
            # A segment that is positive, and not the only one, is no numerator of its own pixels.
            if with_itself and positives > 1:
                logits.scatter_(1, position[own[rows]][:, None], -torch.inf)
            # Without any positive the numerator is the pixel's own segment, a column of the negatives.
            lone = _take(targets, own[rows]) if positives == 0 else None
            numerator = logits[:, :positives] if positives else (scaled * lone).sum(dim=1, keepdim=True)
            accumulator.total += _exponentiate(numerator, logits[:, positives:], needs_grad).sum()
            if needs_grad:
                accumulator.vectors[rows] = logits @ sorted_targets
                grad_sorted.addmm_(logits.T, scaled)
                if lone is not None:
                    accumulator.vectors[rows] += numerator * lone
                    accumulator.targets.index_add_(0, own[rows], numerator * scaled)
        if needs_grad:
            accumulator.targets.index_add_(0, columns, grad_sorted)
    return accumulator.result(concentration, 1 / len(vectors))


def _batch_by_batch(vectors, own, targets, group, label, concentration, needs_grad):
    """Evaluate `contrast_groups` on vectors and targets of one float type."""
    accumulator = _Accumulator(vectors, targets, needs_grad)
    groups, pixel_group = torch.unique(group[own], return_inverse=True)
    # Segments of groups without pixels come last and are left out.
    segment_group = torch.searchsorted(groups, group)
    segment_group[groups[segment_group.clamp(max=len(groups) - 1)] != group] = len(groups)
    pixels, segments = _Rows(pixel_group, len(groups)), _Rows(segment_group, len(groups))
    chunk = chunk_elements(vectors.device)
    block = max(1, chunk // (max(pixels.counts) * max(segments.counts)))
    for first in range(0, len(groups), block):
        batch = slice(first, first + block)
        rows, row_weight = pixels.padded(batch)
        columns, column_weight = segments.padded(batch)
        row_weight = row_weight.to(vectors.dtype) / (row_weight.sum(dim=1, keepdim=True) * len(groups))
        batch_targets, grad_targets = targets[columns], vectors.new_zeros(*columns.shape, targets.shape[1])
        same = label[columns][:, :, None] == label[columns][:, None]
        each = torch.arange(columns.shape[1], device=columns.device).expand_as(columns)
        penalties = [penalty.flatten(0, 1).to(vectors.dtype)
                     for penalty in _penalties(same & column_weight[:, None], ~same & column_weight[:, None], each)]
        # Of the rows of the penalties, all groups' below each other, each pixel takes its segment's.
        segment = segments.place[own[rows]] + columns.shape[1] * torch.arange(len(rows), device=rows.device)[:, None]
        step = max(1, chunk // columns.numel())
        for part, segment_part, weight in zip(*(x.split(step, dim=1) for x in (rows, segment, row_weight)),
                                              strict=True):
            scaled = _take(vectors, part).mul_(concentration / math.log(2))
            loss, grad_logits = _masked_chunk(scaled, batch_targets,
                                              *(_take(penalty, segment_part) for penalty in penalties), needs_grad,
                                              weight)
            accumulator.total += loss.sum()
            if needs_grad:
                # Padding has weight 0, so that whatever row it repeats gets only zeros added.
                accumulator.vectors.index_add_(0, part.flatten(), torch.bmm(grad_logits, batch_targets).flatten(0, 1))
                grad_targets.baddbmm_(grad_logits.transpose(1, 2), scaled)
        if needs_grad:
            accumulator.targets.index_add_(0, columns.flatten(), grad_targets.flatten(0, 1))
    return accumulator.result(concentration, 1)


class _Rows:
    """Rows by group.

    Attributes:
        order: (R,) int64 rows, group after group.
        counts: list of the number of rows of each group.
        place: (R,) int64 place of a row within its group.
    """

    def __init__(self, group, num_groups):
        self.order = group.argsort(stable=True)
        counts = torch.bincount(group, minlength=num_groups)
        self.starts = counts.cumsum(0) - counts
        self.counts = counts[:num_groups].tolist()
        self.place = torch.empty_like(self.order)
        self.place[self.order] = torch.arange(len(group), device=group.device) - self.starts[group[self.order]]

    def padded(self, batch):
        """Return (g, w) int64 rows of a slice of the groups, w of the largest, and (g, w) bool, false for padding."""
        counts = torch.tensor(self.counts[batch], device=self.order.device)[:, None]
        places = torch.arange(max(self.counts[batch]), device=self.order.device)
        rows = self.starts[:len(self.counts)][batch][:, None] + places
        return self.order[rows.clamp(max=len(self.order) - 1)], places < counts


def _penalties(positive, negative, own):
    """Return what to add to logits: 0 where a segment counts for the numerator, or as a negative, and else -inf.

    Args:
        positive, negative: (..., n, S) bool, A+ (which may hold the own segment) and A-.
        own: (..., n) int64 own segments.
    """
    # Decided by counting: the sign of a float difference would misjudge small sums.
    others = positive.scatter(-1, own[..., None], False)
    numerator = others.scatter(-1, own[..., None], ~others.any(dim=-1, keepdim=True))
    zeros = torch.zeros((), device=own.device)
    return zeros.where(numerator, -torch.inf), zeros.where(negative, -torch.inf)


def _masked_chunk(scaled, targets, positive_penalty, negative_penalty, needs_grad, weight=None):
    """Return (g, n) losses and, if asked, their (g, n, s) derivatives by the natural logits.

    Args:
        scaled: (g, n, D) vectors times kappa / log 2.
        targets: (g, s, D).
        positive_penalty, negative_penalty: (g, n, s) of `_penalties`.
        needs_grad: whether derivatives are asked for.
        weight: (g, n) of the losses and derivatives, or None.
    """
    positive = torch.bmm(scaled, targets.transpose(1, 2))
    negative = positive + negative_penalty
    loss = _exponentiate(positive.add_(positive_penalty), negative, needs_grad, weight)
    return loss, positive.add_(negative) if needs_grad else None


def _exponentiate(positive, negative, needs_grad, weight=None):
    """Return the (...) losses of (..., p) and (..., q) logits in units of log 2.

    The logits are overwritten, with the derivatives by the natural logits if `needs_grad`.
    """
    top_positive = positive.amax(dim=-1, keepdim=True)
    # A row without negatives has no finite maximum; any finite one keeps its exponentials at exactly 0.
    top_negative = negative.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(negative.dtype).min)
    sum_positive = positive.sub_(top_positive).exp2_().sum(dim=-1, keepdim=True)
    sum_negative = negative.sub_(top_negative).exp2_().sum(dim=-1, keepdim=True)
    gap = math.log(2) * ((sum_negative.log2() + top_negative) - (sum_positive.log2() + top_positive))
    loss = F.softplus(gap)[..., 0]
    if weight is not None:
        loss = loss * weight
    if needs_grad:
        share = torch.sigmoid(gap) if weight is None else torch.sigmoid(gap) * weight[..., None]
        positive.mul_(-share / sum_positive)
        negative.mul_(share / sum_negative.clamp(min=torch.finfo(negative.dtype).tiny))
    return loss


def _take(matrix, rows):
    """Return matrix[rows] for (...) int64 rows; on a CPU index_select is many times as fast as indexing."""
    return matrix.index_select(0, rows.flatten()).view(*rows.shape, matrix.shape[1])


def _zero(*tensors):
    """A zero that back-propagates zeros."""
    return sum(tensor.sum() * 0 for tensor in tensors)
