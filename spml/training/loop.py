"""The training loop, the same for the embedding and for the classifier; what differs is the task."""
import collections
import contextlib
import pathlib
import signal

import torch
from torch.nn.parallel import DistributedDataParallel

from spml import config as configuration
from spml.errors import CheckpointError, DataError, SpmlError
from spml.training.checkpoint import find_snapshots, load_snapshot, model_path, save_snapshot
from spml.training.monitor import Monitor
from spml.training.schedule import learning_rate
from spml.utils import distributed
from spml.utils.io import write_text


class InterruptedRunError(SpmlError):
    """The run was asked to stop; its state is saved."""

    exit_status = 130


def start_iteration(snapshot_dir, resume, begin, stop):
    """Return the iteration to start from, and the snapshot to start from or None.

    Raises:
        CheckpointError: a run's snapshots stand in the folder and `resume` was not asked for, or they go beyond `stop`.
    """
    found = find_snapshots(snapshot_dir)
    if found and not resume:
        raise CheckpointError(f'{model_path(snapshot_dir, found[-1])}: this folder holds a run already; '
                              'give --resume to go on with it, or another --snapshot_dir')
    if found and found[-1] >= stop:
        raise CheckpointError(f'{model_path(snapshot_dir, found[-1])}: trained beyond train.max_iteration={stop}; '
                              'raise that, or choose another --snapshot_dir')
    return (found[-1] + 1, found[-1]) if found else (begin, None)


def train(task, optimizer, make_loader, weights, config, snapshot_dir, device, resume=False):
    """Train to `config.train.max_iteration`.

    Args:
        task: EmbeddingTask or ClassifierTask on `device`.
        optimizer: FoldedSGD over its parameters.
        make_loader: function from the first iteration to an iterable of batches.
        weights: dict from the name of a loss to its weight.
        config: the resolved configuration.
        snapshot_dir: folder for everything this run writes.
        device: torch.device.
        resume: go on from the newest complete snapshot, if there is one.

    Raises:
        InterruptedRunError: on SIGTERM or Ctrl-C, after saving.
        SpmlError: the loss is not finite.
    """
    settings = config.train
    start, snapshot = start_iteration(snapshot_dir, resume, settings.begin_iteration, settings.max_iteration)
    torch.manual_seed(config.seed + distributed.rank())
    if snapshot is not None:
        load_snapshot(snapshot_dir, snapshot, task, optimizer, device)
    if distributed.rank() == 0:
        write_text(pathlib.Path(snapshot_dir) / 'config.yaml', configuration.dump(config))
    task.train()
    module = task
    if distributed.world_size() > 1:
        module = DistributedDataParallel(task, find_unused_parameters=not task.trains_all)
    monitor = Monitor(snapshot_dir, start, settings.max_iteration, settings.tensorboard_step,
                      config.dataset.num_classes, config.network.pixel_means, config.network.pixel_stds,
                      config.dataset.color_map)

    def save(iteration):
        save_snapshot(snapshot_dir, iteration, task, optimizer, configuration.to_dict(config))

    with contextlib.closing(monitor), _stop_requests() as stop, _saving_on_bad_data(save) as finished:
        for iteration, batch in zip(range(start, settings.max_iteration), make_loader(start), strict=True):
            lr = learning_rate(iteration, settings.base_lr, settings.lr_policy, settings.max_iteration,
                               settings.warmup_iteration, settings.decay_iterations)
            _step(module, task, optimizer, batch, weights, lr, iteration, monitor, device)
            finished.append(iteration)
            last = iteration + 1 == settings.max_iteration
            if last or (iteration + 1) % settings.snapshot_step == 0 or stop.requested:
                save(iteration)
            if stop.requested and not last:
                raise InterruptedRunError(f'stopped after iteration {iteration}; all is saved, go on with --resume '
                                          f'({model_path(snapshot_dir, iteration)})')


@contextlib.contextmanager
def _saving_on_bad_data(save):
    """Yield a queue for the last finished iteration; a file that turns out bad days into a run costs only its step."""
    finished = collections.deque(maxlen=1)
    try:
        yield finished
    except DataError as error:
        # One of several processes cannot save alone: the others wait in the next step.
        if not finished or distributed.world_size() > 1:
            raise
        save(finished[0])
        raise DataError(f'{error} (all up to iteration {finished[0]} is saved; go on with --resume)') from None


def _step(module, task, optimizer, batch, weights, lr, iteration, monitor, device):
    batch = {name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
             for name, value in batch.items()}
    losses, extras = module(batch)
    weighted = {name: weights[name] * loss for name, loss in losses.items()}
    total = sum(weighted.values())
    if not torch.isfinite(total):
        wrong = [name for name, loss in weighted.items() if not torch.isfinite(loss)]
        raise SpmlError(f'iteration {iteration}: {", ".join(wrong)} is not finite on images '
                        f'{", ".join(batch["name"])}; lower train.base_lr, or start from better weights. '
                        'Nothing of this step was learned')
    optimizer.zero_grad()
    total.backward()
    optimizer.step(lr)
    if monitor.due(iteration):
        values = {'loss': total, 'accuracy': task.accuracy(extras), **weighted}
        monitor.log(iteration, {'lr': lr, **distributed.mean_over_processes(values)})
        monitor.pictures(iteration, batch, extras)
    monitor.advance()
    task.after_step(extras)


class _Stop:
    """Whether the run was asked to stop."""

    requested = False


@contextlib.contextmanager
def _stop_requests():
    """Turn SIGTERM and Ctrl-C into a request that the loop honours between two steps; a second Ctrl-C acts at once."""
    stop = _Stop()

    def request(number, frame):
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    signals = (signal.SIGINT, signal.SIGTERM)
    # Several processes would leave at different steps and wait for each other; there torchrun ends them all.
    if distributed.world_size() > 1:
        signals = ()
    before = {number: signal.signal(number, request) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
