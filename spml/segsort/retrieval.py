"""Labels by the nearest stored prototypes (METHOD.md, "Inference", prototypes and retrieval).

Shape letters: Q queries, M stored prototypes, D channels, P pixels, K clusters, C classes.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from spml.segsort.clustering import sum_by_label

NEIGHBOURS = 20


def cluster_prototypes(vectors: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (K, D) prototypes of the K clusters that occur, and the (P,) int64 clusters renumbered to 0..K-1.

    Args:
        vectors: (P, D) float embeddings; they are unit-normalised first.
        clusters: (P,) int64.
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
        num_classes: C.
        neighbours: how many nearest.

    Returns:
        (Q, C) float32 counts that sum to `neighbours`. The argmax is the label, the smallest on ties.
    """
    nearest = (queries @ prototypes.T).topk(neighbours, dim=1).indices
    return F.one_hot(labels[nearest], num_classes).sum(dim=1).float()
