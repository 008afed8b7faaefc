import pytest

from spml.training.schedule import learning_rate


def warm(base, t, warmup):
    return base * (0.1 * (1 - t / warmup) + t / warmup)


def test_poly_is_the_smaller_of_decay_and_warm_up(rng):
    for _ in range(20):
        base, total = rng.uniform(1e-4, 1), int(rng.integers(2, 500))
        warmup = int(rng.integers(0, total + 50))  # may outlast the training
        for t in range(total):
            expected = base * (1 - t / total) ** 0.9
            if t < warmup:
                expected = min(expected, warm(base, t, warmup))
            assert learning_rate(t, base, 'poly', total, warmup) == pytest.approx(expected, rel=1e-12)


def test_poly_by_hand():
    assert learning_rate(0, 3e-3, 'poly', 30000, 100) == pytest.approx(3e-4)
    assert learning_rate(50, 3e-3, 'poly', 30000, 100) == pytest.approx(1.65e-3)
    assert learning_rate(15000, 3e-3, 'poly', 30000, 100) == pytest.approx(3e-3 * 0.5358867312681466)
    # Near the end of a short training the decay undercuts the warm-up.
    assert learning_rate(90, 1.0, 'poly', 100, 100) == pytest.approx(0.1 ** 0.9)


def test_step_divides_by_ten_from_each_decay_iteration_on():
    expected = {0: 1, 9: 1, 10: 0.1, 11: 0.1, 24: 0.1, 25: 0.01, 99: 0.01}
    for t, factor in expected.items():
        assert learning_rate(t, 0.5, 'step', 100, 0, [10, 25]) == pytest.approx(0.5 * factor)


def test_step_during_warm_up_is_the_warm_up_alone():
    for t in range(40):
        decayed = 0.2 * 0.1 ** ((t >= 10) + (t >= 25))
        expected = warm(0.2, t, 20) if t < 20 else decayed
        assert learning_rate(t, 0.2, 'step', 100, 20, [10, 25]) == pytest.approx(expected)
