"""Weak labels from class activation maps: from image tags alone, or with the boxes of the objects (METHOD.md, "Files").

A CAM dict is `{class - 1: (H, W) float in 0..1}`, as `readers.read_cam` returns it, or `{class: ...}` where class 0 is
not the background (`background=False`, as `dataset.background`). Unlabelled pixels are `UNLABELLED`.
"""
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
    keys, first = sorted(activations), int(background)
    classes = [key + first for key in keys]
    scores = np.stack([activations[key] for key in keys]) if keys else np.zeros((1, *shape), np.float32)
    if background:
        scores = np.concatenate([(1 - scores.max(0))[None] ** power, scores])
    if normalised:
        scores /= np.maximum(scores.sum(0), np.finfo(scores.dtype).tiny)
    labels = np.array([0, *classes] if background or not keys else classes, np.uint8)[scores.argmax(0)]
    labels[scores.max(0) < threshold] = UNLABELLED
    return labels


def box_labels(activations, boxes, shape, threshold=BOX_THRESHOLD, background=True):
    """Label pixels by the CAM of each object's class, normalised to 0..1 within the object's box.

    At least `threshold` is the class (the larger score where boxes overlap), less inside a box is unlabelled, and what
    is outside every box is background, or unlabelled where there is none.

    Args:
        activations: CAM dict. The box of a class without a map is unlabelled.
        boxes: list of (class, (left, top, right, bottom)) in pixels, right and bottom excluded.
        shape: (H, W) of the uint8 labels returned.
        threshold: as above.
    """
    labels = np.full(shape, 0 if background else UNLABELLED, np.uint8)
    best = np.zeros(shape)
    for label, (left, top, right, bottom) in boxes:
        box = np.s_[top:bottom, left:right]
        scores = np.zeros(labels[box].shape)
        if (key := label - int(background)) in activations:
            scores = activations[key][box].astype(np.float64)
            scores = (scores - scores.min()) / max(np.ptp(scores), 1e-6)
        inside = labels[box]
        inside[best[box] < threshold] = UNLABELLED
        wins = (scores >= threshold) & (scores > best[box])
        inside[wins] = label
        best[box] = np.maximum(best[box], scores)
    return labels
