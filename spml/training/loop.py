"""The training loop, the same for the embedding and for the classifier; what differs is the task."""
import contextlib
import pathlib

import torch
from torch.nn.parallel import DistributedDataParallel

from spml import config as configuration
from spml.errors import CheckpointError, SpmlError
from spml.training.checkpoint import find_snapshots, remove_widowed_states
from spml.training.monitor import Monitor
from spml.training.optimizer import clip_gradients
from spml.training.schedule import learning_rate
from spml.training.snapshot_keeper import SnapshotKeeper
from spml.training.stopping import InterruptedRunError, Wish, leave, stop_requests
from spml.utils import distributed
from spml.utils.atomic import remove_abandoned
from spml.utils.formats import write_text
from spml.utils.memory import memory_advice
from spml.utils.model_files import model_path
from spml.utils.seeding import seed_everything


def start_iteration(snapshot_dir, resume, begin, stop):
    """Return the iteration to start from, and the snapshot to start from or None.

    Raises:
        CheckpointError: a run's snapshots stand in the folder and `resume` was not asked for, or they go beyond `stop`.
    """
    # The first process decides: on a shared disk not all see a new file at once.
    found = distributed.gather_objects(find_snapshots(snapshot_dir))[0]
    if found and not resume:
        raise CheckpointError(f'{model_path(snapshot_dir, found[-1])}: this folder holds a run already; '
                              'give --resume to go on with it, or another --snapshot_dir')
    if found and found[-1] >= stop:
        raise CheckpointError(f'{model_path(snapshot_dir, found[-1])}: trained beyond train.max_iteration={stop}; '
                              'raise that, or choose another --snapshot_dir')
    return (found[-1] + 1, found[-1]) if found else (begin, None)


def train(task, optimizer, make_loader, weights, config, snapshot_dir, device, resume=False, accept_changes=False,
          data=None):
    """Train to `config.train.max_iteration`.

    Args:
        task: EmbeddingTask or ClassifierTask on `device`.
        optimizer: FoldedSGD over its parameters.
        make_loader: function from the first iteration to an iterable of batches, whose iterator can be closed.
        weights: dict from the name of a loss to its weight.
        config: the resolved configuration.
        snapshot_dir: folder for everything this run writes.
        device: torch.device.
        resume: go on from the newest complete snapshot, if there is one.
        accept_changes: also where it was written with other settings.
        data: text that stands for the training list, noted in snapshots.

    Raises:
        InterruptedRunError: on SIGTERM or Ctrl-C, after saving.
        SpmlError: a loss or a gradient is not finite, a file is bad, or memory ran out.
    """
    settings = config.train
    start, snapshot = start_iteration(snapshot_dir, resume, settings.begin_iteration, settings.max_iteration)
    seed_everything(config.seed + distributed.rank())
    keeper = SnapshotKeeper(snapshot_dir, task, optimizer, config, data)
    if snapshot is not None:
        keeper.resume(snapshot, device, accept_changes)
    if distributed.rank() == 0:
        remove_abandoned(snapshot_dir)
        remove_widowed_states(snapshot_dir)
        write_text(pathlib.Path(snapshot_dir) / 'config.yaml', configuration.dump(config))
    task.train()
    module = task
    if distributed.world_size() > 1:
        module = DistributedDataParallel(task, find_unused_parameters=not task.trains_all)
    monitor = Monitor(snapshot_dir, start, settings.max_iteration, settings.tensorboard_step,
                      config.dataset.num_classes, config.network.pixel_means, config.network.pixel_stds,
                      config.dataset.color_map)
    advice = (f'lower train.batch_size (now {settings.batch_size}) or train.crop_size (now {settings.crop_size}), and '
              'start again with --resume')
    with (contextlib.closing(monitor), stop_requests() as stop,
          contextlib.closing(iter(make_loader(start))) as batches):
        for iteration in range(start, settings.max_iteration):
            batch = _next_batch(batches, iteration, stop, keeper, device)
            lr = learning_rate(iteration, settings.base_lr, settings.lr_policy, settings.max_iteration,
                               settings.warmup_iteration, settings.decay_iterations)
            with memory_advice(f'iteration {iteration}', advice):
                _step(module, task, optimizer, batch, weights, lr, iteration, monitor, device, settings.clip_grad_norm)
            keeper.after_step(iteration)


def _next_batch(batches, iteration, stop, keeper, device):
    """Return the next batch after all processes have agreed to go on; else save together and leave together.

    A file that turns out bad days into a run so costs only its step.
    """
    batch = trouble = None
    try:
        batch = next(batches)
    except SpmlError as error:
        trouble = error
    # A signal to all processes of a job ends the loading ones too; that is no trouble of its own.
    wish = (Wish.STOP if stop.requested else Wish.GIVE_UP if trouble else Wish.SAVE if keeper.is_due() else Wish.GO_ON)
    wish = wish.agreed(device)
    if wish == Wish.GO_ON:
        return batch
    saved = keeper.save(iteration - 1)
    if wish == Wish.STOP:
        done = (f'stopped after iteration {iteration - 1}; all is saved, go on with --resume ({saved})' if saved else
                'stopped before the first iteration; run the same command again')
        leave(InterruptedRunError(done), speaks=distributed.rank() == 0)
    if wish == Wish.GIVE_UP:
        kept = f' (all up to iteration {iteration - 1} is saved; go on with --resume)' if saved else ''
        kind = SpmlError if trouble is None else type(trouble)
        leave(kind(f'{trouble}{kept}'), speaks=trouble is not None)
    return batch


def _step(module, task, optimizer, batch, weights, lr, iteration, monitor, device, max_norm):
    batch = {name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
             for name, value in batch.items()}
    losses, extras = module(batch)
    weighted = {name: weights[name] * loss for name, loss in losses.items()}
    total = sum(weighted.values())
    wrong = [] if torch.isfinite(total) else [name for name, loss in weighted.items() if not torch.isfinite(loss)]
    if distributed.largest(bool(wrong), device):
        _refuse(iteration, wrong, batch['name'] if wrong else [])
    optimizer.zero_grad()
    total.backward()
    # Processes share gradients: what one of them has spoilt is not finite in all.
    if not torch.isfinite(clip_gradients(optimizer, max_norm)):
        _refuse(iteration, [f'the gradient of {", ".join(weighted)}'], batch['name'])
    optimizer.step(lr)
    if monitor.due(iteration):
        values = {'loss': total, 'accuracy': task.accuracy(extras), **weighted}
        monitor.log(iteration, {'lr': lr, **distributed.mean_over_processes(values)})
        monitor.pictures(iteration, batch, extras)
    monitor.advance()
    task.after_step(extras)


def _refuse(iteration, wrong, names):
    """Raise SpmlError for a step whose numbers are not finite; the same in every process, told by the first.

    Args:
        iteration: zero-based.
        wrong: names of what is not finite in this process.
        names: of the images it comes from.
    """
    everyones = distributed.gather_objects((wrong, names))
    wrong, names = (list(dict.fromkeys(item for pair in everyones for item in pair[part])) for part in (0, 1))
    leave(SpmlError(f'iteration {iteration}: {", ".join(wrong)} is not finite on images {", ".join(names)}; lower '
                    'train.base_lr, set train.clip_grad_norm, or start from better weights. Nothing of this step was '
                    'learned'), speaks=distributed.rank() == 0)
