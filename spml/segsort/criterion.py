"""The relations as one module: named losses of a batch, unweighted unless images differ in their weights.

A relation is an entry of `spml.names.RELATIONS`, which holds its title and the defaults of its keys, and one of
`COMPUTED` below: a function of a `Batch` and of kappa. Nothing else has to be changed to add one.

Where images have kappas and weights of their own, by the kind of their labels (METHOD.md, "Relations", on kinds of
labels), the mean over pixels is taken apart into those of images that are treated alike. Each part is computed as any
batch is, by whatever implementation of the loss suits it, and parts are added up by their shares.
"""
import dataclasses
from collections.abc import Callable, Mapping, Sequence
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
        background: whether class 0 is the background, which tells nothing about what images share.
    """

    pixels: Pixels
    local: Segments
    everyone: Segments
    num_classes: int
    similarity_with_location: bool
    background: bool = True


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
    'sem_occ': lambda batch, kappa: relations.SetRelation(
        kappa, batch.everyone.tags[:, int(batch.background):batch.num_classes]),
    'img_sim': _image_similarity,
    'feat_aff': _feature_affinity}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What images of a kind have for themselves: kappas by relation, weights by the names of losses."""

    concentrations: Mapping[str, float]
    weights: Mapping[str, float]


class RelationCriterion(nn.Module):
    """Losses of the active relations.

    Args:
        concentrations: maps their names, of RELATIONS, to kappa.
        kinds: maps kinds of labels to Settings, '' to those of all images of other kinds; None: all are treated alike,
            by `concentrations`.
        background: as in `Batch`.
    """

    def __init__(self, concentrations: Mapping[str, float], num_classes: int,
                 image_similarity_with_location: bool = True, kinds: Mapping[str, Settings] | None = None,
                 background: bool = True) -> None:
        super().__init__()
        known = RELATIONS.keys() & COMPUTED
        if unknown := concentrations.keys() - known:
            raise ValueError(f'unknown relations {sorted(unknown)}; known: {sorted(known)}')
        self.concentrations = dict(concentrations)
        self.num_classes = num_classes
        self.image_similarity_with_location = image_similarity_with_location
        self.kinds, self.background = kinds, background

    def settings(self, kinds: Sequence[str]) -> list[Settings] | None:
        """Return the Settings of images whose labels are of these kinds; None where all images are treated alike."""
        return None if self.kinds is None else [self.kinds.get(kind, self.kinds['']) for kind in kinds]

    def forward(self, pixels: Pixels, local: Segments, everyone: Segments, own_start: int = 0,
                settings: Sequence[Settings] | None = None) -> dict[str, Tensor]:
        """Return a dict from `<relation>_loss` to a scalar tensor, active relations only.

        Unweighted, or, with `settings`, weighted by them.

        Args:
            pixels, local, everyone: as in `Batch`.
            own_start: index in `everyone` of this process's first segment.
            settings: of each of this process's images; None: `concentrations` for all.
        """
        batch = Batch(pixels, local, everyone, self.num_classes, self.image_similarity_with_location, self.background)
        if settings is None:
            return self._losses(batch, own_start, self.concentrations)
        distinct = [one for index, one in enumerate(settings) if one not in settings[:index]]
        if len(distinct) == 1:  # as if all images were like these
            one, = distinct
            return {name: one.weights[name] * loss
                    for name, loss in self._losses(batch, own_start, one.concentrations).items()}
        totals = {f'{name}_loss': pixels.embedding.new_zeros(()) for name in self.concentrations}
        for one in distinct:
            alike = torch.tensor([other == one for other in settings], device=pixels.image.device)
            part = dataclasses.replace(batch, pixels=pixels.where(alike[pixels.image]))
            for name, loss in self._losses(part, own_start, one.concentrations).items():
                share = _extent(name, part).to(loss.dtype) / _extent(name, batch).clamp(min=1)
                totals[name] = totals[name] + one.weights[name] * share * loss
        return totals

    def _losses(self, batch: Batch, own_start: int, concentrations: Mapping[str, float]) -> dict[str, Tensor]:
        pixels, everyone = batch.pixels, batch.everyone
        losses: dict[str, Tensor] = {}
        together: dict[str, relations.ClassRelation | relations.SetRelation] = {}
        for name, kappa in concentrations.items():
            found = COMPUTED[name](batch, kappa)
            if isinstance(found, Tensor):
                losses[name] = found
            else:
                together[name] = found
        losses |= zip(together, relations.losses(pixels.embedding, pixels.segment + own_start, everyone.prototype,
                                                 list(together.values())), strict=True)
        return {f'{name}_loss': losses[name] for name in concentrations}


def _extent(name: str, batch: Batch) -> Tensor:
    """Return over how many pixels of a batch, or images in the case of `img_sim`, a loss is the mean."""
    pixels = batch.pixels
    if name == 'img_sim_loss':
        return torch.bincount(pixels.image).count_nonzero()
    if name == 'sem_ann_loss':
        return (batch.local.semantic[pixels.segment] < batch.num_classes).sum()
    return torch.tensor(len(pixels.image), device=pixels.image.device)


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
