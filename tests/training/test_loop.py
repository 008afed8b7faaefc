"""The loop alone on a task of one parameter, and whole trainings of a small network that stop and resume."""
import json
import os
import random
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from spml.errors import CheckpointError, DataError, OutputClosedError, ResourceError, SpmlError
from spml.models.files import read_checkpoint
from spml.training import checkpoint, loop
from spml.training.build import train_embedding
from spml.training.loop import InterruptedTrainingError, train
from spml.training.optimizer import FoldedSGD
from spml.training.tasks import Training
from spml.utils.files import atomic_path

CPU = torch.device('cpu')
WEIGHTS = {'sem_ann_loss': 0.5, 'softmax_loss': 2.0}


class TinyTask(nn.Module):
    """One weight w; the losses are slope * w and w^2. `on_forward` maps a call's number to what happens in it."""

    result = 'embedding'
    frozen = ()

    def __init__(self, on_forward=None):
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        self.model.weight.data.fill_(2.0)
        self.on_forward, self.calls, self.seen = on_forward or {}, 0, []

    def forward(self, batch):
        w, slope = self.model.weight.sum(), batch['image'].mean()
        factor = self.on_forward.get(self.calls, lambda: 1.0)()
        self.calls += 1
        extras = {'embedding': torch.rand(1, 4, 2, 2), 'calls': self.calls}
        return {'sem_ann_loss': slope * w * (1.0 if factor is None else factor), 'softmax_loss': w ** 2}, extras

    def after_step(self, extras):
        self.seen.append(extras['calls'])

    def accuracy(self, extras):
        return torch.tensor(0.25)

    def models(self):
        return {'embedding_model': self.model}

    def memory(self):
        return []

    def load_memory(self, state, device):
        pass


def slope_of(iteration):
    return 0.5 + 0.1 * iteration


def run(task, config, folder, resume=False, bad_file_at=None, data=None, accept_changes=False):
    def batches(start):
        for iteration in range(start, config.train.max_iteration):
            if iteration == bad_file_at:
                raise DataError('list.txt:3: broken.png: a damaged PNG; replace the file')
            yield {'image': torch.full((1, 3, 4, 4), slope_of(iteration)), 'name': [f'image_{iteration}'],
                   'semantic_label': torch.zeros(1, 4, 4, dtype=torch.int64)}

    optimizer = FoldedSGD([{'params': list(task.parameters()), 'lr_factor': 1.0, 'weight_decay': 0.0}], 0.9)
    train(Training(task, optimizer, WEIGHTS, batches, config, folder, CPU, data), resume, accept_changes)


def hand_written(steps, config):
    """Return w after each step and the lines that metrics.jsonl should have."""
    w, buffer, path, lines = 2.0, 0.0, [], []
    for t in range(steps):
        lr = config.train.base_lr * (1 - t / config.train.max_iteration) ** 0.9
        if t < 2:
            lr = min(lr, config.train.base_lr * (0.1 + 0.9 * t / 2))
        terms = {'sem_ann_loss': 0.5 * slope_of(t) * w, 'softmax_loss': 2 * w ** 2}
        lines.append({'iteration': t, 'lr': lr, 'loss': sum(terms.values()), 'accuracy': 0.25, **terms})
        buffer = 0.9 * buffer + lr * (0.5 * slope_of(t) + 4 * w)
        w -= buffer
        path.append(w)
    return path, lines


def finish(config, folder):
    """Resume a training; it has to end where an unbroken one does. Return its task."""
    task = TinyTask()
    run(task, config, folder, resume=True)
    assert task.model.weight.item() == pytest.approx(hand_written(6, config)[0][-1], rel=1e-5)
    return task


def stop(iteration, config, folder, number=signal.SIGTERM, **options):
    """Train until a signal in an iteration; return the message."""
    with pytest.raises(InterruptedTrainingError) as caught:
        run(TinyTask({iteration: interrupt(number)}), config, folder, **options)
    return str(caught.value)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def metrics(folder):
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def interrupt(number):
    return lambda: os.kill(os.getpid(), number)


