"""What a training says of how long it takes."""
import time
import types

import pytest

from spml.training import monitor
from spml.training.monitor import Monitor, expectation, extent


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
