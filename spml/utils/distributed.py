"""torch.distributed behind a handful of functions that also work in a single process.

A script is one of several processes when torchrun has set its environment; `start` then joins their group. Every other
function asks `torch.distributed` itself, so no group is passed around.
"""
import atexit
import contextlib
import datetime
import importlib
import logging
import os
import sys
import threading

import torch
import torch.distributed as dist

from spml.errors import SpmlError

# Exit status of a process whose peer died during a collective; the peer is the cause.
LOST_PEER_STATUS = 75

# How long processes wait for each other outside of training steps: shares of a list may end hours apart. A process that
# dies is found out at once all the same, because the system closes its connections.
_PATIENCE = datetime.timedelta(days=365)
_patient = []  # the group that waits so long, while there is one


class LostPeerError(SpmlError):
    """Another process of the group is gone."""

    exit_status = LOST_PEER_STATUS
    is_secondary = True


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
        number, visible = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
        if number >= visible:
            raise SpmlError(f'more processes on this machine than the {visible} GPUs that can be used; start '
                            f'{visible} (--nproc_per_node={visible}), or give --device cpu')
        device = torch.device('cuda', number)
        torch.cuda.set_device(device)
    # DistributedDataParallel imports this module lazily; it would capture the current group as a default of its
    # functions and keep it until the interpreter exits, when the group's threads can abort the process.
    importlib.import_module('torch.distributed.nn.functional')
    dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    # NCCL gives up after ten minutes and does not notice that a process died.
    _patient[:] = [dist.new_group(backend='gloo', timeout=_PATIENCE)]
    if rank() > 0:  # warnings are the same in all processes; errors need not be
        logging.getLogger('spml').setLevel(logging.ERROR)
    try:
        yield device
    except RuntimeError as error:
        if not _names_lost_peer(error):
            raise
        raise LostPeerError(f'process {rank()} stops: it lost another process, which reports the cause') from None
    # Not after an error: the others may be stuck in a collective, and leaving would wait for them.
    _patient.clear()
    dist.destroy_process_group()


def leave_at_once(status):
    """Exit, still in the group, once other threads and exit functions have finished.

    The group's threads would end with the interpreter, which can abort the process and lose the exit status.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):  # nobody reads the output any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _names_lost_peer(error):
    """Whether a collective failed because a process is gone: gloo and NCCL only say so in the message."""
    return isinstance(error, dist.DistError) or any(
        word in str(error) for word in ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe',
                                        'Read timeout', 'Timed out waiting', 'gloo'))


def world_size():
    """Return W."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank():
    """Return this process's number in 0..W-1."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_world_size():
    """Return how many of the processes run on this machine."""
    return int(os.environ.get('LOCAL_WORLD_SIZE', '1')) if dist.is_initialized() else 1


def mean_over_processes(values):
    """Average a dict of scalar tensors over the processes; returns floats."""
    stacked = torch.stack([value.detach().float() for value in values.values()])
    if world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= world_size()
    return dict(zip(values, stacked.tolist(), strict=True))


def gather_objects(value):
    """Return the list of every process's `value`, in order of rank; waits for the others as long as they live."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value, group=_patient[0] if _patient else None)
    return values


def largest(value, device):
    """Return the largest of every process's int (or bool) `value`; `device` is the process's."""
    if world_size() == 1:
        return int(value)
    tensor = torch.tensor(int(value), device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)
