import errno
import random

import numpy as np
import pytest
import torch
from torch import nn

from spml import config as configuration
from spml.errors import CheckpointError
from spml.training import checkpoint
from spml.training.checkpoint import (
    changes,
    find_snapshots,
    read_snapshot,
    restore_snapshot,
    save_snapshot,
)
from spml.training.optimizer import FoldedSGD
from spml.training.tasks import Training
from spml.utils.files import model_path

CPU = torch.device('cpu')


class FakeTask:
    """Two networks and a memory, as the loop's tasks have them."""

    result = 'embedding'
    frozen = ()

    def __init__(self, width=3):
        self.embedding, self.head = nn.Sequential(nn.Conv2d(width, 2, 1), nn.BatchNorm2d(2)), nn.Linear(2, 2)
        self.remembered = []

    def models(self):
        return {'embedding_model': self.embedding, 'prediction_model': self.head}

    def memory(self):
        return self.remembered

    def load_memory(self, state, device):
        self.remembered = [{name: value.to(device) for name, value in step.items()} for step in state]


def optimizer_of(task, frozen=False):
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


def trained(folder, task=None, config=None, data=None, frozen=False):
    """A Training that has made a step."""
    task = task or FakeTask()
    return Training(task, optimizer_of(task, frozen), {}, iter, config or {}, folder, CPU, data)


def restore(iteration, training):
    restore_snapshot(read_snapshot(training.snapshot_dir, iteration), training)


def draw():
    """Draw from each global source of random numbers; normal variates come in pairs, of which one is kept back."""
    return (torch.rand(5).tolist(), [random.random(), random.gauss(0, 1)],
            np.random.rand(2).tolist() + np.random.randn(1).tolist())  # noqa: NPY002


def test_a_snapshot_restores_everything(tmp_path, identical):
    folder = tmp_path / 'new folder'
    training = trained(folder, config={'seed': 3, 'train': {'crop_size': [8, 8]}})
    training.task.remembered = [{'prototype': torch.randn(4, 3), 'semantic': torch.arange(4)}]
    save_snapshot(training, 7)
    drawn = draw()
    other = trained(folder)
    restore(7, other)
    assert draw() == drawn
    for name, model in training.task.models().items():
        assert identical(other.task.models()[name].state_dict(), model.state_dict()), name
    assert identical(momenta(training.optimizer), momenta(other.optimizer))
    assert identical(other.task.remembered, training.task.remembered)
    assert sorted(p.name for p in folder.iterdir()) == ['model-7.pth', 'model-7.state.pth']
    content = torch.load(model_path(folder, 7), weights_only=True)
    assert set(content) == {'embedding_model', 'prediction_model', 'config'}
    assert content['config'] == {'seed': 3, 'train': {'crop_size': [8, 8]}}


def test_snapshots_are_found_in_order_and_only_when_complete(tmp_path):
    for name in ('model-9', 'model-10', 'model-100'):
        for ending in ('.pth', '.state.pth'):
            (tmp_path / f'{name}{ending}').touch()
    for name in ('model-11.pth', 'model-12.state.pth', 'model-x.pth', 'model-13.pth.tmp', '.model-14.pth.abc.tmp'):
        (tmp_path / name).touch()
    assert find_snapshots(tmp_path) == [9, 10, 100]
    assert find_snapshots(tmp_path / 'nowhere') == []


def test_a_write_that_fails_half_way_leaves_no_snapshot(tmp_path, monkeypatch):
    written = []
    save = torch.save

    def fail_second(content, path):
        written.append(path)
        save(content, path)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.torch, 'save', fail_second)
    with pytest.raises(KeyboardInterrupt):
        save_snapshot(trained(tmp_path), 3)
    assert find_snapshots(tmp_path) == []
    assert not model_path(tmp_path, 3).exists()


def test_what_does_not_fit_is_refused(tmp_path):
    save_snapshot(trained(tmp_path), 0)
    with pytest.raises(CheckpointError, match=r'model-0\.pth: does not fit .*0\.weight'):
        restore(0, trained(tmp_path, FakeTask(width=4)))
    with pytest.raises(CheckpointError, match=r'model-0\.pth: .*frozen_stages'):
        restore(0, trained(tmp_path, frozen=True))


@pytest.mark.parametrize('damage', [
    {'optimizer': 3}, {'optimizer': {'state': {}, 'param_groups': 7}}, {'optimizer': {}}, {'memory': [3]},
    {'memory': 7}, {'random': [{}]}, {'random': [None]}, {'random': [{'cpu': torch.zeros(3)}]}, {'random': 5},
    {'random': [{'cpu': torch.get_rng_state(), 'python': 'x'}]}, 'a momentum of another shape',
])
def test_a_damaged_state_is_refused_in_one_line(tmp_path, damage):
    training = trained(tmp_path)
    save_snapshot(training, 2)
    path = tmp_path / 'model-2.state.pth'
    state = torch.load(path, weights_only=True)
    if isinstance(damage, dict):
        state |= damage
    else:
        state['optimizer']['state'][0]['momentum_buffer'] = torch.zeros(1)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r'model-2.*remove this snapshot') as caught:
        restore(2, training)
    assert '\n' not in str(caught.value)


