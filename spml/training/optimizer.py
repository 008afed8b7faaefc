"""SGD with the learning rate in the momentum buffer, its parameter groups, schedules (METHOD.md, "Optimisation").

    buf = momentum * buf + lr * group * (grad + weight_decay * p);   p -= buf

A change of the learning rate thus acts on new gradients only, not on the momentum gathered at the old rate:
torch.optim.SGD cannot express that.
"""
import torch

BIAS_FACTOR = 2.0
HEAD_FACTOR = 10.0


class FoldedSGD(torch.optim.Optimizer):
    """The optimiser above, of parameter groups with `params`, `lr_factor` and `weight_decay`; momentum in [0, 1)."""

    def __init__(self, groups, momentum):
        super().__init__(groups, {'momentum': momentum, 'lr_factor': 1.0, 'weight_decay': 0.0})

    @torch.no_grad()
    def step(self, lr):
        """Update every parameter that has a gradient, at base learning rate `lr`."""
        for group in self.param_groups:
            params = [p for p in group['params'] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p]['momentum_buffer'] = torch.zeros_like(p)
            buffers = [self.state[p]['momentum_buffer'] for p in params]
            grads = [p.grad for p in params]
            if group['weight_decay']:
                grads = torch._foreach_add(grads, params, alpha=group['weight_decay'])
            torch._foreach_mul_(buffers, group['momentum'])
            torch._foreach_add_(buffers, grads, alpha=lr * group['lr_factor'])
            torch._foreach_sub_(params, buffers)


def clip_gradients(optimizer, max_norm):
    """Return the Euclidean norm of all gradients together; scale them down to `max_norm`, unless 0, if it is larger."""
    grads = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    if max_norm > 0:
        torch._foreach_mul_(grads, (max_norm / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1))
    return norm


def freeze_stages(backbone, frozen_stages):
    """Turn off gradients of the named stages (`stem`, `res2` ... `res5`); their batch norms still gather statistics."""
    for stage, module in backbone.stages().items():
        module.requires_grad_(stage not in frozen_stages)


def parameter_groups(backbone, heads, weight_decay):
    """Return groups of what learns: weights x1 and biases x2 (no decay) of the backbone, x10 and x20 of the heads."""
    groups = []
    for factor, modules in ((1.0, [backbone] if backbone is not None else []), (HEAD_FACTOR, heads)):
        named = [pair for module in modules for pair in module.named_parameters() if pair[1].requires_grad]
        for is_bias, lr_factor, decay in ((False, factor, weight_decay), (True, BIAS_FACTOR * factor, 0.0)):
            params = [parameter for name, parameter in named if name.endswith('bias') == is_bias]
            groups.append({'params': params, 'lr_factor': lr_factor, 'weight_decay': decay})
    return [group for group in groups if group['params']]


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
