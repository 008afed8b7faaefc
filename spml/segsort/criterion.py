"""The relations as one module: named, unweighted losses of a batch; their weights belong to the training loop.

A relation is an entry of `spml.names.RELATIONS`, which holds its title and the defaults of its keys, and one of
`COMPUTED` below: a function of a `Batch` and of kappa. Nothing else has to be changed to add one.
"""
import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from spml.names import RELATIONS
from spml.segsort import relations
from spml.segsort.segments import Pixels, Segments
from spml.utils.device import chunk_elements


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a relation is computed from.

    Attributes:
        pixels, local: of this process; `pixels.segment` refers to `local`.
        everyone: Segments of all processes and of the memory bank.
        similarity_with_location: whether `img_sim` compares the vectors with location (VOC) or the plain ones
            (DensePose).
    """

    pixels: Pixels
    local: Segments
    everyone: Segments
    num_classes: int
    similarity_with_location: bool


# A loss; or a relation between all pixels and everyone's segments by plain vectors, which is evaluated together with
# others of its type.
Computed: TypeAlias = Tensor | relations.ClassRelation | relations.SetRelation


def _image_similarity(batch: Batch, kappa: float) -> Computed:
    pixels, local = batch.pixels, batch.local
    vectors, prototypes = ((pixels.embedding_with_location, local.prototype_with_location)
                           if batch.similarity_with_location else (pixels.embedding, local.prototype))
    return relations.image_similarity_loss(vectors, pixels.segment, prototypes, local.image, local.instance, kappa)


def _feature_affinity(batch: Batch, kappa: float) -> Computed:
    everyone = batch.everyone
    return relations.SetRelation(kappa, relations.propagate_classes(
        everyone.prototype_with_location, everyone.image, everyone.semantic, batch.num_classes))


COMPUTED: dict[str, Callable[[Batch, float], Computed]] = {
    'sem_ann': lambda batch, kappa: relations.ClassRelation(kappa, batch.everyone.semantic, batch.num_classes),
    'sem_occ': lambda batch, kappa: relations.SetRelation(kappa, batch.everyone.tags[:, 1:batch.num_classes]),
    'img_sim': _image_similarity,
    'feat_aff': _feature_affinity}


class RelationCriterion(nn.Module):
    """Losses of the active relations: `concentrations` maps their names, of RELATIONS, to kappa."""

    def __init__(self, concentrations: Mapping[str, float], num_classes: int,
                 image_similarity_with_location: bool = True) -> None:
        super().__init__()
        known = RELATIONS.keys() & COMPUTED
        if unknown := concentrations.keys() - known:
            raise ValueError(f'unknown relations {sorted(unknown)}; known: {sorted(known)}')
        self.concentrations = dict(concentrations)
        self.num_classes = num_classes
        self.image_similarity_with_location = image_similarity_with_location

    def forward(self, pixels: Pixels, local: Segments, everyone: Segments, own_start: int = 0) -> dict[str, Tensor]:
        """Return a dict from `<relation>_loss` to a scalar tensor, active relations only, unweighted.

        Args:
            pixels, local, everyone: as in `Batch`.
            own_start: index in `everyone` of this process's first segment.
        """
        batch = Batch(pixels, local, everyone, self.num_classes, self.image_similarity_with_location)
        losses: dict[str, Tensor] = {}
        together: dict[str, relations.ClassRelation | relations.SetRelation] = {}
        for name, kappa in self.concentrations.items():
            found = COMPUTED[name](batch, kappa)
            if isinstance(found, Tensor):
                losses[name] = found
            else:
                together[name] = found
        losses |= zip(together, relations.losses(pixels.embedding, pixels.segment + own_start, everyone.prototype,
                                                 list(together.values())), strict=True)
        return {f'{name}_loss': losses[name] for name in self.concentrations}


@torch.no_grad()
def retrieval_accuracy(segments: Segments, neighbours: int = 5) -> Tensor:
    """Return the share in 0..1 of segments' nearest, themselves among them, that have their label; 0 without any."""
    prototypes, hits = segments.prototype, segments.prototype.new_zeros(())
    neighbours = min(neighbours, len(segments))
    chunk = max(1, chunk_elements(prototypes.device) // max(1, len(segments)))
    for rows, semantic in zip(prototypes.split(chunk), segments.semantic.split(chunk), strict=True):
        nearest = (rows @ prototypes.T).topk(neighbours, dim=1).indices
        hits += (segments.semantic[nearest] == semantic[:, None]).sum()
    return hits / max(1, len(segments) * neighbours)
