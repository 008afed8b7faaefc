"""The training loop, the same for all trainings, and how one ends in good order; what differs is the task.

A signal or a bad file may reach one process alone, and the others would wait for it in the next step. So all processes
tell each other before each step what they want, do the most urgent of it together, and exit together.
"""
import contextlib
import enum
import os
import select
import signal
import stat
import sys
import time

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from spml import config as configuration
from spml.errors import CheckpointError, OutputClosedError, SpmlError
from spml.training.checkpoint import SnapshotKeeper, find_readable, find_snapshots, remove_orphaned_states
from spml.training.monitor import Monitor, Silence
from spml.training.optimizer import clip_gradients, learning_rate
from spml.utils import distributed, interrupt
from spml.utils.device import seed_everything
from spml.utils.files import model_path, remove_abandoned
from spml.utils.formats import write_text
from spml.utils.memory import memory_advice

# Launchers pass on a signal that the terminal or the cluster has already sent to every process.
ECHO_SECONDS = 2.0


def start_iteration(snapshot_dir, resume, begin, stop):
    """Return the first iteration and the snapshot to go on from, or None; CheckpointError if the folder is taken."""
    # The first process decides: on a shared disk, not all see a new file at the same time.
    found, problem = [], None
    if distributed.rank() == 0:
        try:
            found = find_readable(snapshot_dir) if resume else find_snapshots(snapshot_dir)
        except CheckpointError as error:
            problem = error
    found, problem = distributed.gather_objects((found, problem))[0]
    if problem is not None:
        raise problem
    if found and not resume:
        raise CheckpointError(f'{model_path(snapshot_dir, found[-1])}: this folder already holds a training; '
                              'give --resume to continue it, or another --snapshot_dir')
    if found and found[-1] >= stop:
        raise CheckpointError(f'{model_path(snapshot_dir, found[-1])}: trained beyond train.max_iteration={stop}; '
                              'raise that, or choose another --snapshot_dir')
    return (found[-1] + 1, found[-1]) if found else (begin, None)


def train(training, resume=False, accept_changes=False):
    """Train to `train.max_iteration`, with `resume` from the newest complete snapshot, if there is one.

    `accept_changes` allows one that was written with other settings. InterruptedTrainingError: on SIGTERM or Ctrl-C,
    after saving. OutputClosedError: nobody reads the output any more; after saving. SpmlError: a loss or a gradient is
    not finite, a file is bad, or memory ran out.
    """
    config, folder = training.config, training.snapshot_dir
    stop = config.train.max_iteration
    start, snapshot = start_iteration(folder, resume, config.train.begin_iteration, stop)
    seed_everything(config.seed + distributed.rank())
    keeper = SnapshotKeeper(training)
    if snapshot is not None:
        keeper.resume(snapshot, accept_changes)
    if distributed.rank() == 0:
        remove_abandoned(folder)
        remove_orphaned_states(folder)
        write_text(folder / 'config.yaml', configuration.dump(config))
    training.task.train()
    monitor = Monitor(folder, start, config)
    with (contextlib.closing(monitor), stop_requests() as requests,
          contextlib.closing(iter(training.make_loader(start))) as batches):
        steps = _Steps(training, keeper, monitor, Silence(start, stop), requests)
        key = 'total_batch_size' if config.train.total_batch_size else 'batch_size'
        advice = (f'lower train.{key} (now {config.train[key]}) or train.crop_size (now {config.train.crop_size}), and '
                  'start again with --resume')
        for iteration in range(start, stop):
            batch = steps.next_batch(batches, iteration)
            with memory_advice(f'iteration {iteration}', advice):
                steps.run(iteration, batch)
            keeper.after_step(iteration)