def test_weighted_sum_is_minimised_at_the_scheduled_rate(tmp_path, small_config):
    config, task = small_config('train.max_iteration=6', 'train.base_lr=0.05'), TinyTask()
    run(task, config, tmp_path)
    path, lines = hand_written(6, config)
    assert task.model.weight.item() == pytest.approx(path[-1], rel=1e-5)
    assert task.seen == [1, 2, 3, 4, 5, 6]
    found = metrics(tmp_path)
    assert len(found) == 6
    for ours, theirs in zip(found, lines, strict=True):
        assert set(ours) == set(theirs)
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_lines_and_snapshots_come_at_their_intervals(tmp_path, small_config):
    config = small_config('train.max_iteration=20', 'train.tensorboard_step=7', 'train.snapshot_step=3',
                          'train.keep_snapshots=0')
    run(TinyTask(), config, tmp_path)
    assert [line['iteration'] for line in metrics(tmp_path)] == [0, 7, 14]
    assert {p.name for p in tmp_path.glob('*.pth')} == {
        f'model-{iteration}{ending}' for iteration in (2, 5, 8, 11, 14, 17, 19) for ending in ('.pth', '.state.pth')}


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('what', ['sem_ann_loss', 'the gradient of sem_ann_loss'])
def test_a_loss_or_a_gradient_that_is_not_finite_stops_before_the_weights(tmp_path, small_config, what, value):
    config, task = small_config('train.max_iteration=6', 'train.base_lr=0.05'), TinyTask()
    if what == 'sem_ann_loss':
        task.on_forward[3] = lambda: value
    else:
        task.model.weight.register_hook(lambda grad: grad * (value if task.calls == 4 else 1.0))
    with pytest.raises(SpmlError, match=rf'iteration 3: {what}.* is not finite on images image_3'):
        run(task, config, tmp_path)
    assert task.model.weight.item() == pytest.approx(hand_written(3, config)[0][-1], rel=1e-5)
    assert task.seen == [1, 2, 3]
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_saves_and_says_how_to_go_on(tmp_path, small_config, number):
    config, before = small_config('train.max_iteration=6'), signal.getsignal(number)
    message = stop(2, config, tmp_path, number)
    assert '--resume' in message
    assert str(tmp_path / 'model-2.pth') in message
    assert models(tmp_path) == {2}
    assert signal.getsignal(number) == before
    assert finish(config, tmp_path).calls == 3
    assert [line['iteration'] for line in metrics(tmp_path)] == list(range(6))


def test_a_reader_that_goes_away_ends_the_training_after_saving(tmp_path, small_config, monkeypatch):
    """As `train.py ... | head` does: nothing is printed in between, and the pipe's end is noticed all the same."""
    reading, writing = os.pipe()
    config = small_config('train.max_iteration=6')
    with open(writing, 'w') as out, monkeypatch.context() as patch:
        patch.setattr(sys, 'stdout', out)
        with pytest.raises(OutputClosedError, match=r'nobody reads .*--resume .*model-2\.pth') as caught:
            run(TinyTask({2: lambda: os.close(reading)}), config, tmp_path)
    assert caught.value.exit_status == 141
    assert models(tmp_path) == {2}
    finish(config, tmp_path)


def test_a_request_in_the_last_iteration_lets_the_run_end(tmp_path, small_config):
    run(TinyTask({3: interrupt(signal.SIGTERM)}), small_config(), tmp_path)
    assert (tmp_path / 'model-3.pth').is_file()


def test_a_second_request_acts_at_once(tmp_path, small_config):
    def twice():
        interrupt(signal.SIGINT)()
        interrupt(signal.SIGINT)()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(TinyTask({1: twice}), small_config(), tmp_path)
    assert not list(tmp_path.glob('*.pth'))
    assert signal.getsignal(signal.SIGINT) == before


def models(folder):
    return {int(p.stem.removeprefix('model-')) for p in folder.glob('model-*[0-9].pth')}


def test_old_snapshots_are_kept_to_a_number(tmp_path, small_config):
    config = small_config('train.max_iteration=9', 'train.snapshot_step=2', 'train.keep_snapshots=2')
    run(TinyTask(), config, tmp_path)
    assert models(tmp_path) == {7, 8}
    assert len(list(tmp_path.glob('*.pth'))) == 4


