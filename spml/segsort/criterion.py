"""The relations as one module: named, unweighted losses of a batch; their weights live in the training loop.

Adding a relation means a class or function in `relations.py`, its name and its branch here, and its keys in
`spml/config/schema.py`; the training loop is not touched.
"""
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spml.names import RELATIONS
from spml.segsort import relations
from spml.segsort.segments import Pixels, Segments
from spml.utils.device import chunk_elements


class RelationCriterion(nn.Module):
    """Losses of the active relations.

    Args:
        concentrations: dict from active relation (a name of RELATIONS) to kappa.
        num_classes: C.
        image_similarity_with_location: whether `img_sim` compares the vectors with location (VOC) or the plain ones
            (DensePose).
    """

    def __init__(self, concentrations: Mapping[str, float], num_classes: int,
                 image_similarity_with_location: bool = True) -> None:
        super().__init__()
        unknown = set(concentrations) - set(RELATIONS)
        if unknown:
            raise ValueError(f'unknown relations {sorted(unknown)}; known: {RELATIONS}')
        self.concentrations = dict(concentrations)
        self.num_classes = num_classes
        self.image_similarity_with_location = image_similarity_with_location

    def forward(self, pixels: Pixels, local: Segments, everyone: Segments, own_start: int = 0) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            pixels: Pixels of this process.
            local: Segments of this process.
            everyone: Segments of all processes and of the memory bank.
            own_start: index in `everyone` of this process's first segment.

        Returns:
            Dict from `<relation>_loss` to a scalar tensor, active relations only, unweighted.
        """
        own = pixels.segment + own_start
        together: dict[str, relations.ClassRelation | relations.SetRelation] = {}
        losses = {}
        for name, kappa in self.concentrations.items():
            if name == 'sem_ann':
                together[name] = relations.ClassRelation(kappa, everyone.semantic, self.num_classes)
            elif name == 'sem_occ':
                together[name] = relations.SetRelation(kappa, everyone.tags[:, 1:self.num_classes])
            elif name == 'feat_aff':
                together[name] = relations.SetRelation(kappa, relations.propagate_classes(
                    everyone.prototype_with_location, everyone.image, everyone.semantic, self.num_classes))
            elif self.image_similarity_with_location:
                losses[name] = relations.image_similarity_loss(
                    pixels.embedding_with_location, pixels.segment, local.prototype_with_location, local.image,
                    local.instance, kappa)
            else:
                losses[name] = relations.image_similarity_loss(
                    pixels.embedding, pixels.segment, local.prototype, local.image, local.instance, kappa)
        losses |= zip(together, relations.losses(pixels.embedding, own, everyone.prototype, list(together.values())),
                      strict=True)
        return {f'{name}_loss': losses[name] for name in self.concentrations}


@torch.no_grad()
def retrieval_accuracy(segments: Segments, neighbours: int = 5) -> Tensor:
    """Share of each segment's nearest segments, itself among them, that bear its label (METHOD.md, "Relations").

    Args:
        segments: Segments in play, S of them, unlabelled ones too.
        neighbours: how many nearest by plain prototypes (all when there are fewer).

    Returns:
        Scalar in 0..1; 0 without segments.
    """
    count = len(segments)
    if count == 0:
        return segments.prototype.new_zeros(())
    hits = segments.prototype.new_zeros(())
    neighbours = min(neighbours, count)
    chunk = max(1, chunk_elements(segments.prototype.device) // count)
    for start in range(0, count, chunk):
        rows = slice(start, start + chunk)
        nearest = (segments.prototype[rows] @ segments.prototype.T).topk(neighbours, dim=1).indices
        hits += (segments.semantic[nearest] == segments.semantic[rows, None]).sum()
    return hits / (count * neighbours)
