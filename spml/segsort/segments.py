"""Segments: what k-means, the weak labels and the over-segmentation cut an image into.

METHOD.md, "Spherical k-means", 4 and 5. Those of every process keep the gradients that flow back to the process whose
pixels formed them.

Shape letters: B images, N kept pixels of the batch, S segments, D channels, L channels with location, C classes.
"""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from spml.names import VOID
from spml.segsort.clustering import initial_clusters, spherical_kmeans, sum_by_label
from spml.utils.distributed import rank, world_size

# Four labels of this width fill an int64 key: 2^15 images a process, 2^16 clusters an image.
_LABEL_BITS = 16


@dataclasses.dataclass
class Segments:
    """S segments, of one process or of many, of this step or of the memory bank.

    Attributes:
        prototype: (S, D) float, normalised sum of the pixels' unit embeddings.
        prototype_with_location: (S, L) float, the same of the embeddings with location.
        semantic: (S,) int64 weak label; values >= C are unlabelled.
        instance: (S,) int64 id in the over-segmentation.
        image: (S,) int64 id of the image, unique over processes and over the memory bank.
        tags: (S, 256) bool, values present in the image's weak label map before augmentation.
    """

    prototype: Tensor
    prototype_with_location: Tensor
    semantic: Tensor
    instance: Tensor
    image: Tensor
    tags: Tensor

    def __len__(self) -> int:
        return len(self.semantic)

    def map(self, function: Callable[[Tensor], Tensor]) -> 'Segments':
        """Return Segments with `function` applied to every field."""
        return Segments(**{field.name: function(getattr(self, field.name)) for field in dataclasses.fields(self)})

    @staticmethod
    def cat(parts: 'Sequence[Segments]') -> 'Segments':
        """Return all segments of a list of Segments as one."""
        return Segments(**{field.name: torch.cat([getattr(part, field.name) for part in parts])
                           for field in dataclasses.fields(Segments)})


@dataclasses.dataclass
class Pixels:
    """The N kept (not void) pixels of a batch, image after image.

    Attributes:
        embedding: (N, D) float unit embeddings.
        embedding_with_location: (N, L) float unit vectors.
        segment: (N,) int64 index of the pixel's segment among this process's segments.
        image: (N,) int64 index of the image within the batch.
        clusters: (B, h, w) int64 k-means clusters, for pictures; K where void.
    """

    embedding: Tensor
    embedding_with_location: Tensor
    segment: Tensor
    image: Tensor
    clusters: Tensor

    def where(self, keep: Tensor) -> 'Pixels':
        """Return the pixels for which the (N,) bool is true."""
        return Pixels(self.embedding[keep], self.embedding_with_location[keep], self.segment[keep], self.image[keep],
                      self.clusters)


