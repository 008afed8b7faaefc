import pickle

import pytest
import torch
from torch import nn

from spml.errors import CheckpointError
from spml.training import checkpoint
from spml.training.checkpoint import (
    find_snapshots,
    model_path,
    read_snapshot,
    restore_snapshot,
    save_snapshot,
)
from spml.training.optimizer import FoldedSGD

CPU = torch.device('cpu')


class FakeTask:
    """Two networks and a memory, as the loop's tasks have them."""

    def __init__(self, width=3):
        self.embedding, self.head = nn.Sequential(nn.Conv2d(width, 2, 1), nn.BatchNorm2d(2)), nn.Linear(2, 2)
        self.remembered = []

    def models(self):
        return {'embedding_model': self.embedding, 'prediction_model': self.head}

    def memory(self):
        return self.remembered

    def load_memory(self, state, device):
        self.remembered = [{name: value.to(device) for name, value in step.items()} for step in state]


def trained(task, frozen=False):
    """An optimiser that has made a step, so that it has momentum."""
    task.head.requires_grad_(not frozen)
    parameters = [p for model in task.models().values() for p in model.parameters() if p.requires_grad]
    optimizer = FoldedSGD([{'params': [p], 'lr_factor': 1.0, 'weight_decay': 0.0} for p in parameters], 0.9)
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer.step(0.1)
    return optimizer


def momenta(optimizer):
    return [optimizer.state[p]['momentum_buffer'] for group in optimizer.param_groups for p in group['params']]


def restore(folder, iteration, task, optimizer):
    restore_snapshot(read_snapshot(folder, iteration), task, optimizer, CPU)


def test_a_snapshot_restores_everything(tmp_path):
    task = FakeTask()
    task.remembered = [{'prototype': torch.randn(4, 3), 'semantic': torch.arange(4)}]
    optimizer = trained(task)
    save_snapshot(tmp_path, 7, task, optimizer, {'seed': 3, 'train': {'crop_size': [8, 8]}})
    drawn = torch.rand(5)
    other = FakeTask()
    other_optimizer = trained(other)
    restore(tmp_path, 7, other, other_optimizer)
    assert torch.equal(torch.rand(5), drawn)
    for name, model in task.models().items():
        for key, value in model.state_dict().items():
            assert torch.equal(other.models()[name].state_dict()[key], value), key
    for ours, theirs in zip(momenta(optimizer), momenta(other_optimizer), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(other.remembered[0]['prototype'], task.remembered[0]['prototype'])
    content = torch.load(model_path(tmp_path, 7), weights_only=True)
    assert set(content) == {'embedding_model', 'prediction_model', 'config'}
    assert content['config'] == {'seed': 3, 'train': {'crop_size': [8, 8]}}


def test_files_bear_the_promised_names(tmp_path):
    task = FakeTask()
    save_snapshot(tmp_path / 'new folder', 12, task, trained(task), {})
    assert sorted(p.name for p in (tmp_path / 'new folder').iterdir()) == ['model-12.pth', 'model-12.state.pth']


def test_snapshots_are_found_in_order_and_only_when_complete(tmp_path):
    for name in ('model-9', 'model-10', 'model-100'):
        for ending in ('.pth', '.state.pth'):
            (tmp_path / f'{name}{ending}').touch()
    for name in ('model-11.pth', 'model-12.state.pth', 'model-x.pth', 'model-13.pth.tmp', '.model-14.pth.abc.tmp'):
        (tmp_path / name).touch()
    assert find_snapshots(tmp_path) == [9, 10, 100]
    assert find_snapshots(tmp_path / 'nowhere') == []


def test_a_write_that_fails_half_way_leaves_no_snapshot(tmp_path, monkeypatch):
    task, written = FakeTask(), []
    save = torch.save

    def fail_second(content, path):
        written.append(path)
        save(content, path)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.torch, 'save', fail_second)
    with pytest.raises(KeyboardInterrupt):
        save_snapshot(tmp_path, 3, task, trained(task), {})
    assert find_snapshots(tmp_path) == []
    assert not model_path(tmp_path, 3).exists()


def test_what_does_not_fit_is_refused(tmp_path):
    task = FakeTask()
    save_snapshot(tmp_path, 0, task, trained(task), {})
    wider = FakeTask(width=4)
    with pytest.raises(CheckpointError, match=r'model-0\.pth: does not fit .*0\.weight'):
        restore(tmp_path, 0, wider, trained(wider))
    frozen = FakeTask()
    with pytest.raises(CheckpointError, match=r'model-0\.pth: .*frozen_stages'):
        restore(tmp_path, 0, frozen, trained(frozen, frozen=True))
    with pytest.raises(CheckpointError, match=r'model-1\.pth: no such checkpoint'):
        restore(tmp_path, 1, task, trained(task))


def test_code_in_a_snapshot_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (pathlib_touch, (str(tmp_path / 'ran'),))

    task = FakeTask()
    save_snapshot(tmp_path, 0, task, trained(task), {})
    torch.save({'embedding_model': Hostile()}, model_path(tmp_path, 0), pickle_module=pickle)
    with pytest.raises(CheckpointError, match='not a readable checkpoint'):
        restore(tmp_path, 0, task, trained(task))
    assert not (tmp_path / 'ran').exists()


def pathlib_touch(path):
    """What the hostile snapshot would run."""
    open(path, 'w').close()
