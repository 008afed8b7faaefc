"""Numbers on a run's segments (the clusters of inference) and on their prototypes, and a plane to look at the latter.

Large runs are sampled evenly: the figures say how many images and prototypes they are of.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from spml.data.readers import read_label, read_prototypes
from spml.errors import DataError
from spml.utils.maps import evenly

MAX_IMAGES = 200
MAX_PROTOTYPES = 2000


class PrototypeStatistics(NamedTuple):
    """What was counted over N sampled prototypes of D channels from a folder's images."""

    num_images: int  # that were looked at
    of_images: int  # all there are
    num_prototypes: int  # of the images looked at
    dimension: int  # D
    per_image: tuple  # (smallest, mean, largest) number of prototypes of an image
    pixels: tuple | None  # (tenth percentile, median, ninetieth) of a segment's pixels; None without cluster maps
    purity: float | None  # share of pixels whose true class is the most frequent of their segment; None without truth
    classes: list  # what `class_figures` returns
    plane: np.ndarray  # (N, 2) float, the first two principal components
    labels: np.ndarray  # (N,) their class ids
    explained: tuple  # the share of the variance along each of the two


def prototype_statistics(folder, truths, num_classes):
    """Return the PrototypeStatistics of a folder that prototype.py wrote, or None where it holds no prototypes.

    `truths` is a dict from an image's name to the path of its truth; prototypes of labels of `num_classes` and above
    are left out of the classes and of the plane.
    """
    paths = sorted((folder / 'semantic_prototype').glob('*.npz'))
    if not paths:
        return None
    chosen = [paths[index] for index in evenly(len(paths), MAX_IMAGES)]
    pairs = [read_prototypes(path) for path in chosen]
    counts = [len(labels) for _, labels in pairs]
    vectors, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    images = np.repeat(np.arange(len(pairs)), counts)
    kept = np.flatnonzero(labels < num_classes)
    kept = kept[evenly(len(kept), MAX_PROTOTYPES)]
    plane, explained = principal_plane(vectors[kept])
    pixels, purity = _segment_figures(folder / 'semantic_cluster', [path.stem for path in chosen], truths, num_classes)
    return PrototypeStatistics(
        len(chosen), len(paths), len(labels), vectors.shape[1], (min(counts), float(np.mean(counts)), max(counts)),
        pixels, purity, class_figures(vectors[kept], labels[kept], images[kept]), plane, labels[kept], explained)


def principal_plane(vectors):
    """Project (N, D) vectors on their first two principal components.

    Returns (N, 2) float64, each axis turned so that its largest weight is positive; and the two shares of the variance.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64) if len(vectors) else vectors
    if len(vectors) < 2 or not centred.any():
        return np.zeros((len(vectors), 2)), (0.0, 0.0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.pad(axes[:2], ((0, max(0, 2 - len(axes))), (0, 0)))
    axes *= np.where(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1) < 0, -1, 1)
    energy = np.pad(singular ** 2, (0, 2))
    return centred @ axes.T, tuple((energy[:2] / energy.sum()).tolist())


def class_figures(vectors, labels, images):
    """Return a list of (class id, count, mean cosine to the class's mean, share of nearest ones of its class).

    `vectors` are (N, D) float unit vectors, `labels` and `images` (N,) their class ids and their images; the nearest
    prototype is sought in other images.
    """
    similarity = vectors @ vectors.T
    similarity[images[:, None] == images[None]] = -np.inf
    agrees = labels[similarity.argmax(axis=1)] == labels if len(labels) else labels
    figures = []
    for index in np.unique(labels):
        own = labels == index
        mean = vectors[own].mean(axis=0)
        cosine = vectors[own] @ (mean / max(np.linalg.norm(mean), 1e-12))
        figures.append((int(index), int(own.sum()), float(cosine.mean()), float(agrees[own].mean())))
    return figures


def _segment_figures(folder, names, truths, num_classes):
    """Return the percentiles of segments' sizes and their purity; None for what cannot be known."""
    sizes, pure, total = [], 0, 0
    for name in names:
        path = folder / f'{name}.png'
        if not path.is_file():
            continue
        clusters = _read_clusters(path)
        sizes.append(np.unique(clusters, return_counts=True)[1])
        if name in truths:
            truth = read_label(truths[name])
            if truth.shape != clusters.shape:
                raise DataError(f'{truths[name]}: not of the size of {path}')
            scored = truth < num_classes
            _, ids = np.unique(clusters[scored], return_inverse=True)
            cells = np.bincount(ids.ravel() * num_classes + truth[scored])
            cells = np.pad(cells, (0, -len(cells) % num_classes)).reshape(-1, num_classes)
            pure, total = pure + int(cells.max(axis=1, initial=0).sum()), total + int(scored.sum())
    pixels = tuple(np.percentile(np.concatenate(sizes), (10, 50, 90)).tolist()) if sizes else None
    return pixels, pure / total if total else None


def _read_clusters(path):
    try:
        with Image.open(path) as image:
            return np.asarray(image).astype(np.int64)
    except (OSError, SyntaxError, ValueError):
        raise DataError(f'{path}: not a readable cluster map; write it again with prototype.py') from None
