"""From class probabilities to label maps and files: argmax or CRF, back to the original size, PNGs.

No torch in here: it runs in CRF workers.
"""
import dataclasses
import pathlib

import numpy as np

from spml.inference.crf import crf_marginals
from spml.names import UNLABELLED
from spml.utils.formats import write_png
from spml.utils.maps import nearest_resize
from spml.visualization.palette import colourise


@dataclasses.dataclass
class Prediction:
    """Class probabilities of one image, ready for argmax or CRF."""

    probability: np.ndarray  # (C, h, w) float32
    image: np.ndarray | None  # (h, w, 3): float32 and normalised, or the uint8 RGB that CRF needs
    size: tuple  # (H, W) of the original image
    clusters: np.ndarray | None = None  # (h, w) int64
    unlabelled: np.ndarray | None = None  # (h, w) bool, pixels that get no class whatever the CRF says


def unlabelled(num_classes, size):
    """Return the Prediction of an image of which nothing is known but its `size`, (H, W)."""
    return Prediction(np.zeros((num_classes, 1, 1), np.float32), None, size, unlabelled=np.ones((1, 1), bool))


@dataclasses.dataclass(frozen=True)
class Finish:
    """How the label maps of a list are made of predictions.

    Pixels whose `confidence`, with CRF that of its marginals, is below the threshold are written as unlabelled (254);
    None labels all.
    """

    crf: object = None  # CrfParameters, or None for a plain argmax
    threshold: float | None = None
    color_map: list | None = None  # (C, 3) ints, the classes' colours (default: PASCAL VOC's)


def denormalise(image, pixel_means, pixel_stds):
    """Return the (H, W, 3) uint8 RGB of a normalised float32 image, truncated as the release does before CRF.

    Truncation turns rounding noise into whole grey levels, to which CRF is sensitive: each operation is carried out in
    float64 and stored as float32, so that the bytes are the release's.
    """
    pixels = np.array(image, np.float32)
    pixels *= np.asarray(pixel_stds, np.float64)
    pixels += np.asarray(pixel_means, np.float64)
    pixels *= 255
    return np.clip(pixels, 0, 255).astype(np.uint8)


def confidence(scores):
    """Return (h, w) float64 in 0..1: the largest of (C, h, w) scores >= 0 as a share of their sum over the classes.

    Walked scores are not probabilities, so they are divided. A pixel without any score has confidence 0.
    """
    total = scores.sum(axis=0, dtype=np.float64)
    return np.divide(scores.max(axis=0), total, out=np.zeros_like(total), where=total > 0)


def finish(prediction, how):
    """Return (H, W) uint8 labels at the original size, and the (C, h, w) scores whose largest they are."""
    scores = prediction.probability
    if how.crf is not None:
        scores = crf_marginals(scores, prediction.image, how.crf)
    label = scores.argmax(axis=0).astype(np.uint8)
    if prediction.unlabelled is not None:
        label[prediction.unlabelled] = UNLABELLED
    if how.threshold is not None:
        label[confidence(scores) < how.threshold] = UNLABELLED
    return nearest_resize(label, prediction.size), scores


def write_label_maps(prediction, how, known, name, save_dir):
    """Finish one image and write `semantic_gray/<name>.png`, `semantic_color/<name>.png` and, if known, its clusters.

    `known` is a (H, W) uint8 label map that is written wherever it is not UNLABELLED, or None. The name is returned for
    whoever waits in another process.
    """
    label, scores = finish(prediction, how)
    if known is not None:
        label = np.where(known == UNLABELLED, label, known)
    save_dir = pathlib.Path(save_dir)
    if prediction.clusters is not None:
        write_png(save_dir / 'semantic_cluster' / f'{name}.png',
                  nearest_resize(prediction.clusters, prediction.size).astype(np.uint16))
    write_png(save_dir / 'semantic_color' / f'{name}.png', colourise(label, len(scores), how.color_map))
    write_png(save_dir / 'semantic_gray' / f'{name}.png', label)
    return name