def test_the_optimiser_s_settings_are_this_run_s_and_not_the_snapshot_s(tmp_path):
    save_snapshot(trained(tmp_path), 0)
    other = trained(tmp_path)
    for group in other.optimizer.param_groups:
        group.update(momentum=0.5, weight_decay=0.1, lr_factor=3.0)
    restore(0, other)
    for group in other.optimizer.param_groups:
        assert (group['momentum'], group['weight_decay'], group['lr_factor']) == (0.5, 0.1, 3.0)


def changes_from(folder, config, data=None, task=None):
    return changes(read_snapshot(folder, 0), trained(folder, task, config, data))


def test_changes_are_named_key_by_key(tmp_path, small_config):
    config = small_config()
    save_snapshot(trained(tmp_path, config=config, data='list 1'), 0)
    assert changes_from(tmp_path, config, 'list 1') == []
    assert changes_from(tmp_path, config) == []
    other = small_config('train.base_lr=0.5', 'network.frozen_stages=[stem]', 'seed=6')
    assert changes_from(tmp_path, other, 'list 1') == [
        'seed: 5 -> 6', "network.frozen_stages: [] -> ['stem']", 'train.base_lr: 0.001 -> 0.5']
    found, = changes_from(tmp_path, config, 'list 2')
    assert '--data_list' in found


def test_what_the_result_does_not_depend_on_may_change(tmp_path, small_config):
    save_snapshot(trained(tmp_path, config=small_config()), 0)
    assert changes_from(tmp_path, small_config(
        'num_threads=3', 'gpus=1', 'train.snapshot_step=1', 'train.keep_snapshots=2', 'train.snapshot_minutes=1',
        'train.tensorboard_step=7', 'train.resume=true', 'test.image_size=9', 'dataset.class_names=x,y,z')) == []


def test_a_snapshot_of_an_older_version_has_the_defaults_of_keys_it_does_not_know(tmp_path, small_config):
    config = configuration.to_dict(small_config())
    del config['train']['clip_grad_norm']
    save_snapshot(trained(tmp_path, config=config), 0)
    assert changes_from(tmp_path, small_config()) == []
    assert changes_from(tmp_path, small_config('train.clip_grad_norm=2')) == ['train.clip_grad_norm: 0.0 -> 2.0']


@pytest.mark.parametrize('config', [3, [1], {'train': {'base_lrr': 1}}, {'train': {'base_lr': [torch.zeros(2)]}}])
def test_an_unreadable_configuration_is_refused_in_one_line(tmp_path, small_config, config):
    save_snapshot(trained(tmp_path, config=config), 0)
    with pytest.raises(CheckpointError, match=r'model-0\.pth: its configuration') as caught:
        changes_from(tmp_path, small_config())
    assert '\n' not in str(caught.value)


def test_a_snapshot_of_the_version_before_holds_the_images_of_each_process(tmp_path, small_config):
    """They were written over `train.batch_size`; only `total_batch_size` is the user's."""
    before = configuration.to_dict(small_config('train.total_batch_size=6'))
    before['train']['batch_size'] = 6
    save_snapshot(trained(tmp_path, config=before), 0)
    assert changes_from(tmp_path, small_config('train.total_batch_size=6')) == []
    assert changes_from(tmp_path, small_config('train.batch_size=6')) == []
    assert changes_from(tmp_path, small_config('train.total_batch_size=5')) == ['train.batch_size: 6 -> 5']


def test_of_a_frozen_embedding_the_weights_count_and_not_their_place(tmp_path, small_config):
    def classifier(path=''):
        return small_config('network.prediction_types=softmax_classifier', f'network.pretrained={path}')

    task = FakeTask()
    task.result, task.frozen = 'classifier', ('embedding_model',)
    task.embedding.requires_grad_(False)
    save_snapshot(trained(tmp_path, task, classifier('a/model-9.pth')), 0)
    assert changes_from(tmp_path, classifier(), task=task) == []
    task.embedding[0].weight.data[0] += 1
    assert changes_from(tmp_path, classifier('a/model-9.pth'), task=task) == ['embedding_model: other weights']


def test_another_number_of_processes_is_a_change_after_which_random_states_start_anew(tmp_path, small_config,
                                                                                       monkeypatch):
    training = trained(tmp_path, config=small_config())
    monkeypatch.setattr(checkpoint.distributed, 'gather_objects', lambda value: [value, value])
    save_snapshot(training, 0)
    drawn = draw()
    assert changes_from(tmp_path, small_config()) == ['processes: 2 -> 1']
    torch.manual_seed(1)
    restore(0, training)
    assert draw() != drawn


def test_a_disk_that_fills_up_in_the_middle_is_an_oserror_that_names_the_file(tmp_path, file_size_limit):
    """As a quota on the size of files: the first large write fails, in torch's own writer."""
    training = trained(tmp_path)
    save_snapshot(training, 0)
    kept = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    training.task.remembered = [{'prototype': torch.zeros(100000)}]
    with file_size_limit(100000), pytest.raises(OSError) as caught:
        save_snapshot(training, 1)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / 'model-1.state.pth'))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == kept
