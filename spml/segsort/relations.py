"""The four pixel-to-segment relations as pure functions of plain tensors.

METHOD.md, "Relations"; paper, section 3. A relation says which segments are positive and which negative for a
pixel; the resulting loss is computed in `contrast.py`, or on GPUs by `kernels/contrast.py`, two relations at once.

Shape letters: N pixels, S segments, D channels, C classes. Every loss is a scalar mean over the pixels it applies to
and 0 (still differentiable) when there are none. All take `embeddings`, (N, D) float unit vectors; `segment_ids`, (N,)
int64 index of each pixel's own segment in `prototypes`, (S, D) float unit vectors; and `concentration`, kappa.
"""
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from spml.segsort.contrast import contrast_categories, contrast_groups, contrastive_loss, fusible
from spml.utils.device import chunk_elements

if TYPE_CHECKING:
    from spml.segsort.kernels import contrast as fused

# Bits of an int64 that hold tags; the sign bit is not used.
_WORD_BITS = 62
# With more distinct sets than this, walking them one by one does not pay.
_MANY_SETS = 1024


@dataclasses.dataclass(frozen=True)
class ClassRelation:
    """Labelled pixels against labelled segments of their class and of other classes.

    Attributes:
        semantic: (S,) int64 labels of the segments; >= num_classes is unlabelled. A pixel has its segment's label.
    """

    concentration: float
    semantic: Tensor
    num_classes: int
    fits: ClassVar[bool] = True

    def loss(self, embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor) -> Tensor:
        """Return the loss, see `losses`."""
        embeddings, segment_ids, prototypes, relation = self.of_labelled(embeddings, segment_ids, prototypes)
        same = torch.eye(self.num_classes, dtype=torch.bool, device=self.semantic.device)
        return contrast_categories(embeddings, segment_ids, prototypes, relation.semantic, same, self.concentration)

    def of_labelled(self, embeddings: Tensor, segment_ids: Tensor,
                    prototypes: Tensor) -> tuple[Tensor, Tensor, Tensor, 'ClassRelation']:
        """Return pixels, their segments, segments, and the relation without what is unlabelled."""
        labelled = self.semantic < self.num_classes
        keep, segments = labelled[segment_ids], labelled.nonzero()[:, 0]
        rank = labelled.cumsum(0) - 1
        return (embeddings[keep], rank[segment_ids[keep]], prototypes[segments],
                dataclasses.replace(self, semantic=self.semantic[segments]))

    def fused(self, segment_ids: Tensor) -> 'fused.Relation':
        """Return the relation as the kernels take it."""
        from spml.segsort.kernels import contrast as fused

        labelled = self.semantic < self.num_classes
        weights = labelled[segment_ids].float()
        return fused.Relation(self.semantic.where(labelled, -1).int(), fused.EQUAL_LABELLED, self.concentration,
                              weights / weights.sum().clamp(min=1))


@dataclasses.dataclass(frozen=True)
class SetRelation:
    """All pixels against segments whose (S, T) bool set shares an element with theirs, or none (an empty one never)."""

    concentration: float
    sets: Tensor

    def loss(self, embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor) -> Tensor:
        """Return the loss, see `losses`."""
        category, members = _distinct_sets(self.sets)
        # Products of 0/1 rows count common members exactly in float32.
        members = members.float()
        if len(members) > _MANY_SETS:
            def masks(rows: Tensor) -> tuple[Tensor, Tensor]:
                meets = members[category[rows]] @ members[category].T > 0.5
                return meets, ~meets

            return contrastive_loss(embeddings, segment_ids, prototypes, masks, self.concentration)
        meets = members @ members.T > 0.5
        return contrast_categories(embeddings, segment_ids, prototypes, category, meets, self.concentration)

    @property
    def fits(self) -> bool:
        """Whether sets fit an integer, as the kernels take them."""
        return self.sets.shape[1] <= _WORD_BITS

    def fused(self, segment_ids: Tensor) -> 'fused.Relation':
        """Return the relation as the kernels take it."""
        from spml.segsort.kernels import contrast as fused

        weights = torch.full_like(segment_ids, 1 / len(segment_ids), dtype=torch.float32)
        # Half as wide is twice as fast to compare.
        codes = _bits(self.sets).int() if self.sets.shape[1] <= _WORD_BITS // 2 else _bits(self.sets)
        return fused.Relation(codes, fused.BITS, self.concentration, weights)


def losses(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor,
           relations: Sequence[ClassRelation | SetRelation]) -> list[Tensor]:
    """Return the losses of relations between the same pixels and segments."""
    found: dict[int, Tensor | None] = {}
    if fusible(embeddings, prototypes):
        from spml.segsort.kernels import contrast as fused

        ready = [index for index, relation in enumerate(relations) if relation.fits]
        for start in range(0, len(ready), fused.MAX_RELATIONS):
            together = ready[start:start + fused.MAX_RELATIONS]
            values = _fused(embeddings, segment_ids, prototypes, [relations[index] for index in together])
            found |= zip(together, values, strict=True)
    return [relation.loss(embeddings, segment_ids, prototypes) if (value := found.get(index)) is None else value
            for index, relation in enumerate(relations)]


