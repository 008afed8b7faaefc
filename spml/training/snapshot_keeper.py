"""When a training writes snapshots, and which of them it keeps.

Regular snapshots come every `train.snapshot_step` iterations and at the end; the newest `train.keep_snapshots` of them
are kept. Between them stopgaps are written: every `train.snapshot_minutes` minutes and when a training is stopped. A
stopgap only serves to resume and is removed once there is a later snapshot.
"""
import logging
import time

from spml import config as configuration
from spml.errors import CheckpointError
from spml.models.files import SAFETENSORS, require_safetensors, write_safetensors
from spml.training import checkpoint
from spml.utils import distributed
from spml.utils.model_files import model_path

logger = logging.getLogger(__name__)


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
        snapshot = checkpoint.read_snapshot(self.training.snapshot_dir, iteration)
        changed = '; '.join(checkpoint.changes(snapshot, self.training))
        if changed and not accept_changes:
            raise CheckpointError(f'{snapshot.path}: written with other settings ({changed}); resume with those it was '
                                  'written with, or give --accept_changes to continue with the new ones')
        if changed and distributed.rank() == 0:
            logger.warning('resuming %s with other settings: %s', snapshot.path, changed)
        checkpoint.restore_snapshot(snapshot, self.training)
        self.newest, self.stopgap = iteration, iteration if snapshot.is_stopgap else None

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
                for old in checkpoint.find_snapshots(self.training.snapshot_dir)[:-keep]:
                    checkpoint.remove_snapshot(self.training.snapshot_dir, old)
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
        checkpoint.save_snapshot(self.training, iteration, stopgap)
        if distributed.rank() == 0 and self.stopgap is not None:
            checkpoint.remove_snapshot(self.training.snapshot_dir, self.stopgap)
        self.newest, self.stopgap = iteration, iteration if stopgap else None
        self.written = time.monotonic()