class _Steps:
    """The steps of a training."""

    def __init__(self, training, keeper, monitor, silence, requests):
        self.training, self.keeper, self.monitor, self.requests = training, keeper, monitor, requests
        self.silence = silence
        self.module = training.task
        if distributed.world_size() > 1:
            # Of synchronised batch norms, all processes have the same statistics already.
            own_statistics = any(isinstance(module, nn.BatchNorm2d) for module in training.task.modules())
            self.module = DistributedDataParallel(
                training.task, find_unused_parameters=not training.task.trains_all, broadcast_buffers=own_statistics)

    def next_batch(self, batches, iteration):
        """Return the next batch once all processes have agreed to continue; otherwise save and exit together."""
        batch = trouble = None
        try:
            batch = next(batches)
        except SpmlError as error:
            trouble = error
        # A signal to all processes of a job ends the loading ones too; this is expected.
        wish = (Wish.STOP if self.requests.requested else Wish.GIVE_UP if trouble
                else Wish.UNREAD if output_closed() else Wish.SAVE if self.keeper.is_due() else Wish.GO_ON)
        wish = distributed.largest(wish, self.training.device)
        if wish == Wish.GO_ON:
            return batch
        saved = self.keeper.save(iteration - 1)
        if wish in (Wish.STOP, Wish.UNREAD):
            how = '' if 'SPML_STAGE' in os.environ else ', continue with --resume'  # a pipeline says how itself
            done = (f'stopped after iteration {iteration - 1}; all is saved{how} ({saved})' if saved
                    else 'stopped before the first iteration; run the same command again')
            exit_together(InterruptedTrainingError(done) if wish == Wish.STOP
                          else OutputClosedError(f'nobody reads the output any more; {done}'),
                          report=distributed.rank() == 0)
        if wish == Wish.GIVE_UP:
            kept = f' (all up to iteration {iteration - 1} is saved; continue with --resume)' if saved else ''
            error_type = SpmlError if trouble is None else type(trouble)
            exit_together(error_type(f'{trouble}{kept}'), report=trouble is not None)
        return batch

    def run(self, iteration, batch):
        """Forward, backward, update, and what is shown of it."""
        training, settings, monitor = self.training, self.training.config.train, self.monitor
        lr = learning_rate(iteration, settings.base_lr, settings.lr_policy, settings.max_iteration,
                           settings.warmup_iteration, settings.decay_iterations)
        batch = {name: value.to(training.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
                 for name, value in batch.items()}
        losses, extras = self.module(batch)
        self.silence.note(iteration, {name: loss for name, loss in losses.items() if training.weights[name]})
        weighted = {name: training.weights[name] * loss for name, loss in losses.items()}
        total = sum(weighted.values())
        wrong = [] if torch.isfinite(total) else [name for name, loss in weighted.items() if not torch.isfinite(loss)]
        if distributed.largest(bool(wrong), training.device):
            _refuse(iteration, wrong, batch['name'] if wrong else [])
        training.optimizer.zero_grad()
        total.backward()
        # Processes share gradients: if one is not finite in one of them, none is.
        if not torch.isfinite(clip_gradients(training.optimizer, settings.clip_grad_norm)):
            _refuse(iteration, [f'the gradient of {", ".join(weighted)}'], batch['name'])
        training.optimizer.step(lr)
        if monitor.due(iteration):
            values = {'loss': total, 'accuracy': training.task.accuracy(extras), **weighted}
            monitor.log(iteration, {'lr': lr, **distributed.mean_over_processes(values)})
            monitor.pictures(iteration, batch, extras)
        monitor.advance()
        training.task.after_step(extras)


def _refuse(iteration, wrong, names):
    """Raise SpmlError, in every process, for what is not finite in this one (`wrong`), on images of these names."""
    everyones = distributed.gather_objects((wrong, names))
    wrong, names = (list(dict.fromkeys(item for pair in everyones for item in pair[part])) for part in (0, 1))
    exit_together(SpmlError(f'iteration {iteration}: {", ".join(wrong)} is not finite on images {", ".join(names)}; '
                            'lower train.base_lr, set train.clip_grad_norm, or start from better weights. Nothing of '
                            'this step was learned'), report=distributed.rank() == 0)


class InterruptedTrainingError(SpmlError):
    """The training was asked to stop; its state is saved."""

    exit_status = interrupt.STATUS


class Wish(enum.IntEnum):
    """What a process wants before the next step; the larger is the more urgent."""

    GO_ON = 0
    SAVE = 1
    UNREAD = 2
    STOP = 3
    GIVE_UP = 4


class StopRequests:
    """Whether, and since when, the training is asked to stop."""

    requested = False

    def __call__(self, number, frame):
        """Note a signal; a second Ctrl-C acts at once."""
        if not self.requested:
            self.requested, self.since = True, time.monotonic()
            return
        alone = number == signal.SIGINT and distributed.world_size() == 1
        if alone or time.monotonic() - self.since > ECHO_SECONDS:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_requests():
    """Turn SIGTERM and Ctrl-C inside the `with` block into a request that the loop honours between two steps."""
    requests = StopRequests()
    with interrupt.handled((signal.SIGINT, signal.SIGTERM), requests):
        yield requests


def output_closed():
    """Whether nobody reads the output of this process any more, as after `| head`: a pipe without a reader."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream that is not a file
            if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
                poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def exit_together(error, report):
    """Raise `error` in the process that is to report it; exit silently with its status in the others."""
    if report:
        raise error
    raise SystemExit(error.exit_status)
