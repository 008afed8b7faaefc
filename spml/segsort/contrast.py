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
groups; n, s, g of them in a chunk. All three take `embeddings`, (N, D) float; `own`, (N,) int64 index of each pixel's
segment in `prototypes`, (S, D) float; and `concentration`, kappa. They return a scalar loss, differentiable in both
vectors; 0 for N = 0.
"""
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.segsort import kernels
from spml.segsort.clustering import take
from spml.segsort.group_batches import batch_by_batch
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
        category: (S,) int64 in 0..K-1.
        meets: (K, K) bool, symmetric.
    """
    return _evaluate(embeddings, prototypes, concentration,
                     lambda sums: _category_by_category(sums, own, category, meets))


def contrast_groups(embeddings: Tensor, own: Tensor, prototypes: Tensor, group: Tensor, label: Tensor,
                    concentration: float) -> Tensor:
    """Mean over groups with pixels of the mean over their pixels, against the segments of the group alone.

    Args:
        group: (S,) int64 group of each segment.
        label: (S,) int64; segments of the group are positive where their labels are equal and negative where not.
    """
    if fusible(embeddings, prototypes):
        from spml.segsort.kernels import contrast as fused

        relation = fused.Relation(label, fused.EQUAL, concentration)
        losses = fused.contrastive_losses(embeddings, own, prototypes, [relation], group)
        if losses is not None:
            return losses[0]

    def evaluate(sums: 'Sums') -> None:
        largest = [vectors.norm(dim=1).max() for vectors in (sums.vectors, sums.targets)]
        # Batches take tables of the segments of a group by themselves.
        small = torch.unique(group, return_counts=True)[1].max().item() ** 2 <= CHUNK_ELEMENTS
        if small and (largest[0] * largest[1]).item() <= kernels.SAFE_LOGIT:
            batch_by_batch(sums, own, group, label)
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
        masks: function from (n,) int64 segment indices to two (n, S) bool tensors: the positives A+ (which may hold the
            segment itself) and the negatives A- of the pixels of those segments.
    """
    return _evaluate(embeddings, prototypes, concentration, lambda sums: _by_masks(
        sums, own, masks, torch.full_like(own, 1 / len(own), dtype=sums.vectors.dtype)))


def _evaluate(embeddings: Tensor, prototypes: Tensor, concentration: float,
              evaluate: Callable[['Sums'], None]) -> Tensor:
    if len(embeddings) == 0:
        # A zero that back-propagates zeros.
        return embeddings.sum() * 0 + prototypes.sum() * 0
    loss: Tensor = _Contrast.apply(embeddings, prototypes, float(concentration), evaluate)
    return loss


class _Contrast(torch.autograd.Function):
    """Loss and gradients in one pass; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, prototypes: Tensor, concentration: float,
                evaluate: Callable[['Sums'], None]) -> Tensor:
        # Reductions run in float32 or wider, whatever autocast hands in.
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            sums = Sums(embeddings.to(wide), prototypes.to(wide), concentration, any(ctx.needs_input_grad[:2]))
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


class Sums:
    """The inputs of a pass and what it adds up.

    Attributes:
        vectors: (N, D) float, the embeddings.
        scale: kappa in units of log 2.
        targets: (S, D) float, the prototypes times `scale`, so that their products with vectors are logits.
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


def _category_by_category(sums: Sums, own: Tensor, category: Tensor, meets: Tensor) -> None:
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
        targets = take(sums.targets, columns)
        grad_targets = torch.zeros_like(targets)
        for rows in rows_of_category.split(chunk):
            vectors, segment = take(sums.vectors, rows), own.index_select(0, rows)
            logits = vectors @ targets.T
            # A segment that is positive, and not the only one, is excluded from its own pixels' numerator.
            if with_itself and positives > 1:
                logits.scatter_(1, place[segment][:, None], -torch.inf)
            # Without any positive the numerator is the pixel's own segment, which is a negative, too.
            lone = take(sums.targets, segment) if positives == 0 else None
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
            sums.grad_targets += take(grad_targets, place)


def _by_masks(sums: Sums, own: Tensor, masks: Masks, weight: Tensor) -> None:
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