def test_a_stopgap_makes_way_for_the_next_snapshot(tmp_path, small_config):
    config = small_config('train.max_iteration=8', 'train.snapshot_step=3', 'train.keep_snapshots=2')
    stop(3, config, tmp_path)
    assert models(tmp_path) == {2, 3}
    stop(0, config, tmp_path, resume=True)
    assert models(tmp_path) == {2, 4}
    run(TinyTask(), config, tmp_path, resume=True)
    assert models(tmp_path) == {5, 7}


@pytest.mark.parametrize(('minutes', 'expected'), [(1.0, [1, 3, 5]), (3.0, [5]), (0.0, [])])
def test_stopgaps_come_every_so_many_minutes(tmp_path, small_config, monkeypatch, minutes, expected):
    """Each iteration takes half a minute of a clock that is stopped otherwise."""
    clock, seen = types.SimpleNamespace(now=100.0), []
    clock.monotonic = lambda: clock.now

    def half_a_minute():
        clock.now += 30
        seen.append(models(tmp_path))

    monkeypatch.setattr(checkpoint, 'time', clock)
    config = small_config('train.max_iteration=7', f'train.snapshot_minutes={minutes}')
    run(TinyTask(dict.fromkeys(range(7), half_a_minute)), config, tmp_path)
    assert [s for s in dict.fromkeys(map(tuple, seen)) if s] == [(iteration,) for iteration in expected]
    assert models(tmp_path) == {6}


def test_a_file_that_turns_out_bad_costs_only_its_step(tmp_path, small_config):
    config = small_config('train.max_iteration=6')
    with pytest.raises(DataError, match=r'broken\.png: a damaged PNG.*up to iteration 3 is saved; .*--resume'):
        run(TinyTask(), config, tmp_path, bad_file_at=4)
    assert models(tmp_path) == {3}
    finish(config, tmp_path)
    with pytest.raises(DataError, match=r'replace the file$'):
        run(TinyTask(), config, tmp_path / 'first', bad_file_at=0)
    assert models(tmp_path / 'first') == set()


def test_resuming_with_other_settings_says_which_and_refuses_unless_told(tmp_path, small_config, caplog):
    stop(1, small_config('train.max_iteration=6'), tmp_path, data='list 1')
    before = content(tmp_path)
    other = small_config('train.max_iteration=6', 'train.base_lr=0.25', 'train.momentum=0.5')
    with pytest.raises(CheckpointError) as caught:
        run(TinyTask(), other, tmp_path, resume=True, data='list 2')
    for word in (tmp_path / 'model-1.pth', 'train.base_lr: 0.001 -> 0.25', 'train.momentum: 0.9 -> 0.5', '--data_list',
                 '--accept_changes'):
        assert str(word) in str(caught.value)
    assert content(tmp_path) == before
    run(TinyTask(), other, tmp_path, resume=True, data='list 2', accept_changes=True)
    assert models(tmp_path) == {5}
    assert 'train.base_lr: 0.001 -> 0.25' in caplog.text
    assert metrics(tmp_path)[2]['lr'] > 0.1


def test_gradients_are_clipped_to_the_norm_asked_for(tmp_path, small_config):
    """One step of one weight: its gradient is 0.5 * slope + 2 * 2 w, scaled down to the norm where that is larger."""
    for norm in (0.0, 3.0, 100.0):
        task = TinyTask()
        run(task, small_config('train.max_iteration=1', 'train.warmup_iteration=0', f'train.clip_grad_norm={norm}'),
            tmp_path / str(norm))
        grad = 0.5 * slope_of(0) + 8
        moved = 2.0 - 1e-3 * (min(grad, norm) if norm else grad)
        assert task.model.weight.item() == pytest.approx(moved, abs=1e-7)


@pytest.mark.parametrize('key', ['train.batch_size', 'train.total_batch_size'])
def test_exhausted_memory_says_which_setting_to_lower(tmp_path, small_config, key):
    config = small_config('train.snapshot_step=1', f'{key}=2')
    with pytest.raises(ResourceError) as caught:
        run(TinyTask({2: lambda: torch.empty(2 ** 60)}), config, tmp_path)
    message = str(caught.value)
    for word in ('iteration 2', f'{key} (now 2)', 'train.crop_size (now [32, 32])', '--resume'):
        assert word in message
    assert '\n' not in message
    assert models(tmp_path) == {0, 1}


