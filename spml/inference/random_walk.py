"""Affinity between pixels and the random walk that spreads scores along it (METHOD.md, "Pseudo labels").

Shape letters: G = gh*gw cells of the grid, C classes, D channels.
"""
import torch
import torch.nn.functional as F

from spml.inference.views import bilinear

AFFINITY_CONCENTRATION = 5.0
AFFINITY_EXPONENT = 20
# Affinities below this share of their column's largest count as 0. To the 20th power they are below 1e-30 of it, which
# no sum of float32 notices; the smallest would be denormal numbers, with which many CPUs compute 100 times as slowly.
_LEAST_SHARE = 10 ** -1.5
# Six squarings of the transition.
WALK_STEPS = 64
# Blocks of columns of a transition, of at least so many.
_BLOCKS = 8
_MIN_COLUMNS = 64


def affinity(embeddings, grid_size):
    """Return (G, G): the mean over views of exp(5 (v.v' - 1)).

    Args:
        embeddings: iterable of (1, D, h, w) raw embeddings, cut and mirrored back; sizes may differ.
        grid_size: (gh, gw), to which they are resized bilinearly before they are unit-normalised.
    """
    total, count = None, 0
    for embedding in embeddings:
        vectors = F.normalize(bilinear(embedding, grid_size)[0].flatten(1), dim=0)
        # Symmetric, so its transpose serves as well; laid out column by column, scores are multiplied by it faster.
        similarity = (vectors.T @ vectors).T.sub_(1).mul_(AFFINITY_CONCENTRATION).exp_()
        total, count = similarity if total is None else total.add_(similarity), count + 1
    return total.div_(count)


def transition(affinities):
    """Return (G, G): the affinities to the 20th power, elementwise, with columns that sum to 1."""
    # Each cell is nearest to itself, so the diagonal holds the largest of each column.
    negligible = affinities < _LEAST_SHARE * affinities.diagonal()
    powered = affinities.clone().masked_fill_(negligible, 0).pow_(AFFINITY_EXPONENT)
    return powered.div_(powered.sum(dim=0, keepdim=True))


def walk(scores, transitions, steps=WALK_STEPS):
    """Return scores T^steps.

    The scores are multiplied step by step: C x G x G operations each, where a squaring of T costs G x G x G. At 21
    classes 64 steps cost a ninth of six squarings on a grid of 47 x 63. Scores are (C, G) float, transitions (G, G).
    """
    if scores.device.type != 'cpu':
        for _ in range(steps):
            scores = scores @ transitions
        return scores
    # A batch of products of equal numbers of columns, the last of which overlap: several threads share out a batch, but
    # hardly a single product of so few rows.
    cells = len(transitions)
    count = max(1, min(_BLOCKS, cells // _MIN_COLUMNS))
    step = cells // count
    blocks = transitions.unfold(1, cells - (count - 1) * step, step).transpose(0, 1)
    for _ in range(steps):
        products = torch.bmm(scores.expand(count, -1, -1), blocks)
        scores = torch.cat([*products[:-1, :, :step], products[-1]], dim=1)
    return scores
