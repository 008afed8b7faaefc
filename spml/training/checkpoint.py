"""Snapshots of a training.

`model-<iteration>.pth` holds weights and configuration, `model-<iteration>.state.pth` what a resume needs
besides. The state file is written first, so a snapshot whose model file stands is complete.
"""
import pathlib
import re

import torch

from spml.errors import CheckpointError
from spml.models.weights import load_state, model_path, read_checkpoint, tensors
from spml.utils import distributed
from spml.utils.io import atomic_path


def find_snapshots(snapshot_dir):
    """Return the iterations of the complete snapshots in a folder, ascending."""
    found = (re.fullmatch(r'model-(\d+)\.pth', path.name) for path in pathlib.Path(snapshot_dir).glob('model-*.pth'))
    iterations = sorted(int(match[1]) for match in found if match)
    return [iteration for iteration in iterations if _state_path(snapshot_dir, iteration).is_file()]


def save_snapshot(snapshot_dir, iteration, task, optimizer, config):
    """Write both files of a snapshot (rank 0; every rank hands in its random state).

    Args:
        snapshot_dir: folder.
        iteration: zero-based, the one just finished.
        task: EmbeddingTask or ClassifierTask.
        optimizer: FoldedSGD.
        config: plain dict, the resolved configuration.
    """
    random_states = distributed.gather_objects(_random_state())
    if distributed.rank() != 0:
        return
    state = {'iteration': iteration, 'optimizer': optimizer.state_dict(), 'memory': task.memory(),
             'random': random_states}
    _write(state, _state_path(snapshot_dir, iteration))
    content = {name: model.state_dict() for name, model in task.models().items()}
    _write({**content, 'config': config}, model_path(snapshot_dir, iteration))


def load_snapshot(snapshot_dir, iteration, task, optimizer, device):
    """Restore weights, momentum, memory bank and random states.

    Raises:
        CheckpointError: the files do not fit the configured networks or the number of processes.
    """
    path = model_path(snapshot_dir, iteration)
    content, state = read_checkpoint(path), read_checkpoint(_state_path(snapshot_dir, iteration))
    missing = [name for name in ('optimizer', 'memory', 'random') if name not in state]
    if missing:
        raise CheckpointError(f'{_state_path(snapshot_dir, iteration)}: holds no {", ".join(missing)}; remove this '
                              'snapshot and resume from an older one')
    for name, model in task.models().items():
        load_state(model, tensors(content.get(name), name, path), path)
    try:
        optimizer.load_state_dict(state['optimizer'])
    except ValueError:
        raise CheckpointError(f'{path}: its momentum is of other parameter groups; resume with the configuration it '
                              'was trained with (network.frozen_stages)') from None
    task.load_memory(state['memory'], device)
    if len(state['random']) == distributed.world_size():
        _restore_random_state(state['random'][distributed.rank()])
    else:
        raise CheckpointError(f'{path}: written by {len(state["random"])} processes, resumed by '
                              f'{distributed.world_size()}; use the same number')


def _write(content, path):
    # Through a file object: a full disk is then an OSError, which the command line explains.
    with atomic_path(path) as temporary, open(temporary, 'wb') as out:
        torch.save(content, out)


def _state_path(snapshot_dir, iteration):
    return pathlib.Path(snapshot_dir) / f'model-{iteration}.state.pth'


def _random_state():
    state = {'cpu': torch.get_rng_state()}
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(state):
    torch.set_rng_state(state['cpu'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])