def test_a_fault_of_the_program_stays_one(tmp_path, small_config):
    def fail():
        raise RuntimeError('a bug')

    with pytest.raises(RuntimeError, match='a bug'):
        run(TinyTask({1: fail}), small_config(), tmp_path)


def test_a_launcher_s_echo_of_a_signal_is_no_second_request(monkeypatch):
    """With several processes, a signal comes from the terminal and from the launcher; a later one acts at once."""
    clock = types.SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(loop, 'time', clock)
    monkeypatch.setattr(loop.distributed, 'world_size', lambda: 2)
    with loop.stop_requests() as requests:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert requests.requested
        clock.now = loop.ECHO_SECONDS + 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_a_killed_run_left_is_cleared_away(tmp_path, small_config):
    dead = subprocess.Popen([sys.executable, '-c', ''])
    dead.wait()
    with atomic_path(tmp_path / 'x') as temporary:
        left = temporary.with_name(temporary.name.replace(str(os.getpid()), str(dead.pid)))
        left.touch()
        for name in ('model-7.state.pth', 'other.state.pth'):
            (tmp_path / name).touch()
        run(TinyTask(), small_config(), tmp_path)
        assert temporary.exists()
    assert not left.exists()
    assert not (tmp_path / 'model-7.state.pth').exists()
    assert (tmp_path / 'other.state.pth').exists()


def test_a_run_is_not_overwritten(tmp_path, small_config):
    run(TinyTask(), small_config(), tmp_path)
    kept = content(tmp_path)
    with pytest.raises(CheckpointError, match=r'model-3\.pth: .*--resume'):
        run(TinyTask(), small_config(), tmp_path)
    task = TinyTask()
    run(task, small_config(), tmp_path, resume=True)  # complete: nothing is left to do
    assert task.calls == 0
    assert content(tmp_path) == kept


def test_resume_without_a_run_starts_one(tmp_path, small_config):
    task = TinyTask()
    run(task, small_config('train.begin_iteration=1'), tmp_path, resume=True)
    assert task.calls == 3


def test_resuming_drops_lines_after_the_snapshot_and_a_torn_one(tmp_path, small_config):
    config = small_config('train.max_iteration=6', 'train.snapshot_step=2')
    run(TinyTask(), config, tmp_path)
    for name in ('model-5', 'model-3'):
        (tmp_path / f'{name}.pth').unlink()
    with open(tmp_path / 'metrics.jsonl', 'a') as out:
        out.write('{"iteration": 6, "lo')
    run(TinyTask(), config, tmp_path, resume=True)
    assert [line['iteration'] for line in metrics(tmp_path)] == list(range(6))


@pytest.mark.usefixtures('one_thread')
def test_stopping_and_going_on_equals_one_go(tmp_path, small_config, small_data, monkeypatch, identical):
    """Bit by bit: weights, statistics, momentum, memory bank, random states (the head's dropout) and metrics."""
    config = small_config('train.feat_aff_loss_types=segsort', 'train.feat_aff_concentration=12')
    train_embedding(config, small_data.folder, small_data.list, tmp_path / 'once', CPU)
    rate = loop.learning_rate

    def stop_in_iteration_1(iteration, *args):
        if iteration == 1:
            interrupt(signal.SIGTERM)()
        return rate(iteration, *args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, 'learning_rate', stop_in_iteration_1)
        with pytest.raises(InterruptedTrainingError):
            train_embedding(config, small_data.folder, small_data.list, tmp_path / 'twice', CPU)
    torch.rand(3)  # the random state in between must not matter
    train_embedding(config, small_data.folder, small_data.list, tmp_path / 'twice', CPU, resume=True)
    for name in ('model-3.pth', 'model-3.state.pth'):
        once, twice = (torch.load(tmp_path / folder / name, weights_only=True) for folder in ('once', 'twice'))
        assert identical(once, twice), name
    assert len(once['memory']) == 2
    assert metrics(tmp_path / 'once') == metrics(tmp_path / 'twice')


