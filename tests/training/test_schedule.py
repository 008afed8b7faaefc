import pytest

from spml.training.optimizer import learning_rate


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


@pytest.mark.parametrize('warmup', [0, 20])
def test_step_divides_by_ten_from_each_decay_iteration_on_once_the_warm_up_is_over(warmup):
    for t in range(40):
        expected = warm(0.2, t, warmup) if t < warmup else 0.2 * 0.1 ** ((t >= 10) + (t >= 25))
        assert learning_rate(t, 0.2, 'step', 100, warmup, [10, 25]) == pytest.approx(expected)
