"""When a training writes snapshots, and which of them it keeps.

Regular snapshots come every `train.snapshot_step` iterations and at the end; the newest `train.keep_snapshots` of them
stay. Between them stopgaps are written: every `train.snapshot_minutes` minutes and when a run is stopped. A stopgap is
there to go on from and is removed once a later snapshot stands.
"""
import logging
import time

from spml import config as configuration
from spml.errors import CheckpointError
from spml.training import checkpoint
from spml.utils import distributed
from spml.utils.model_files import model_path

logger = logging.getLogger(__name__)


class SnapshotKeeper:
    """Snapshots of one training.

    Args:
        snapshot_dir: folder.
        task: EmbeddingTask or ClassifierTask.
        optimizer: FoldedSGD.
        config: the resolved configuration.
        data: text that stands for the training list, or None.
    """

    def __init__(self, snapshot_dir, task, optimizer, config, data=None):
        self.snapshot_dir, self.task, self.optimizer, self.data = snapshot_dir, task, optimizer, data
        self.config, self.settings = config, config.train
        self.newest = self.stopgap = None
        self.written = time.monotonic()

    def resume(self, iteration, device, accept_changes):
        """Restore the snapshot of `iteration`.

        Raises:
            CheckpointError: it does not fit, or was made in another way and `accept_changes` is not set.
        """
        snapshot = checkpoint.read_snapshot(self.snapshot_dir, iteration)
        changed = checkpoint.changes(snapshot, self.config, self.data)
        if changed and not accept_changes:
            raise CheckpointError(f'{snapshot.path}: written with other settings ({"; ".join(changed)}); resume with '
                                  'those it was written with, or give --accept_changes to go on with the new ones')
        if changed and distributed.rank() == 0:
            logger.warning('going on from %s with other settings: %s', snapshot.path, '; '.join(changed))
        checkpoint.restore_snapshot(snapshot, self.task, self.optimizer, device)
        self.newest, self.stopgap = iteration, iteration if snapshot.is_stopgap else None

    def is_due(self):
        """Whether it is time for a stopgap; the clock is rank 0's alone."""
        minutes = self.settings.snapshot_minutes
        return minutes > 0 and distributed.rank() == 0 and time.monotonic() - self.written >= 60 * minutes

    def after_step(self, iteration):
        """Write a regular snapshot where one is planned after this iteration."""
        last = iteration + 1 == self.settings.max_iteration
        if last or (iteration + 1) % self.settings.snapshot_step == 0:
            self._write(iteration, stopgap=False)
            if distributed.rank() == 0:
                self._remove_old()

    def save(self, iteration):
        """Write a stopgap of the iteration just finished, unless its snapshot stands already.

        Args:
            iteration: the last one finished; before the first of a run there is nothing to save.

        Returns:
            The path of the snapshot of that iteration, or None if there is none.
        """
        if iteration < self.settings.begin_iteration:
            return None
        if iteration != self.newest:
            self._write(iteration, stopgap=True)
        return model_path(self.snapshot_dir, iteration)

    def _write(self, iteration, stopgap):
        checkpoint.save_snapshot(self.snapshot_dir, iteration, self.task, self.optimizer,
                                 configuration.to_dict(self.config), self.data, stopgap)
        if distributed.rank() == 0 and self.stopgap is not None:
            checkpoint.remove_snapshot(self.snapshot_dir, self.stopgap)
        self.newest, self.stopgap = iteration, iteration if stopgap else None
        self.written = time.monotonic()

    def _remove_old(self):
        keep = self.settings.keep_snapshots
        if keep:
            for iteration in checkpoint.find_snapshots(self.snapshot_dir)[:-keep]:
                checkpoint.remove_snapshot(self.snapshot_dir, iteration)
