"""One command, several processes: what is to run on more than one GPU starts itself once on each.

torch's elastic launcher, on which `torchrun` is built too, starts the processes, watches them, and stops them all when
one dies. This module decides how many there are and says in one line what went wrong. A process that torchrun started
launches nothing.
"""
import logging
import os
import signal
import socket
import sys
import tempfile

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from spml.errors import ConfigError, SpmlError
from spml.names import LAUNCHED
from spml.utils import distributed, interrupt
from spml.utils.device import pick_device

logger = logging.getLogger(__name__)

# Seconds between looks at the processes: the worst-case delay before the others of a dead one are stopped.
_MONITOR_INTERVAL = 1.0
# All processes are on this machine; its name need not resolve.
_LOOPBACK = '127.0.0.1'


class ProcessDiedError(SpmlError):
    """One of several processes ended before its work was done."""

    exit_status = 1


def execute(function, device=None, processes=None, gpus='0'):
    """Call `function(device)`, here or in several processes that this one starts, and return the exit status.

    Processes that torchrun or this function started call it with the device of each, in their process group.

    Args:
        device: name of the device asked for, or None for CUDA where there is one.
        processes: how many, or None for one on each of `gpus` (a single one without CUDA).
        gpus: numbers of GPUs among those visible, as `'0,1'`.
    """
    if 'WORLD_SIZE' not in os.environ:
        devices = choose_devices(gpus, device, processes)
        if len(devices) > 1:
            return launch(devices)
        device = devices[0]
    with distributed.start(pick_device(device)) as own:
        function(own)
    return 0


def choose_devices(gpus, device, wanted=None):
    """Return the names of the devices to run on, one for each of the processes that are wanted; see `execute`.

    ConfigError if fewer GPUs can be used.
    """
    numbers = [int(number) for number in gpus.split(',')]
    if device not in (None, 'cpu', 'cuda') and (wanted or 1) > 1:
        raise ConfigError(f'--device {device}: one device, but {wanted} processes; name GPUs with --set gpus=...')
    # Without CUDA `--device cuda` fails where the device is picked, which says why.
    if not (torch.cuda.is_available() and device in (None, 'cuda')):
        if device is None and len(numbers) > 1 and wanted is None:
            logger.warning('gpus=%s: without CUDA, one process runs on the CPU', gpus)
        return [device or 'cpu'] * (wanted or 1)
    count, visible = wanted or len(numbers), torch.cuda.device_count()
    numbers = (numbers if count <= len(numbers) else list(range(count)))[:count]
    if max(numbers) >= visible:
        raise ConfigError(f'gpus={gpus}: {count} {"process" if count == 1 else "processes"} on GPU '
                          f'{", ".join(map(str, numbers))}, but {visible} can be used here, 0 to {visible - 1}; name '
                          'others (--set gpus=0), one a process; train.total_batch_size keeps the images of a step')
    return [f'cuda:{number}' for number in numbers]


def launch(devices):
    """Run this command again, a process on each device, wait for them, and return the exit status.

    Each process reports its own errors. If one was killed the others are ended, and this one raises ProcessDiedError.
    """
    # The launcher reports every process that it stops, with stack traces; one line is enough.
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    # Left alone, every process would start a thread for each core.
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // len(devices))))
    if devices[0].startswith('cuda:'):
        numbers, shown = [name.removeprefix('cuda:') for name in devices], os.environ.get('CUDA_VISIBLE_DEVICES')
        os.environ['CUDA_VISIBLE_DEVICES'] = ','.join(
            [shown.split(',')[int(number)] for number in numbers] if shown else numbers)
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=len(devices), rdzv_backend='c10d',
                          rdzv_endpoint=f'{_LOOPBACK}:0', local_addr=_LOOPBACK, run_id=f'spml-{os.getpid()}',
                          max_restarts=0, monitor_interval=_MONITOR_INTERVAL)
    if 'lo' in (name for _, name in socket.if_nameindex()):  # else gloo resolves the machine's name to find one
        os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
    with tempfile.TemporaryDirectory(prefix='spml-') as folder:
        os.environ[LAUNCHED] = folder
        # The launcher puts this machine's full name into events that nobody reads; looking it up can take minutes.
        look_up, socket.getfqdn = socket.getfqdn, lambda name='': name
        try:
            elastic_launch(config, sys.executable)('-u', *sys.argv)
        except SignalException:
            return interrupt.STATUS
        except ChildFailedError as error:
            return _status(error.failures, len(devices))
        finally:
            socket.getfqdn = look_up
            del os.environ[LAUNCHED]
    return 0


def _status(failures, count):
    """Return the exit status of several processes, given a dict from rank to what is known of one that failed."""
    # The others end too, because they lost the connection or were stopped: they are not the cause.
    def order(rank):
        code = failures[rank].exitcode
        return (code in (-signal.SIGTERM, interrupt.STATUS, distributed.LOST_PEER_STATUS), code < 0, rank)

    rank = min(failures, key=order)
    code = failures[rank].exitcode
    if code > 0:
        return code
    print(file=sys.stderr)  # away from the line of a progress bar that nobody closed
    raise ProcessDiedError(f'process {rank} of {count} was killed ({signal.Signals(-code).name}); all were stopped; '
                           'remove the cause and continue from the last snapshot with --resume')
