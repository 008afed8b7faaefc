"""Spherical (von Mises-Fisher) k-means, per image (METHOD.md, "Spherical k-means"; SegSort, section 3.2).

Shape letters: B images, P = h*w pixels of the grid, D channels, K clusters. A pixel that is left out (void) keeps
cluster K and is never summed.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spml.segsort import kernels
from spml.utils.device import chunk_elements

# Vectors whose similarities are one product of a batch: several threads share a batch, but hardly ever one product of a
# few vectors with many.
TILE = 256
# Numbers that are copied at a time for sums over bags of rows, where the vectors' channels are not side by side.
_COPIED_AT_ONCE = 1 << 26


def initial_clusters(height: int, width: int, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return the initial clusters, a grid of ky rectangles along y and kx along x.

    They are (height, width) int64 ids, consecutive from 0 (fewer than ky*kx on a map smaller than the grid).
    """
    ky, kx = grid
    # float32 and half-to-even rounding, as the release: another rule moves whole rows to another cluster.
    y = torch.linspace(0, ky - 1, height).round().long()
    x = torch.linspace(0, kx - 1, width).round().long()
    ids: Tensor = torch.unique(y[:, None] + ky * x[None, :], return_inverse=True)[1]
    return ids.to(device)


def take(matrix: Tensor, rows: Tensor) -> Tensor:
    """Return matrix[rows] for (...) int64 rows; on a CPU index_select is many times as fast as indexing."""
    return matrix.index_select(0, rows.flatten()).view(*rows.shape, matrix.shape[1])


