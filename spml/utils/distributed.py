"""torch.distributed behind a handful of functions that also work in a single process.

A script is one of many when torchrun has set its environment; `start` joins the group then. Every other function asks
`torch.distributed` itself, so nothing is handed round.
"""
import contextlib
import os

import torch
import torch.distributed as dist

from spml.errors import SpmlError


@contextlib.contextmanager
def start(device):
    """Join the process group that torchrun announces (if any), yield this process's device, and leave the group."""
    if int(os.environ.get('WORLD_SIZE', '1')) == 1:
        yield device
        return
    missing = [name for name in ('RANK', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if missing:
        raise SpmlError(f'WORLD_SIZE is set, but not {", ".join(missing)}; start several processes with torchrun, '
                        'or unset WORLD_SIZE')
    if device.type == 'cuda':
        device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
        torch.cuda.set_device(device)
    dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield device
    finally:
        dist.destroy_process_group()


def world_size():
    """Return W."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank():
    """Return this process's number in 0..W-1."""
    return dist.get_rank() if dist.is_initialized() else 0


def mean_over_processes(values):
    """Average a dict of scalar tensors over the processes; returns floats."""
    stacked = torch.stack([value.detach().float() for value in values.values()])
    if world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= world_size()
    return dict(zip(values, stacked.tolist(), strict=True))


def gather_objects(value):
    """Return the list of every process's `value`, in order of rank."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def largest(value, device):
    """Return the largest of every process's int (or bool) `value`; `device` is the process's."""
    if world_size() == 1:
        return int(value)
    tensor = torch.tensor(int(value), device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def is_lost_peer(error):
    """Return whether an exception says that another process has left the group."""
    return isinstance(error, dist.DistError) or 'by peer' in str(error)


def gather_segments(segments):
    """Return every process's segments, in order of rank, and the index of this process's first.

    Gradients flow back to the process whose pixels formed a prototype.
    """
    if world_size() == 1:
        return segments, 0
    counts = [torch.zeros(1, dtype=torch.int64, device=segments.semantic.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(segments)], device=segments.semantic.device))
    counts = [int(count) for count in counts]
    return segments.map(lambda field: _gather(field, counts)), sum(counts[:rank()])


def _gather(field, counts):
    padded = field.new_zeros((max(counts), *field.shape[1:]))
    # Written out of place, so that autograd follows `field` through the padding.
    padded = torch.cat([field, padded[len(field):]])
    parts = _AllGather.apply(padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _AllGather(torch.autograd.Function):
    """Stack equal tensors of all processes.

    The gradient of a process's part is the sum of what all processes ask of it.
    """

    @staticmethod
    def forward(ctx, tensor):
        as_bytes = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor.contiguous()
        parts = [torch.empty_like(as_bytes) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, as_bytes)
        return torch.stack(parts).to(tensor.dtype)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank()]
