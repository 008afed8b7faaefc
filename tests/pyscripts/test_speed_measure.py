import time

import measure as speed
import pytest
import torch
from measure import Bar, Case, Rates, Work, judge, measure, peak_memory, run_in_turn

CPU = torch.device('cpu')
MANY = 24


def copies_case(device, mebibytes):
    """A Case whose fast version holds one copy of its input at a time, and whose direct one holds three."""
    inputs = torch.ones(mebibytes << 18, device=device)

    def three():
        return [inputs + number for number in range(3)]

    return Case('copies', lambda: inputs + 1, three, lambda fast, direct: None)


@pytest.mark.parametrize(('name', 'copies'), [('fast', 1), ('direct', 3)])
def test_peak_memory_is_what_is_held_beyond_the_inputs(name, copies):
    found = peak_memory(copies_case, {'mebibytes': MANY}, {'mebibytes': 1}, name, CPU)
    assert found == pytest.approx(copies * MANY * 2 ** 20, abs=2 ** 21)


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    rates = Rates(operations=100.0, exponentials=10.0, bytes=50.0)
    assert rates.floor(Work(operations=200, exponentials=5, bytes=100)) == pytest.approx(2.5)
    assert rates.floor(Work(operations=200, exponentials=5, bytes=500)) == pytest.approx(10)


@pytest.mark.parametrize(('bar', 'row', 'met'), [
    (None, {}, True), (Bar(2), {'ratio': 2.0}, True), (Bar(2), {'ratio': 1.99}, False),
    (Bar(2, 3), {'ratio': 1.0, 'of_floor': 3.0}, True), (Bar(2, 3), {'ratio': 1.0, 'of_floor': 3.1}, False),
    (Bar(2, 3), {'ratio': 2.0, 'of_floor': 9.0}, True),
    (Bar(2, lighter=8), {'ratio': 2.0, 'memory_ratio': 8.0}, True),
    (Bar(2, lighter=8), {'ratio': 2.0, 'memory_ratio': 7.9}, False),
    (Bar(2, lighter=8), {'ratio': 1.0, 'memory_ratio': 8.0}, False),
    (Bar(2, limit=100), {'ratio': 2.0, 'fast_bytes': 99}, True),
    (Bar(2, limit=100), {'ratio': 2.0, 'fast_bytes': 100}, False)])
def test_bars(bar, row, met):
    assert bar is None or bar.met(row) is met
    assert judge({**row, 'bar': bar, 'difference': None})['met'] is met
    assert judge({**row, 'bar': bar, 'difference': 'other numbers'})['met'] is False


def test_a_bar_says_what_it_asks():
    assert str(Bar(5, 2, 20, 1 << 30)) == '5x faster or within 2x of the floor, 1/20 of the memory, under 1,024 MiB'
    assert str(Bar(1 / 1.15)) == 'at most 1.15x the time'
    assert str(Bar(1.0)) == 'no slower'


def test_functions_run_in_turn_and_the_median_counts(monkeypatch):
    calls, clock = [], [0.0]
    monkeypatch.setattr(speed.time, 'perf_counter', lambda: clock[0])

    def function(name, seconds):
        def run():
            calls.append(name)
            clock[0] += seconds[calls.count(name) - 1]
            return name, calls.count(name)
        return run

    functions = {'a': function('a', [9.0, 1.0, 2.0]), 'b': function('b', [5.0])}
    seconds, results = run_in_turn(functions, {'a': 3, 'b': 1}, CPU)
    assert calls == ['a', 'b', 'a', 'a']
    assert seconds == {'a': 2.0, 'b': 5.0}
    assert results == {'a': ('a', 3), 'b': ('b', 1)}


def test_a_row_holds_what_was_measured_and_tells_differing_results():
    case = Case('sleep', lambda: time.sleep(0.01) or 1, lambda: time.sleep(0.03) or 2,
                lambda fast, direct: f'{fast} is not {direct}', Work(operations=1))
    row = measure(case, Bar(2), Rates(100.0, 1.0, 1.0), CPU, (3, 1))
    assert row['difference'] == '1 is not 2'
    assert row['ratio'] == pytest.approx(row['direct'] / row['fast'])
    assert row['floor'] == pytest.approx(0.01)
    assert row['of_floor'] == pytest.approx(row['fast'] / 0.01)
    assert min(row['fast'] - 0.01, row['direct'] - 0.03) >= 0
