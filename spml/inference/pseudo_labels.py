"""Scores of pseudo labels, one function per source (METHOD.md, "Pseudo labels"); `spml.inference.sources` lists them.

A source maps an image and what else it takes to a `Prediction` at the original size, at scales and mirrors that are
fixed for it. All take `image`, (H, W, 3) float32, normalised, and networks; some `tags`, (C,) bool, classes that the
image may hold: those present in its weak label, and its tags. Those that walk take `walk_cells`, the most cells of the
grid: networks and walk see an image with more of them scaled down (`walk_size`). `affinity`, `transition` and `walk`
spread scores from pixel to pixel.

Shape letters: C classes, D channels, H x W the image as the walk sees it, G = gh*gw cells of the grid floor(H/8) x
floor(W/8).
"""
import dataclasses
import math

import numpy as np
import torch
import torch.nn.functional as F

from spml.inference.outputs import Prediction
from spml.inference.predictors import cluster_view, cut, predict
from spml.inference.views import bilinear, pyramid, shrink, shrunk_size
from spml.names import WALK_CELLS, WALK_STRIDE
from spml.segsort.retrieval import cluster_prototypes
from spml.segsort.segments import group, nearest_resize

BACKGROUND_EXPONENT = 6
RETRIEVAL_RATIOS = (0.5, 1.0, 1.5, 2.0)
# The smallest maximum by which a tagged class's retrieval probabilities are divided.
RETRIEVAL_FLOOR = 0.15
# Of pixels with labelled segments, that are in memory together.
_PRODUCTS_AT_ONCE = 1 << 26
# Of a class's maximum, by which its scores are divided, see `sources.NORMALISATIONS`.
_POWERS = {'class': 1.0, 'root': 0.5, 'none': 0.0}
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


