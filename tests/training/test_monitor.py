"""What a training says of how long it takes."""
import time
import types

import pytest
import torch

from spml.training import monitor
from spml.training.monitor import Monitor, Silence, expectation, extent


@pytest.mark.parametrize(('overrides', 'start', 'processes', 'said'), [
    (['train.total_batch_size=16'], 0, 1, '1 process x 16 images: 4 steps, 64'),
    (['train.total_batch_size=16'], 1, 4, '4 processes x 4 images: 3 steps, 48'),
    (['train.total_batch_size=16'], 0, 3, '3 processes x 5 images = 15 (16 cannot be shared out evenly): 4 steps, 60'),
    (['train.total_batch_size=2'], 0, 8, '8 processes x 1 images = 8 (2 cannot be shared out evenly): 4 steps, 32'),
    ([], 0, 3, '3 processes x 2 images: 4 steps, 24')])
def test_how_much_there_is_to_do(small_config, overrides, start, processes, said):
    assert extent(small_config(*overrides), start, processes) == f'training on {said} images'


@pytest.mark.parametrize(('steps', 'seconds', 'said'), [
    (7, 0.5, 'in 4 s'), (100, 1.2346, 'in 2 min 3 s'), (9000, 1, 'in 2 h 30 min'), (30000, 10, 'in 3 d 11 h')])
def test_when_the_end_is_expected(steps, seconds, said):
    now = 1.8e9
    clock = time.strftime('%Y-%m-%d %H:%M', time.localtime(now + steps * seconds))
    assert expectation(steps, seconds, now) == (
        f'{steps} steps to go, {seconds:.3g} s a step: expected end {clock} ({said})')


def test_ten_steps_after_the_first_are_timed(tmp_path, small_config, monkeypatch, capsys):
    clock = types.SimpleNamespace(now=0.0, time=lambda: 0.0, strftime=time.strftime, localtime=time.localtime)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(monitor, 'time', clock)
    shown = Monitor(tmp_path, 5, small_config('train.max_iteration=40'))
    for step in range(20):
        clock.now += 100 if step == 0 else 2 if step <= 10 else 7
        shown.advance()
        lines = [line for line in capsys.readouterr().out.splitlines() if 'to go' in line]
        # After 11 of the 35 steps.
        assert [line.partition(':')[0] for line in lines] == ['24 steps to go, 2 s a step'] * (step == 10)
    shown.close()


def losses(**values):
    return {f'{name}_loss': torch.tensor(float(value)) for name, value in values.items()}


def test_a_relation_that_is_always_0_is_said_to_say_nothing_once(caplog, monkeypatch):
    monkeypatch.setattr(monitor, 'WATCHED_STEPS', 3)
    silence = Silence(5, 100)
    for iteration in range(5, 20):
        silence.note(iteration, losses(sem_occ=0, img_sim=iteration == 6, softmax=0))
        assert len(caplog.records) == (iteration >= 7)
    message = caplog.records[0].getMessage()
    assert message.startswith('sem_occ_loss has been 0 in every step so far: all images share classes')
    assert 'train.sem_occ_loss_types=none' in message


def test_a_short_training_says_so_at_its_end(caplog):
    silence = Silence(0, 2)
    silence.note(0, losses(sem_ann=0))
    assert not caplog.records
    silence.note(1, losses(sem_ann=0))
    assert 'labelled pixels have one class or none' in caplog.text
