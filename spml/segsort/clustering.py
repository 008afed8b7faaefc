"""Spherical (von Mises-Fisher) k-means, per image (METHOD.md, "Spherical k-means"; SegSort, section 3.2).

Shape letters: B images, P = h*w pixels of the grid, D channels, K clusters. All images of a batch are clustered at
once; a pixel that takes no part (void) keeps cluster K and is never summed.
"""
import torch
import torch.nn.functional as F
from torch import Tensor


def initial_clusters(height: int, width: int, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return the initial clusters: a grid of rectangles.

    Args:
        height, width: of the map.
        grid: (ky, kx), clusters along y and x.

    Returns:
        (height, width) int64 ids, consecutive from 0 (fewer than ky*kx on a map smaller than the grid).
    """
    ky, kx = grid
    # float32 and half-to-even rounding, as the release: another rule moves whole rows to another cluster.
    y = torch.linspace(0, ky - 1, height).round().long()
    x = torch.linspace(0, kx - 1, width).round().long()
    ids: Tensor = torch.unique(y[:, None] + ky * x[None, :], return_inverse=True)[1]
    return ids.to(device)


def sum_by_label(vectors: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """Sum rows by label: (N, D) vectors, (N,) int64 labels in 0..num_labels-1 -> (num_labels, D); differentiable."""
    sums = vectors.new_zeros(num_labels, vectors.shape[1])
    return sums.scatter_add(0, labels[:, None].expand_as(vectors), vectors)


def spherical_kmeans(vectors: Tensor, labels: Tensor, num_clusters: int, iterations: int,
                     valid: Tensor | None = None) -> Tensor:
    """Cluster unit vectors by cosine similarity.

    Every iteration a cluster's prototype is the normalised sum of its vectors, then every vector moves to the prototype
    of the largest dot product (the first on ties). An emptied cluster keeps a zero prototype, so it can win again.

    Args:
        vectors: (B, P, D) float unit vectors; no gradient is recorded.
        labels: (B, P) int64 initial clusters in 0..K-1.
        num_clusters: K.
        iterations: number of iterations; 0 returns the initial clusters.
        valid: (B, P) bool, pixels that take part (default: all).

    Returns:
        (B, P) int64 clusters; K where not valid.
    """
    batch, _, channels = vectors.shape
    vectors = vectors.detach()
    offset = torch.arange(batch, device=vectors.device)[:, None] * (num_clusters + 1)
    if valid is not None:
        labels = torch.where(valid, labels, num_clusters)
    for _ in range(iterations):
        sums = sum_by_label(vectors.reshape(-1, channels), (labels + offset).reshape(-1), batch * (num_clusters + 1))
        prototypes = F.normalize(sums.view(batch, num_clusters + 1, channels)[:, :num_clusters], dim=-1)
        labels = torch.bmm(vectors, prototypes.transpose(1, 2)).argmax(-1)
        if valid is not None:
            labels = torch.where(valid, labels, num_clusters)
    return labels


def cluster_image(vectors: Tensor, grid: tuple[int, int], iterations: int) -> tuple[Tensor, int]:
    """Cluster one map from its initial grid: (h, w, D) unit vectors -> (h, w) int64 clusters in 0..K-1, and K."""
    height, width, channels = vectors.shape
    labels = initial_clusters(height, width, grid, vectors.device)
    num_clusters = int(labels.max()) + 1
    labels = spherical_kmeans(vectors.reshape(1, -1, channels), labels.reshape(1, -1), num_clusters, iterations)
    return labels.view(height, width), num_clusters
