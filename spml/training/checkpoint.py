"""Snapshots of a training as files, when they are written, and which of them are kept.

`model-<iteration>.pth` holds weights and configuration, `model-<iteration>.state.pth` what a resume needs
besides. The state file is written first and removed last, so a snapshot with a model file is complete.

Regular snapshots come every `train.snapshot_step` iterations and at the end; the newest `train.keep_snapshots` of them
are kept. Between them stopgaps are written: every `train.snapshot_minutes` minutes and when a training is stopped. A
stopgap only serves to resume and is removed once there is a later snapshot.
"""
import dataclasses
import logging
import pathlib
import time

import torch

from spml import config as configuration
from spml.errors import CheckpointError, ConfigError, first_line
from spml.models.files import SAFETENSORS, require_safetensors, write_pth, write_safetensors
from spml.models.weights import load_state, read_checkpoint, tensors
from spml.utils import distributed
from spml.utils.device import random_states, restore_random_states
from spml.utils.files import model_iterations, model_path

logger = logging.getLogger(__name__)

_NEEDED = ('optimizer', 'memory', 'random')
_WAY_OUT = 'remove this snapshot and resume from an older one'


@dataclasses.dataclass
class Snapshot:
    """A snapshot as read, not yet checked against the training that is to resume it."""

    path: pathlib.Path
    weights: dict  # of state dicts, and `config`
    state: dict  # `optimizer`, `memory`, `random`; in newer files `data`, and `stopgap`: the next one replaces it


def find_snapshots(snapshot_dir):
    """Return the iterations of the complete snapshots in a folder, ascending."""
    return [iteration for iteration in model_iterations(snapshot_dir) if _state_path(snapshot_dir, iteration).is_file()]


def find_readable(snapshot_dir):
    """Return the iterations of the complete snapshots up to the newest that can be read; warn of damaged newer ones.

    CheckpointError: there are snapshots, and none can be read.
    """
    found, first = find_snapshots(snapshot_dir), None
    while found and (problem := _problem(snapshot_dir, found[-1])):
        first = first or problem
        found.pop()
        if found:
            logger.warning('%s. Going on from the snapshot before', problem)
    if first and not found:
        raise CheckpointError(f'{first}; no other snapshot in {snapshot_dir} can be read: remove them to start anew')
    return found


def _problem(snapshot_dir, iteration):
    """Return why a snapshot cannot be read, or None."""
    try:
        read_snapshot(snapshot_dir, iteration)
    except CheckpointError as error:
        return error
    return None


def save_snapshot(training, iteration, stopgap=False):
    """Write both files of a snapshot: rank 0 does, all ranks contribute their random states and wait for the files.

    Where rank 0 cannot write it raises OSError, and the other processes exit silently.
    """
    everyones_states, error = distributed.gather_objects(random_states()), None
    if distributed.rank() == 0:
        task, folder = training.task, training.snapshot_dir
        state = {'iteration': iteration, 'optimizer': training.optimizer.state_dict(), 'memory': task.memory(),
                 'random': everyones_states, 'data': training.data, 'stopgap': stopgap}
        content = {name: model.state_dict() for name, model in task.models().items()}
        try:
            write_pth(_state_path(folder, iteration), state)
            write_pth(model_path(folder, iteration), {**content, 'config': configuration.to_dict(training.config)})
        except OSError as caught:
            error = caught
    # If a process exited now, its launcher would stop the one that writes.
    if distributed.gather_objects(error is not None)[0]:
        raise error or SystemExit(2)


def read_snapshot(snapshot_dir, iteration):
    """Return the Snapshot of an iteration; CheckpointError if a file is missing, damaged or not one of a snapshot."""
    path, state_path = model_path(snapshot_dir, iteration), _state_path(snapshot_dir, iteration)
    snapshot = Snapshot(path, read_checkpoint(path), read_checkpoint(state_path))
    if missing := [name for name in _NEEDED if name not in snapshot.state]:
        raise CheckpointError(f'{state_path}: holds no {", ".join(missing)}; {_WAY_OUT}')
    if not isinstance(snapshot.state['random'], list):
        raise CheckpointError(f'{state_path}: its random states are not a list; {_WAY_OUT}')
    return snapshot


def changes(snapshot, training):
    """Return, as texts, what differs and matters; CheckpointError if the snapshot's configuration cannot be read."""
    found, task = [], training.task
    processes = len(snapshot.state['random'])
    if 'config' in snapshot.weights:
        try:
            # Completed with defaults: an older version of the code did not know all keys.
            before = configuration.resolve(snapshot.weights['config'], source=f'{snapshot.path}: its configuration')
        except ConfigError as error:
            raise CheckpointError(f'{error}; {_WAY_OUT}') from None
        then = configuration.effective(before, task.result, processes=processes)
        now = configuration.effective(training.config, task.result, processes=distributed.world_size())
        if task.frozen:
            # What matters of it is compared below, wherever it was loaded from.
            then['network.pretrained'] = now['network.pretrained'] = None
        found = configuration.differences(then, now)
    models = task.models()
    found += [f'{name}: other weights' for name in task.frozen
              if not _equal(tensors(snapshot.weights.get(name), name, snapshot.path), models[name].state_dict())]
    if None not in (training.data, snapshot.state.get('data')) and training.data != snapshot.state['data']:
        found.append('--data_list: another list, or its lines changed')
    if processes != distributed.world_size():
        found.append(f'processes: {processes} -> {distributed.world_size()}')
    return found


