"""Learning-rate schedules in closed form (METHOD.md, "Optimisation")."""


def learning_rate(iteration, base_lr, policy, max_iteration, warmup_iteration=0, decay_iterations=()):
    """Return the base learning rate at a zero-based iteration, t of T.

    Args:
        policy: `poly`, base * (1 - t/T)^0.9, or `step`, base * 0.1^(number of decay_iterations <= t).
        warmup_iteration: Tw; for t < Tw, with a = t/Tw, `poly` takes the smaller of itself and base * (0.1 (1-a) + a),
            and `step` takes the latter.
    """
    a = iteration / warmup_iteration if iteration < warmup_iteration else 1.0
    warm = base_lr * (0.1 * (1 - a) + a)
    if policy == 'poly':
        return min(base_lr * (1 - iteration / max_iteration) ** 0.9, warm)
    if iteration < warmup_iteration:
        return warm
    return base_lr * 0.1 ** sum(decay <= iteration for decay in decay_iterations)
