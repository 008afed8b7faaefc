"""Labels by the nearest stored prototypes (METHOD.md, "Inference", prototypes and retrieval).

Shape letters: Q queries, M stored prototypes, D channels, P pixels, K clusters, C classes.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from spml.segsort import kernels
from spml.segsort.clustering import sum_by_label, tiled
from spml.utils.device import chunk_elements

NEIGHBOURS = 20
# Prototypes of which only the best is looked at in the first pass; divides TILE.
_BLOCK = 32


def cluster_prototypes(vectors: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (K, D) prototypes of the K clusters that occur, and the (P,) int64 clusters renumbered to 0..K-1.

    The vectors, (P, D) float embeddings, are unit-normalised first.
    """
    occurring, ids = torch.unique(clusters, return_inverse=True)
    return F.normalize(sum_by_label(F.normalize(vectors, dim=1), ids, len(occurring)), dim=1), ids


def majority_labels(clusters: Tensor, labels: Tensor, num_clusters: int, num_labels: int = 256) -> Tensor:
    """Return (K,) int64: the most frequent of the (P,) int64 labels in each cluster, the smallest on ties."""
    counts = torch.bincount(clusters * num_labels + labels, minlength=num_clusters * num_labels)
    return counts.view(num_clusters, num_labels).argmax(dim=1)


def nearest_label_counts(queries: Tensor, prototypes: Tensor, labels: Tensor, num_classes: int,
                         neighbours: int = NEIGHBOURS) -> Tensor:
    """Count the labels of each query's nearest prototypes by dot product.

    Args:
        queries: (Q, D) float unit vectors.
        prototypes: (M, D) float unit vectors, M >= neighbours.
        labels: (M,) int64 in 0..C-1.

    Returns:
        (Q, C) float32 counts that sum to `neighbours`. The argmax is the label, the smallest on ties.
    """
    block, largest_by_block = _BLOCK, _largest_by_block
    if (queries.dtype == prototypes.dtype == torch.float32 and queries.shape[1] <= kernels.RETRIEVAL_CHANNELS
            and kernels.available(queries.device, 'retrieval')):
        from spml.segsort.kernels import retrieval as fused

        block, largest_by_block = fused.BLOCK, fused.largest_by_block
    # The prototypes of the best blocks are gathered for every query.
    step = max(1, 8 * chunk_elements(queries.device) // (neighbours * block * queries.shape[1]))
    nearest = torch.cat([_nearest(part, prototypes, neighbours, largest_by_block(part, prototypes), block)
                         for part in queries.split(step)])
    return F.one_hot(labels[nearest], num_classes).sum(dim=1).float()


def _nearest(queries: Tensor, prototypes: Tensor, neighbours: int, best: Tensor, block: int) -> Tensor:
    """Return (Q, neighbours) int64 indices of the prototypes of the largest dot products.

    The largest `neighbours` products lie in the `neighbours` blocks of prototypes whose largest products are largest.
    So one pass over the products keeps only a maximum for every block, in `best`, (Q, blocks) float32, and only the
    members of the best blocks are ranked: the memory is that of a chunk of products, not of all of them.
    """
    count = len(prototypes)
    blocks = best.topk(min(neighbours, best.shape[1]), dim=1).indices
    members = (blocks[:, :, None] * block + torch.arange(block, device=blocks.device)).flatten(1)
    within = members.clamp(max=count - 1)
    products = torch.bmm(prototypes[within], queries[:, :, None])[:, :, 0].masked_fill(members >= count, -torch.inf)
    nearest: Tensor = within.gather(1, products.topk(neighbours, dim=1).indices)
    return nearest


def _largest_by_block(queries: Tensor, prototypes: Tensor) -> Tensor:
    """Return (Q, blocks), the largest product of each query with `_BLOCK` prototypes in turn."""
    parts = []
    for tiles in tiled(prototypes[None], chunk_elements(queries.device) // max(1, len(queries))):
        products = torch.bmm(queries.expand(len(tiles), -1, -1), tiles)
        # Padding by nothing would be a copy.
        if products.shape[2] % _BLOCK:
            products = F.pad(products, (0, -products.shape[2] % _BLOCK), value=-torch.inf)
        parts.append(products.unflatten(2, (-1, _BLOCK)).amax(dim=3).transpose(0, 1).flatten(1))
    return torch.cat(parts, dim=1)