def nearest_resize(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (..., H, W) label maps to `size` by nearest, floor(i * in / out) in exact integers."""
    rows = torch.arange(size[0], device=labels.device) * labels.shape[-2] // size[0]
    columns = torch.arange(size[1], device=labels.device) * labels.shape[-1] // size[1]
    return labels[..., rows[:, None], columns[None, :]]


def group(*labels: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Number the combinations of labels that occur: (N,) int64 ids, consecutive, and the (S,) labels of each id.

    There may be up to four (N,) int64, each in 0..2^16 - 1, the first of four in 0..2^15 - 1.
    """
    key = labels[0]
    for label in labels[1:]:
        key = (key << _LABEL_BITS) + label
    unique, ids = torch.unique(key, return_inverse=True)
    shifts = range(_LABEL_BITS * (len(labels) - 1), -1, -_LABEL_BITS)
    return ids, tuple((unique >> shift) & ((1 << _LABEL_BITS) - 1) for shift in shifts)


def make_segments(embeddings: Tensor, local_features: Tensor, semantic: Tensor, instance: Tensor, tags: Tensor, *,
                  grid: tuple[int, int], iterations: int, image_offset: int = 0,
                  embedding_scale: float = 1.0) -> tuple[Pixels, Segments]:
    """Cluster a batch and form its segments.

    Args:
        embeddings: (B, D, h, w) float, not normalised; gradients flow through them.
        local_features: (B, F, h, w) float, appended for clustering.
        semantic: (B, h, w) int64 weak labels; 255 is void.
        instance: (B, h, w) int64 over-segmentation ids in 0..255.
        tags: (B, 256) bool.
        grid: (ky, kx) initial clusters.
        image_offset: id of the first image.
        embedding_scale: weight of the unit embedding in the vectors with location that are handed on; DensePose's
            training uses 0.1, for which clustering itself still uses 1.

    Returns:
        Pixels and Segments (one per combination of image, cluster, weak label and over-segmentation id).
    """
    batch, channels, height, width = embeddings.shape
    unit = F.normalize(embeddings, dim=1).permute(0, 2, 3, 1).reshape(batch, -1, channels)
    local = local_features.permute(0, 2, 3, 1).reshape(batch, height * width, -1)
    with_location = F.normalize(torch.cat([unit, local], dim=-1), dim=-1)

    initial = initial_clusters(height, width, grid, embeddings.device)
    num_clusters = int(initial.max()) + 1
    valid = semantic.reshape(batch, -1) != VOID
    clusters = spherical_kmeans(with_location, initial.reshape(1, -1).expand(batch, -1), num_clusters, iterations,
                                valid)
    if embedding_scale != 1.0:
        with_location = F.normalize(torch.cat([embedding_scale * unit, local], dim=-1), dim=-1)

    image = torch.arange(batch, device=embeddings.device)[:, None].expand_as(valid)[valid]
    ids, (seg_image, _, seg_semantic, seg_instance) = group(
        image, clusters[valid], semantic.reshape(batch, -1)[valid], instance.reshape(batch, -1)[valid])
    unit, with_location = unit[valid], with_location[valid]
    segments = Segments(
        prototype=F.normalize(sum_by_label(unit, ids, len(seg_image)), dim=1),
        prototype_with_location=F.normalize(sum_by_label(with_location, ids, len(seg_image)), dim=1),
        semantic=seg_semantic, instance=seg_instance, image=seg_image + image_offset, tags=tags[seg_image])
    return Pixels(unit, with_location, ids, image, clusters.view(batch, height, width)), segments


def location_features(height: int, width: int, device: torch.device | None = None,
                      dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (2, height, width): `linspace(0, 1) - 0.5` along y, then along x."""
    y = torch.linspace(0, 1, height, device=device, dtype=dtype) - 0.5
    x = torch.linspace(0, 1, width, device=device, dtype=dtype) - 0.5
    return torch.stack(torch.meshgrid(y, x, indexing='ij'))


def gather_segments(segments: Segments) -> tuple[Segments, int]:
    """Return every process's segments, in order of rank, and the index of this process's first."""
    if world_size() == 1:
        return segments, 0
    parts = [torch.zeros(1, dtype=torch.int64, device=segments.semantic.device) for _ in range(world_size())]
    dist.all_gather(parts, torch.tensor([len(segments)], device=segments.semantic.device))
    counts = [int(part) for part in parts]
    return segments.map(lambda field: _gather(field, counts)), sum(counts[:rank()])


def _gather(field: Tensor, counts: list[int]) -> Tensor:
    # Written out of place, so that autograd follows `field` through the padding.
    padded = torch.cat([field, field.new_zeros((max(counts) - len(field), *field.shape[1:]))])
    parts: Tensor = _AllGather.apply(padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _AllGather(torch.autograd.Function):
    """Stack equal tensors of all processes; the gradient of each is the sum of what all processes ask of it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        as_bytes = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.contiguous()
        parts = [torch.empty_like(as_bytes) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, as_bytes)
        return torch.stack(parts).to(tensor.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank()]
