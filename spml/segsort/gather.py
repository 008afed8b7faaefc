"""The segments of every process, with gradients that flow back to the process whose pixels formed them."""
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from spml.segsort.segments import Segments
from spml.utils.distributed import rank, world_size


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