def sum_by_label(vectors: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """Sum rows by label: (N, D) vectors, (N,) int64 labels in 0..num_labels-1 -> (num_labels, D); differentiable."""
    sums = vectors.new_zeros(num_labels, vectors.shape[1])
    return sums.scatter_add_(0, labels[:, None].expand_as(vectors), vectors)


class _SumsOnCpu:
    """Sums of the rows of (N, D) vectors by (N,) labels that change little from call to call, without gradient."""

    def __init__(self, vectors: Tensor, num_labels: int) -> None:
        self.vectors = vectors
        self.num_labels = num_labels
        self.labels: Tensor | None = None

    def __call__(self, labels: Tensor) -> Tensor:
        """Return (num_labels, D); from the last sums where less than an eighth of the rows moved."""
        before, self.labels = self.labels, labels
        if before is None or 8 * len(moved := np.flatnonzero(labels.numpy() != before.numpy())) >= len(labels):
            self.sums, self.counts = self._add_up(self.vectors, labels)
            return self.sums
        index = torch.from_numpy(moved)
        rows = self.vectors.index_select(0, index)
        for sign, found in ((1, labels), (-1, before)):
            sums, counts = self._add_up(rows, found.index_select(0, index))
            self.sums.add_(sums, alpha=sign)
            self.counts.add_(counts, alpha=sign)
        # Rounding errors left in a cluster that lost all its pixels would have a direction.
        return self.sums.mul_((self.counts > 0)[:, None])

    def _add_up(self, vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return sums and counts; a radix sort and sums over bags of rows take half the time of additions by index."""
        order = torch.from_numpy(labels.numpy().argsort(kind='stable'))
        counts = torch.bincount(labels, minlength=self.num_labels)
        starts = counts.cumsum(0) - counts
        # The bags copy vectors that are not contiguous: of a large image, some channels at a time.
        channels = vectors.shape[1] if vectors.is_contiguous() else max(1, _COPIED_AT_ONCE // max(1, len(vectors)))
        sums = [F.embedding_bag(order, part, starts, mode='sum') for part in vectors.split(channels, dim=1)]
        return torch.cat(sums, dim=1), counts


def spherical_kmeans(vectors: Tensor, labels: Tensor, num_clusters: int, iterations: int,
                     valid: Tensor | None = None) -> Tensor:
    """Cluster unit vectors by cosine similarity.

    Every iteration a cluster's prototype is the normalised sum of its vectors, then every vector moves to the prototype
    of the largest dot product (the first on ties). An emptied cluster keeps a zero prototype, so it can win again.

    Args:
        vectors: (B, P, D) float unit vectors; no gradient is recorded.
        labels: (B, P) int64 initial clusters in 0..K-1.
        iterations: number of iterations; 0 returns the initial clusters.
        valid: (B, P) bool, pixels that take part (default: all).

    Returns:
        (B, P) int64 clusters; K where not valid.
    """
    batch, pixels, _ = vectors.shape
    vectors = vectors.detach().to(torch.promote_types(vectors.dtype, torch.float32))
    if valid is not None:
        labels = torch.where(valid, labels, num_clusters)
    if iterations == 0 or batch == 0 or pixels == 0:
        return labels
    if (vectors.dtype == torch.float32 and kernels.kmeans_fits(num_clusters, vectors.shape[2])
            and kernels.available(vectors.device, 'kmeans')):
        from spml.segsort.kernels import kmeans as fused_kmeans

        return fused_kmeans.iterate(vectors, labels, num_clusters, iterations)
    # Allocated outside of inference mode, so that it may be part of a graph.
    found = torch.empty_like(labels, memory_format=torch.contiguous_format)
    # As many images at once as fit a chunk; on a CPU, whose caches are small, one after the other.
    images = max(1, chunk_elements(vectors.device) // (pixels * num_clusters))
    parts = [range_of.split(images) for range_of in (found, vectors, labels, valid) if range_of is not None]
    # There are so many small operations that autograd's share in each matters.
    with torch.inference_mode():
        for target, *part in zip(*parts, strict=True):
            target.copy_(_iterate(*part, num_clusters=num_clusters, iterations=iterations))
    return found


def _iterate(vectors: Tensor, labels: Tensor, valid: Tensor | None = None, *, num_clusters: int,
             iterations: int) -> Tensor:
    """Run the iterations of `spherical_kmeans` on images that fit a chunk, or on one that need not."""
    batch, _, channels = vectors.shape
    # Cluster K collects what is left out.
    offset = torch.arange(batch, device=vectors.device)[:, None] * (num_clusters + 1)
    tiles = tiled(vectors, chunk_elements(vectors.device) // (batch * num_clusters))
    # One buffer for the similarities of all parts: it stays in a CPU's caches.
    sizes = [(len(tile), num_clusters, tile.shape[2]) for tile in tiles]
    buffer = vectors.new_empty(max(map(math.prod, sizes)))
    parts = [(tile, buffer[:math.prod(size)].view(size)) for tile, size in zip(tiles, sizes, strict=True)]
    rank = -torch.arange(num_clusters, device=vectors.device, dtype=vectors.dtype)[:, None]
    flat_vectors = vectors.reshape(-1, channels)
    count = batch * (num_clusters + 1)
    on_cpu = _SumsOnCpu(flat_vectors, count) if vectors.device.type == 'cpu' else None
    # Narrow labels take less time; numpy sorts integers of 16 bits, but not wider ones, by digits.
    narrow = torch.int16 if on_cpu is not None and count < 1 << 15 else torch.int64
    labels, offset = labels.to(narrow), offset.to(narrow)
    for _ in range(iterations):
        flat_labels = (labels + offset if batch > 1 else labels).reshape(-1)
        sums = sum_by_label(flat_vectors, flat_labels, count) if on_cpu is None else on_cpu(flat_labels)
        prototypes = F.normalize(sums.view(batch, num_clusters + 1, channels)[:, :num_clusters], dim=-1)
        nearest = [_nearest(prototypes, *part, rank).to(narrow).view(batch, -1) for part in parts]
        labels = torch.cat(nearest, dim=1) if len(nearest) > 1 else nearest[0]
        if valid is not None:
            labels.masked_fill_(~valid, num_clusters)
    return labels


def tiled(vectors: Tensor, at_once: int) -> list[Tensor]:
    """Cut (B, P, D) vectors into parts of about so many of the P, each as (B * tiles, D, vectors of a tile)."""
    pixels, channels = vectors.shape[1:]
    whole = pixels // TILE * TILE
    step = max(1, at_once // TILE) * TILE
    parts = [part.reshape(-1, TILE, channels) for part in vectors[:, :whole].split(step, dim=1) if whole]
    if whole < pixels:
        parts.append(vectors[:, whole:])
    return [part.transpose(1, 2) for part in parts]


def _nearest(prototypes: Tensor, tiles: Tensor, similarity: Tensor, rank: Tensor) -> Tensor:
    """Return which of (B, K, D) prototypes has the largest dot product with each pixel, the first on ties.

    On a CPU argmax is a scalar loop that takes as long as the product. With clusters along the rows it can be had from
    vectorised passes: less the largest, times a huge number, similarities are 0 at the largest and far below -K
    elsewhere (except differences under K / 3e38, which count as ties); less k for cluster k, they are largest at the
    first 0.

    Args:
        prototypes, tiles: (B, K, D), and (B * tiles, D, n) of `tiled`.
        similarity: (B * tiles, K, n), overwritten; the result is (B * tiles, n) float, whole numbers.
        rank: (K, 1), minus k.
    """
    batch, count, channels = prototypes.shape
    prototypes = prototypes[:, None].expand(-1, len(tiles) // batch, -1, -1).reshape(-1, count, channels)
    torch.bmm(prototypes, tiles, out=similarity)
    similarity.sub_(similarity.amax(dim=1, keepdim=True))
    torch.add(rank, similarity, alpha=torch.finfo(torch.float32).max, out=similarity)
    # Vectors that are not finite get some cluster: the loss will report them, with the images' names.
    return similarity.amax(dim=1).neg_().nan_to_num_(0).clamp_(0, count - 1)


def cluster_image(vectors: Tensor, grid: tuple[int, int], iterations: int,
                  span: tuple[int, int] | None = None) -> tuple[Tensor, int]:
    """Cluster (h, w, D) unit vectors, by a grid on `span` (default: h, w): (h, w) int64 clusters in 0..K-1, and K."""
    height, width, channels = vectors.shape
    labels = initial_clusters(*(span or (height, width)), grid, vectors.device)
    num_clusters = int(labels.max()) + 1
    labels = labels[:height, :width].reshape(1, -1)
    labels = spherical_kmeans(vectors.reshape(1, -1, channels), labels, num_clusters, iterations)
    return labels.view(height, width), num_clusters
