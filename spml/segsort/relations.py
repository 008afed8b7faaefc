"""The four pixel-to-segment relations as pure functions of plain tensors.

METHOD.md, "The four relations"; paper, section 3.

For a pixel i with unit embedding v_i in segment s(i), positives A+ and negatives A- among the segments u_s:

    loss_i = -log( num / (num + sum_{A-} exp(kappa v_i.u_s)) ),   num = sum_{A+ without s(i)} exp(kappa v_i.u_s),

or the term of s(i) itself when A+ holds no other segment. With n = log num and m = log of the negatives' sum, loss_i
is softplus(m - n): no exponential of a similarity is ever formed outside a log-sum-exp, and a pixel without negatives
costs 0.

Which segments are positive depends on a pixel's segment alone, so a relation is a function `masks(rows)` from segment
indices to two bool matrices. `contrast` walks over chunks of pixels and, since the loss is a weighted mean, computes
the gradients in the same pass: memory grows with pixels + segments, not with their product.

Shape letters: N pixels, S segments, D channels, C classes. Every loss is a scalar mean over the pixels it applies to
and 0 (still differentiable) when there are none.
"""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Which segments are A+ and A- of the pixels of some segments: (n,) int64 -> two (n, S) bool.
Masks = Callable[[Tensor], tuple[Tensor, Tensor]]

# Similarities held at once; 2**22 float32 are 16 MiB for each of the few matrices of a chunk.
CHUNK_ELEMENTS = 1 << 22


def semantic_annotation_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, semantic: Tensor,
                             concentration: float, num_classes: int) -> Tensor:
    """Labelled pixels against labelled segments of their class and of other classes (`sem_ann`).

    Args:
        embeddings: (N, D) float unit vectors.
        segment_ids: (N,) int64 index of each pixel's own segment in `prototypes`.
        prototypes: (S, D) float unit vectors.
        semantic: (S,) int64 labels of the segments; >= num_classes is unlabelled. A pixel has its segment's label.
        concentration: kappa.
        num_classes: C.
    """
    labelled = semantic < num_classes

    def masks(rows: Tensor) -> tuple[Tensor, Tensor]:
        same = semantic[rows, None] == semantic[None]
        return same & labelled, ~same & labelled

    keep = labelled[segment_ids]
    return contrast(embeddings[keep], segment_ids[keep], prototypes, masks, concentration)


def co_occurrence_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, tags: Tensor,
                       concentration: float) -> Tensor:
    """All pixels against segments of images that share a foreground tag with theirs, or share none (`sem_occ`).

    Args:
        embeddings, segment_ids, prototypes, concentration: as in `semantic_annotation_loss`.
        tags: (S, T) bool foreground tags of each segment's image. An image without any shares none, not even with
            itself.
    """
    return _set_loss(embeddings, segment_ids, prototypes, tags, concentration)


def feature_affinity_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, class_sets: Tensor,
                          concentration: float) -> Tensor:
    """All pixels against segments whose propagated class set meets theirs, or does not (`feat_aff`).

    Args:
        embeddings, segment_ids, prototypes, concentration: as in `semantic_annotation_loss`.
        class_sets: (S, C) bool of `propagate_classes`.
    """
    return _set_loss(embeddings, segment_ids, prototypes, class_sets, concentration)


def image_similarity_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, image: Tensor,
                          instance: Tensor, concentration: float) -> Tensor:
    """Pixels against their own image's segments, of the same over-segmentation id or of others (`img_sim`).

    The mean over images (those with any pixel) of the mean over each image's pixels.

    Args:
        embeddings, segment_ids, prototypes, concentration: as in `semantic_annotation_loss`.
        image: (S,) int64 image of each segment.
        instance: (S,) int64 over-segmentation id of each segment.
    """
    pixel_image = image[segment_ids]
    losses = []
    for index in torch.unique(pixel_image).tolist():
        own = (image == index).nonzero()[:, 0]
        keep = pixel_image == index
        rows_of_image = torch.searchsorted(own, segment_ids[keep])
        ids = instance[own]

        def masks(rows: Tensor, ids: Tensor = ids) -> tuple[Tensor, Tensor]:
            same = ids[rows, None] == ids[None]
            return same, ~same

        losses.append(contrast(embeddings[keep], rows_of_image, prototypes[own], masks, concentration))
    return torch.stack(losses).mean() if losses else _zero(embeddings, prototypes)