def _fused(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor,
           relations: Sequence[ClassRelation | SetRelation]) -> list[Tensor | None]:
    """Return the losses of one or two relations by kernels; None for those that they cannot take."""
    from spml.segsort.kernels import contrast as fused

    if len(relations) == 1 and isinstance(relations[0], ClassRelation):
        embeddings, segment_ids, prototypes, only = relations[0].of_labelled(embeddings, segment_ids, prototypes)
        relations = [only]
    if len(embeddings) == 0:
        return [None]
    values = fused.contrastive_losses(embeddings, segment_ids, prototypes,
                                     [relation.fused(segment_ids) for relation in relations])
    if values is None and len(relations) > 1:
        return [value for relation in relations for value in _fused(embeddings, segment_ids, prototypes, [relation])]
    return [None] if values is None else list(values.unbind())


def semantic_annotation_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, semantic: Tensor,
                             concentration: float, num_classes: int) -> Tensor:
    """Labelled pixels against labelled segments of their class and of other classes (`sem_ann`).

    Args:
        semantic: (S,) int64 labels of the segments; >= num_classes is unlabelled. A pixel has its segment's label.
    """
    return losses(embeddings, segment_ids, prototypes, [ClassRelation(concentration, semantic, num_classes)])[0]


def co_occurrence_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, tags: Tensor,
                       concentration: float) -> Tensor:
    """All pixels against segments of images that share a foreground tag with theirs, or share none (`sem_occ`).

    Args:
        tags: (S, T) bool foreground tags of each segment's image. An image without any shares none, not even with
            itself.
    """
    return losses(embeddings, segment_ids, prototypes, [SetRelation(concentration, tags)])[0]


def feature_affinity_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, class_sets: Tensor,
                          concentration: float) -> Tensor:
    """All pixels against segments whose set of `propagate_classes`, (S, C) bool, meets theirs or not (`feat_aff`)."""
    return losses(embeddings, segment_ids, prototypes, [SetRelation(concentration, class_sets)])[0]


def image_similarity_loss(embeddings: Tensor, segment_ids: Tensor, prototypes: Tensor, image: Tensor,
                          instance: Tensor, concentration: float) -> Tensor:
    """Pixels against their own image's segments, of the same over-segmentation id or of others (`img_sim`).

    The mean over images (those with any pixel) of the mean over each image's pixels.

    Args:
        image: (S,) int64 image of each segment.
        instance: (S,) int64 over-segmentation id of each segment.
    """
    return contrast_groups(embeddings, segment_ids, prototypes, image, instance, concentration)


@torch.no_grad()
def propagate_classes(prototypes_with_location: Tensor, image: Tensor, semantic: Tensor, num_classes: int,
                      threshold: float = 0.95) -> Tensor:
    """Give each segment the class of its image's nearest labelled segment (paper, section 3.2, feature affinity).

    Args:
        prototypes_with_location: (S, L) float unit vectors.
        image: (S,) int64 image of each segment.
        semantic: (S,) int64 labels; >= num_classes is unlabelled.
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
    chunk = max(1, chunk_elements(semantic.device) // len(labelled))
    for start in range(0, len(semantic), chunk):
        rows = slice(start, start + chunk)
        similarity = prototypes_with_location[rows] @ prototypes_with_location[labelled].T
        similarity.masked_fill_(image[rows, None] != image[labelled][None], -torch.inf)
        best, nearest = similarity.max(dim=1)
        taken = one_hot[semantic[labelled[nearest]]]
        sets[rows] = torch.where((best >= threshold)[:, None], taken, sets[rows])
    sets[labelled] = one_hot[semantic[labelled]]
    return sets


def _distinct_sets(sets: Tensor) -> tuple[Tensor, Tensor]:
    """Number the distinct rows of (S, T) bool sets: (S,) int64 numbers in 0..K-1 and the (K, T) bool rows."""
    number = torch.zeros(len(sets), dtype=torch.int64, device=sets.device)
    # Sets as bit masks: sorting ints is far cheaper than sorting rows.
    for word in sets.split(_WORD_BITS, dim=1):
        _, ranks = torch.unique(_bits(word), return_inverse=True)
        distinct, number = torch.unique(number * len(sets) + ranks, return_inverse=True)
    members = torch.zeros(len(distinct), sets.shape[1], dtype=torch.bool, device=sets.device)
    members[number] = sets
    return number, members


def _bits(sets: Tensor) -> Tensor:
    """Return (S, T) bool sets of at most `_WORD_BITS` elements as the bits of (S,) int64."""
    return (sets.long() << torch.arange(sets.shape[1], device=sets.device)).sum(dim=1)
