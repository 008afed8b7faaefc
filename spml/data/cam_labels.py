"""Weak labels from class activation maps: from image tags alone, or with the boxes of the objects (METHOD.md, "Files").

A CAM dict is `{class - 1: (H, W) float in 0..1}`, as `readers.read_cam` returns it, or `{class: ...}` where class 0 is
not the background (`background=False`, as `dataset.background`). Unlabelled pixels are `UNLABELLED`.
"""
import pathlib

import numpy as np

from spml.names import UNLABELLED

TAG_THRESHOLD = 0.2
BOX_THRESHOLD = 0.5
BACKGROUND_POWER = 6


def tag_labels(activations, shape, power=BACKGROUND_POWER, threshold=TAG_THRESHOLD, normalised=False, background=True):
    """Label the pixels of a CAM dict by the largest score, that of background being (1 - max)^power: (H, W) uint8.

    Without any class all is background, or unlabelled where there is none. A pixel whose largest score is below the
    threshold is unlabelled; `normalised` divides its scores by their sum first.
    """
    labels, top = tag_scores(activations, shape, power, normalised, background)
    labels[top < threshold] = UNLABELLED
    return labels


def tag_scores(activations, shape, power=BACKGROUND_POWER, normalised=False, background=True):
    """Return the class with the largest score at each pixel, (H, W) uint8, and that score, (H, W); see `tag_labels`."""
    keys, first = sorted(activations), int(background)
    classes = [key + first for key in keys]
    scores = np.stack([activations[key] for key in keys]) if keys else np.zeros((1, *shape), np.float32)
    if background:
        scores = np.concatenate([(1 - scores.max(0))[None] ** power, scores])
    if normalised:
        scores /= np.maximum(scores.sum(0), np.finfo(scores.dtype).tiny)
    return np.array([0, *classes] if background or not keys else classes, np.uint8)[scores.argmax(0)], scores.max(0)


def cam_path(cam_dir, entry):
    """Return where the CAMs of a list entry's image are, if there are any."""
    return pathlib.Path(cam_dir) / f'{entry.name}.npy'


def background_power(threshold):
    """Return the power with which background wins exactly where the largest CAM is below `threshold`, in 0..1.

    (1 - max)^power equals max there. So a power is a background threshold: the usual 6 is one of 0.2219.
    """
    return np.log(threshold) / np.log1p(-threshold)


def box_labels(activations, boxes, shape, threshold=BOX_THRESHOLD, background=True):
    """Label pixels by the CAM of each object's class, normalised to 0..1 within the object's box.

    At least `threshold` is the class (the larger score where boxes overlap), less inside a box is unlabelled, and what
    is outside every box is background, or unlabelled where there is none.

    Args:
        activations: CAM dict. The box of a class without a map is unlabelled.
        boxes: list of (class, (left, top, right, bottom)) in pixels, right and bottom excluded.
        shape: (H, W) of the uint8 labels returned.
        threshold: as above, greater than 0.
    """
    labels, best = box_scores(activations, boxes, shape, background)
    labels[best < threshold] = UNLABELLED
    return labels


def box_scores(activations, boxes, shape, background=True):
    """Return (H, W) uint8, the class of the box that scores best at each pixel, and (H, W) its score; see `box_labels`.

    Outside every box the class is background, or UNLABELLED where there is none, and the score infinite.
    """
    labels = np.full(shape, 0 if background else UNLABELLED, np.uint8)
    best = np.full(shape, np.inf)
    for label, (left, top, right, bottom) in boxes:
        box = np.s_[top:bottom, left:right]
        scores = np.zeros(labels[box].shape)
        if (key := label - int(background)) in activations:
            scores = activations[key][box].astype(np.float64)
            scores = (scores - scores.min()) / max(np.ptp(scores), 1e-6)
        wins = np.isinf(best[box]) | (scores > best[box])
        labels[box][wins] = label
        best[box][wins] = scores[wins]
    return labels, best


class TopScores:
    """The largest scores of the pixels of many images, for what another threshold would leave unlabelled."""

    _STEPS = 1000

    def __init__(self):
        self.pixels, self.images, self._below = 0, 0, np.zeros(self._STEPS + 1, np.int64)

    def add(self, top):
        """Count the pixels of an image, (H, W) scores >= 0."""
        self.pixels, self.images = self.pixels + top.size, self.images + 1
        # Entry k: pixels that a threshold of k / 1000 is the first to leave unlabelled.
        first = np.minimum(np.floor(top.astype(np.float64) * self._STEPS) + 1, self._STEPS + 1).astype(np.int64)
        self._below += np.bincount(first.ravel(), minlength=self._STEPS + 2)[:self._STEPS + 1]

    def share(self, threshold):
        """Return the share of the pixels that a threshold, in thousandths, leaves unlabelled."""
        return self._below[:round(threshold * self._STEPS) + 1].sum() / max(self.pixels, 1)

    def threshold(self, share):
        """Return the smallest threshold, in thousandths, that leaves at least `share` unlabelled; None if none does."""
        enough = np.flatnonzero(self._below.cumsum() >= share * max(self.pixels, 1))
        return enough[0] / self._STEPS if len(enough) else None

    def describe(self, threshold, option='--threshold'):
        """Return the line that says how many pixels are unlabelled, and at which thresholds 10, 20 and 30 % were."""
        others = [(share, self.threshold(share)) for share in (0.1, 0.2, 0.3)]
        text = ', '.join(f'{other:.3f} for {share:.0%}' for share, other in others if other is not None)
        return (f'unlabelled: {100 * self.share(threshold):.1f} % of the pixels of {self.images} images looked at; '
                + (f'{option} {text}' if text else 'no threshold leaves 10 %'))