def restore_snapshot(snapshot, training):
    """Restore weights, momentum, memory bank and, where there are as many as processes, random states.

    The optimiser's settings (momentum, weight decay) are not restored: those of the configuration count.
    CheckpointError if the snapshot does not fit the configured networks, or is damaged.
    """
    path, state, task, optimizer = snapshot.path, snapshot.state, training.task, training.optimizer
    for name, model in task.models().items():
        load_state(model, tensors(snapshot.weights.get(name), name, path), path)
    try:
        _restore_optimizer(optimizer, state['optimizer'])
    except ValueError:
        raise CheckpointError(f'{path}: its momentum is of other parameter groups; resume with the configuration it '
                              'was trained with (network.frozen_stages)') from None
    except Exception as error:
        raise _damaged(path, 'momentum', error) from None
    try:
        task.load_memory(state['memory'], training.device)
        if len(state['random']) == distributed.world_size():
            restore_random_states(state['random'][distributed.rank()])
    except Exception as error:
        raise _damaged(path, 'memory bank or random state', error) from None


def remove_snapshot(snapshot_dir, iteration):
    """Remove both files of a snapshot, the model's first, so that an interruption leaves no incomplete snapshot."""
    model_path(snapshot_dir, iteration).unlink(missing_ok=True)
    _state_path(snapshot_dir, iteration).unlink(missing_ok=True)


def remove_orphaned_states(snapshot_dir):
    """Remove state files without a model file, left by a kill while a snapshot was written or removed."""
    for path in pathlib.Path(snapshot_dir).glob('model-*.state.pth'):
        if not path.with_name(path.name.replace('.state', '')).exists():
            path.unlink(missing_ok=True)


def _equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key].cpu()) for key, value in one.items())


def _restore_optimizer(optimizer, state):
    settings = [{name: value for name, value in group.items() if name != 'params'} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
        for parameter in group['params']:
            momentum = optimizer.state[parameter].get('momentum_buffer', parameter)
            if momentum.shape != parameter.shape:
                raise TypeError(f'shape {tuple(momentum.shape)} for {tuple(parameter.shape)}')


def _damaged(path, what, error):
    """Return the error for a part that cannot be restored: a damaged or hostile file can fail in any way."""
    return CheckpointError(f'{path}: its {what} cannot be restored ({type(error).__name__}: '
                           f'{first_line(error)[:150]}); {_WAY_OUT}')


def _state_path(snapshot_dir, iteration):
    return pathlib.Path(snapshot_dir) / f'model-{iteration}.state.pth'


class SnapshotKeeper:
    """Snapshots of one Training."""

    def __init__(self, training):
        self.training, self.settings = training, training.config.train
        self.newest = self.stopgap = None
        if self.settings.save_safetensors:
            require_safetensors()  # not found missing at the end
        self.written = time.monotonic()

    def resume(self, iteration, accept_changes):
        """Restore a snapshot; CheckpointError if it does not fit, or differs and `accept_changes` is not set."""
        snapshot = read_snapshot(self.training.snapshot_dir, iteration)
        changed = '; '.join(changes(snapshot, self.training))
        if changed and not accept_changes:
            raise CheckpointError(f'{snapshot.path}: written with other settings ({changed}); resume with those it was '
                                  'written with, or give --accept_changes to continue with the new ones')
        if changed and distributed.rank() == 0:
            logger.warning('resuming %s with other settings: %s', snapshot.path, changed)
        restore_snapshot(snapshot, self.training)
        self.newest, self.stopgap = iteration, iteration if snapshot.state.get('stopgap') is True else None

    def is_due(self):
        """Whether it is time for a stopgap; only rank 0's clock counts."""
        minutes = self.settings.snapshot_minutes
        return minutes > 0 and distributed.rank() == 0 and time.monotonic() - self.written >= 60 * minutes

    def after_step(self, iteration):
        """Write a regular snapshot where one is planned after this iteration."""
        last = iteration + 1 == self.settings.max_iteration
        if last or (iteration + 1) % self.settings.snapshot_step == 0:
            self._write(iteration, stopgap=False)
            keep = self.settings.keep_snapshots
            if keep and distributed.rank() == 0:
                for old in find_snapshots(self.training.snapshot_dir)[:-keep]:
                    remove_snapshot(self.training.snapshot_dir, old)
        if last and self.settings.save_safetensors and distributed.rank() == 0:
            states = {name: model.state_dict() for name, model in self.training.task.models().items()}
            path = model_path(self.training.snapshot_dir, iteration).with_suffix(SAFETENSORS)
            write_safetensors(path, states, configuration.to_dict(self.training.config))

    def save(self, iteration):
        """Write a stopgap of the iteration just finished, unless there is a snapshot of it; return the path.

        None before the first iteration of a training, when there is nothing to save.
        """
        if iteration < self.settings.begin_iteration:
            return None
        if iteration != self.newest:
            self._write(iteration, stopgap=True)
        return model_path(self.training.snapshot_dir, iteration)

    def _write(self, iteration, stopgap):
        save_snapshot(self.training, iteration, stopgap)
        if distributed.rank() == 0 and self.stopgap is not None:
            remove_snapshot(self.training.snapshot_dir, self.stopgap)
        self.newest, self.stopgap = iteration, iteration if stopgap else None
        self.written = time.monotonic()