@pytest.mark.usefixtures('one_thread')
def test_two_runs_are_identical_whatever_the_workers_and_whatever_was_drawn_before(tmp_path, small_config, small_data,
                                                                                   identical):
    contents = []
    for name, workers, seed in (('one', 0, 5), ('two', 2, 5), ('other', 0, 6)):
        config = small_config('train.max_iteration=3', f'num_threads={workers}', f'seed={seed}')
        train_embedding(config, small_data.folder, small_data.list, tmp_path / name, CPU)
        contents.append([torch.load(tmp_path / name / f'model-2{ending}', weights_only=True)
                         for ending in ('.pth', '.state.pth')])
        contents[-1][0].pop('config')
        for draw in (torch.rand, random.randbytes, np.random.rand):
            draw(3)
    assert identical(contents[0], contents[1])
    assert not identical(contents[0][0], contents[2][0])
    assert metrics(tmp_path / 'one') == metrics(tmp_path / 'two')


@pytest.mark.usefixtures('one_thread')
def test_metrics_of_a_training_have_the_promised_keys(tmp_path, small_config, small_data):
    config = small_config('train.max_iteration=1', 'train.img_sim_loss_types=none', 'train.sem_ann_loss_weight=0.3')
    train_embedding(config, small_data.folder, small_data.list, tmp_path / 'run', CPU)
    line, = metrics(tmp_path / 'run')
    assert set(line) == {'iteration', 'lr', 'loss', 'accuracy', 'sem_ann_loss', 'sem_occ_loss', 'softmax_loss'}
    assert line['loss'] == pytest.approx(line['sem_ann_loss'] + line['sem_occ_loss'] + line['softmax_loss'], rel=1e-6)
    # The head's loss has the weight of the semantic annotation; the other relations have their own.
    heavier = small_config('train.max_iteration=1', 'train.img_sim_loss_types=none', 'train.sem_ann_loss_weight=0.6')
    train_embedding(heavier, small_data.folder, small_data.list, tmp_path / 'heavier', CPU)
    other, = metrics(tmp_path / 'heavier')
    for name, ratio in (('sem_ann_loss', 2), ('softmax_loss', 2), ('sem_occ_loss', 1), ('accuracy', 1)):
        assert other[name] == pytest.approx(ratio * line[name], rel=1e-6), name
    saved = torch.load(tmp_path / 'run' / 'model-0.pth', weights_only=True)['config']
    assert saved['train']['sem_ann_loss_weight'] == 0.3


@pytest.mark.parametrize('damaged', ['model-4.pth', 'model-4.state.pth'])
@pytest.mark.parametrize('keep', [0, 0.5])
def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(tmp_path, small_config, caplog, damaged, keep):
    config = small_config('train.max_iteration=6', 'train.snapshot_step=2')
    stop(4, config, tmp_path)
    assert models(tmp_path) == {1, 3, 4}
    whole = (tmp_path / damaged).read_bytes()
    (tmp_path / damaged).write_bytes(whole[:int(keep * len(whole))])
    finish(config, tmp_path)
    told, = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
    assert str(tmp_path / damaged) in told
    assert 'the snapshot before' in told


def test_damaged_snapshots_alone_are_an_error(tmp_path, small_config):
    config = small_config('train.max_iteration=6', 'train.snapshot_step=2')
    stop(4, config, tmp_path)
    for path in tmp_path.glob('*.state.pth'):
        path.write_bytes(b'')
    before = content(tmp_path)
    with pytest.raises(CheckpointError, match=r'model-4\.state\.pth: .*no other snapshot'):
        run(TinyTask(), config, tmp_path, resume=True)
    assert content(tmp_path) == before


def test_the_final_weights_are_written_as_safetensors_on_request(tmp_path, small_config, identical):
    config = small_config('train.max_iteration=3', 'train.snapshot_step=1', 'train.save_safetensors=true')
    task = TinyTask()
    run(task, config, tmp_path)
    path, = tmp_path.glob('*.safetensors')
    assert path.name == 'model-2.safetensors'
    assert identical(read_checkpoint(path), read_checkpoint(tmp_path / 'model-2.pth'))