@torch.no_grad()
def propagate_classes(prototypes_with_location: Tensor, image: Tensor, semantic: Tensor, num_classes: int,
                      threshold: float = 0.95) -> Tensor:
    """Give each segment the class of the nearest labelled segment of its own image.

    Paper, section 3.2, feature affinity.

    Args:
        prototypes_with_location: (S, L) float unit vectors.
        image: (S,) int64 image of each segment.
        semantic: (S,) int64 labels; >= num_classes is unlabelled.
        num_classes: C.
        threshold: smallest dot product at which a class is taken over.

    Returns:
        (S, C) bool: one class, or all of them where no labelled segment is near enough. Labelled segments keep
        their own.
    """
    labelled = (semantic < num_classes).nonzero()[:, 0]
    sets = torch.ones(len(semantic), num_classes, dtype=torch.bool, device=semantic.device)
    if len(labelled) == 0:
        return sets
    one_hot = torch.eye(num_classes, dtype=torch.bool, device=semantic.device)
    chunk = max(1, CHUNK_ELEMENTS // len(labelled))
    for start in range(0, len(semantic), chunk):
        rows = slice(start, start + chunk)
        similarity = prototypes_with_location[rows] @ prototypes_with_location[labelled].T
        similarity.masked_fill_(image[rows, None] != image[labelled][None], -torch.inf)
        best, nearest = similarity.max(dim=1)
        taken = one_hot[semantic[labelled[nearest]]]
        sets[rows] = torch.where((best >= threshold)[:, None], taken, sets[rows])
    sets[labelled] = one_hot[semantic[labelled]]
    return sets


def contrast(embeddings: Tensor, own: Tensor, prototypes: Tensor, masks: Masks, concentration: float) -> Tensor:
    """Mean contrastive loss of N pixels against S segments.

    Args:
        embeddings: (N, D) float.
        own: (N,) int64 index of each pixel's own segment in `prototypes`.
        prototypes: (S, D) float.
        masks: function from (n,) int64 segment indices to two (n, S) bool tensors: the positives A+ (which may hold the
            segment itself) and the negatives A- of the pixels of those segments.
        concentration: kappa.

    Returns:
        Scalar loss, differentiable in embeddings and prototypes; 0 for N = 0.
    """
    if len(embeddings) == 0:
        return _zero(embeddings, prototypes)
    loss: Tensor = _Contrast.apply(embeddings, prototypes, own, masks, float(concentration))
    return loss


class _Contrast(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of pixels; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, prototypes: Tensor, own: Tensor, masks: Masks,
                concentration: float) -> Tensor:
        needs_grad = any(ctx.needs_input_grad[:2])
        # Reductions run in float32 or wider, whatever autocast hands in.
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        vectors, targets = embeddings.to(wide), prototypes.to(wide)
        total = vectors.new_zeros(())
        grad_vectors: Any = torch.empty_like(vectors) if needs_grad else None
        grad_targets: Any = torch.zeros_like(targets) if needs_grad else None
        chunk = max(1, CHUNK_ELEMENTS // len(targets))
        for start in range(0, len(vectors), chunk):
            rows = slice(start, start + chunk)
            loss, grad_logits = _chunk(vectors[rows] @ targets.T * concentration, own[rows], masks, needs_grad)
            total += loss.sum()
            if needs_grad:
                grad_vectors[rows] = grad_logits @ targets
                grad_targets.addmm_(grad_logits.T, vectors[rows])
        scale = concentration / len(vectors)
        if needs_grad:
            ctx.save_for_backward((grad_vectors * scale).to(embeddings.dtype),
                                  (grad_targets * scale).to(prototypes.dtype))
        return total / len(vectors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_vectors, grad_targets = ctx.saved_tensors
        return grad * grad_vectors, grad * grad_targets, None, None, None


def _chunk(logits: Tensor, own: Tensor, masks: Masks, needs_grad: bool) -> tuple[Tensor, Any]:
    """Return the (n,) losses of a chunk of (n, S) logits and, if asked, their (n, S) derivatives by the logits."""
    positive, negative = masks(own)
    # Decided by counting: the sign of a float difference would misjudge small sums.
    others = positive.clone()
    others.scatter_(1, own[:, None], False)
    alone = ~others.any(dim=1, keepdim=True)
    numerator = others.scatter(1, own[:, None], alone)

    log_num = logits.masked_fill(~numerator, -torch.inf)
    log_neg = logits.masked_fill(~negative, -torch.inf)
    top_num = log_num.amax(dim=1, keepdim=True)
    # A row without negatives has no finite maximum; 0 keeps its exponentials at exactly 0.
    top_neg = log_neg.amax(dim=1, keepdim=True)
    top_neg = torch.where(negative.any(dim=1, keepdim=True), top_neg, 0.0)
    exp_num, exp_neg = log_num.sub_(top_num).exp_(), log_neg.sub_(top_neg).exp_()
    sum_num, sum_neg = exp_num.sum(dim=1, keepdim=True), exp_neg.sum(dim=1, keepdim=True)
    gap = (sum_neg.log() + top_neg) - (sum_num.log() + top_num)
    loss = torch.nn.functional.softplus(gap)[:, 0]
    if not needs_grad:
        return loss, None
    share = torch.sigmoid(gap)
    grad = exp_neg.mul_(share / sum_neg.clamp(min=torch.finfo(logits.dtype).tiny)).sub_(exp_num.mul_(share / sum_num))
    return loss, grad


def _set_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, sets: Tensor,
              concentration: float) -> Tensor:
    # Products of 0/1 rows count common members exactly in float32.
    members = sets.float()

    def masks(rows: Tensor) -> tuple[Tensor, Tensor]:
        meets = members[rows] @ members.T > 0.5
        return meets, ~meets

    return contrast(embeddings, segment_ids, prototypes, masks, concentration)


def _zero(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """A zero that back-propagates zeros."""
    return embeddings.sum() * 0 + prototypes.sum() * 0