def grid_size(size):
    """Return the (gh, gw) of the walk's grid on an image of `size`, at least 1 x 1."""
    return max(1, size[0] // WALK_STRIDE), max(1, size[1] // WALK_STRIDE)


def walk_size(size, walk_cells=WALK_CELLS):
    """Return the (h, w) at which networks and walk see an image of `size`; its own unless its grid is too large."""
    pixels = walk_cells * WALK_STRIDE ** 2
    seen = tuple(size)
    while math.prod(grid_size(seen)) > walk_cells:
        # Of an image that is flatter than a cell, a grid of so many pixels has more cells.
        seen, pixels = shrunk_size(size, pixels), pixels // 2
    return seen


@torch.inference_mode()
def cam_random_walk(embedder, image, cams, num_classes, background=True, walk_cells=WALK_CELLS):
    """Spread class activation maps, a dict of float32 maps of the image's size as of `read_cam`, along the affinity.

    Without a background an image without any map stays unlabelled.
    """
    seen = shrink(image, walk_size(image.shape[:2], walk_cells))
    maps = np.zeros((num_classes, *seen.shape[:2]), np.float32)
    for index, cam in cams.items():
        maps[index + int(background)] = shrink(cam, seen.shape[:2])
    if background:
        maps[0] = (1 - maps[1:].max(axis=0)) ** BACKGROUND_EXPONENT
    scores = torch.from_numpy(maps)[None].to(embedder.device)
    if min(seen.shape[:2]) >= WALK_STRIDE:
        # By the factor itself: at a border that 8 does not divide, the grid is cut rather than stretched.
        scores = F.interpolate(scores, scale_factor=1 / WALK_STRIDE, mode='bilinear', align_corners=False,
                               recompute_scale_factor=False)
    else:
        scores = bilinear(scores, grid_size(seen.shape))
    embeddings = (view.unmirror(cut(embedder.embed(embedder.padded(view)), view.size))
                  for view in pyramid(seen, (1.0,), mirrors=True))
    prediction = _walked(scores, embeddings, image)
    return prediction if background else dataclasses.replace(prediction, unlabelled=~prediction.probability.any(axis=0))


@torch.inference_mode()
def softmax_once(embedder, classifier, image, tags, normalise='class', walk_cells=WALK_CELLS):
    """Softmax scores of two scales and their mirrors, spread by one step."""
    seen = shrink(image, walk_size(image.shape[:2], walk_cells))
    embeddings, logits = _views_with_logits(embedder, classifier, seen, (0.75, 1.0))
    scores = torch.stack(logits).mean(dim=0).softmax(dim=1)
    return _walked(_relative(scores, tags, normalise), embeddings, image, steps=1)


@torch.inference_mode()
def softmax_random_walk(embedder, classifier, image, tags, normalise='class', walk_cells=WALK_CELLS):
    """Softmax scores of the image and its mirror, spread by the walk."""
    seen = shrink(image, walk_size(image.shape[:2], walk_cells))
    embeddings, logits = _views_with_logits(embedder, classifier, seen, (1.0,))
    scores = torch.stack([view.softmax(dim=1) for view in logits]).mean(dim=0)
    return _walked(_relative(scores, tags, normalise), embeddings, image)


def retrieval(predictor, image, tags, tagged_only=False, max_pixels=math.inf):
    """Multi-scale retrieval, each class of the weak label relative to its maximum.

    `tagged_only` drops the other classes, as the softmax sources do; background is a class like any other. Pixels at
    which retrieval found no tagged class stay unlabelled: what it found instead cannot be in the image, and from scores
    that are all 0 argmax and CRF would make class 0. Ratios above 1 at which the image has more than `max_pixels` are
    left out.
    """
    # The embedding of a large photo at twice its size would take gigabytes.
    most = math.sqrt(max_pixels / math.prod(image.shape[:2]))
    ratios = [ratio for ratio in RETRIEVAL_RATIOS if ratio <= max(1, most)]
    prediction = predict(image, predictor, 0, ratios=ratios)
    top = np.maximum(prediction.probability.max(axis=(1, 2)), RETRIEVAL_FLOOR)
    divisor = np.where(tags, top, 1).astype(np.float32)
    probability, unlabelled = prediction.probability / divisor[:, None, None], None
    if tagged_only:
        probability *= tags[:, None, None]
        unlabelled = ~probability.any(axis=0)
    return dataclasses.replace(prediction, probability=probability, unlabelled=unlabelled)


@torch.inference_mode()
def densepose_random_walk(embedder, image, label, regions, tags, num_classes, grid, iterations,
                          walk_cells=WALK_CELLS):
    """Propagate point labels to segments by the embedding, then spread them by the walk.

    Args:
        label: (H, W) uint8 weak label; >= C is unlabelled.
        regions: (H, W) uint8 over-segmentation.
        grid: (ky, kx) initial clusters.
    """
    seen = shrink(image, walk_size(image.shape[:2], walk_cells))
    size = seen.shape[:2]
    half = (max(1, size[0] // 2), max(1, size[1] // 2))
    view = next(pyramid(seen, (1.0,), mirrors=False))
    # The padded map is halved before it is cut: its ratio, not the image's, decides where samples fall.
    padded = embedder.embed(embedder.padded(view))
    embedding = cut(bilinear(padded, (padded.shape[-2] // 2, padded.shape[-1] // 2)), half)
    semantic, regions = (nearest_resize(torch.from_numpy(values.astype(np.int64)).to(embedder.device), half)
                         for values in (label, regions))
    frequencies = _propagate(embedding, semantic, regions, num_classes, grid, iterations)
    scores = _relative(bilinear(frequencies[None], grid_size(size)), tags)
    return _walked(scores, [embedding], image)


def _views_with_logits(embedder, classifier, image, ratios):
    """Return raw embeddings and (1, C, gh, gw) logits of each view and its mirror, both mirrored back."""
    embeddings, logits = [], []
    for view in pyramid(image, ratios, mirrors=True):
        embedding, logit = embedder.embed_and_classify(embedder.padded(view), classifier)
        embeddings.append(view.unmirror(cut(embedding, view.size)))
        logits.append(bilinear(view.unmirror(cut(logit, view.size)), grid_size(image.shape)))
    return embeddings, logits


def _relative(scores, tags, normalise='class'):
    """Divide each class of (1, C, gh, gw) scores as NORMALISATIONS says and drop those that the image cannot hold."""
    top = scores.amax(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
    tagged = torch.as_tensor(tags, device=scores.device, dtype=scores.dtype)
    return scores / top ** _POWERS[normalise] * tagged[None, :, None, None]


def _walked(scores, embeddings, image, **steps):
    """Walk (1, C, gh, gw) scores along the affinity of an image's embeddings and resize them to the image."""
    transitions = transition(affinity(embeddings, scores.shape[-2:]))
    walked = walk(scores[0].flatten(1), transitions, **steps).view_as(scores)
    return Prediction(bilinear(walked, image.shape[:2])[0].cpu().numpy(), image, image.shape[:2])


def _propagate(embedding, semantic, regions, num_classes, grid, iterations):
    """Return (C, h, w): class frequencies of each pixel's segment; a pixel has the nearest labelled segment's class."""
    clusters = cluster_view(embedding, semantic.shape, grid, iterations, semantic.shape)
    # Void is unlabelled here: all values from C on are one.
    semantic = semantic.clamp(max=num_classes)
    ids, (_, labels, _) = group(clusters.flatten(), semantic.flatten(), regions.flatten())
    pixels = F.normalize(embedding[0], dim=0).flatten(1).T
    prototypes, _ = cluster_prototypes(pixels, ids)
    frequencies = pixels.new_zeros(len(labels), num_classes)
    labelled = (labels < num_classes).nonzero()[:, 0]
    if len(labelled):
        targets = prototypes[labelled].T
        nearest = [(part @ targets).argmax(dim=1) for part in pixels.split(max(1, _PRODUCTS_AT_ONCE // len(labelled)))]
        classes = labels[labelled][torch.cat(nearest)]
        frequencies.index_put_((ids, classes), torch.ones_like(pixels[:, 0]), accumulate=True)
        frequencies /= torch.bincount(ids, minlength=len(labels))[:, None]
    return frequencies[ids].T.reshape(num_classes, *semantic.shape)


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
