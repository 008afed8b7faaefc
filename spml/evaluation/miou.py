"""Intersection over union and pixel accuracy from one confusion matrix of the whole data set.

A matrix has a row for each of the C true classes and C + 1 columns: the predicted classes and, last, everything that is
predicted but not a class. That column keeps such pixels as misses of their true class without making them anybody's
false positives. Matrices of images are added; every score is a function of the sum.
"""
import numpy as np


def confusion(pred, truth, num_classes):
    """Count the pixels of one image by true class and prediction, both (H, W) ints >= 0.

    Returns (C, C + 1) int64: entry (t, p) counts the pixels of class t predicted as p, those predicted >= C, as no
    class, in column C. Where the truth is >= C (unlabelled, void), a pixel is left out. ValueError: the shapes differ.
    """
    if pred.shape != truth.shape:
        raise ValueError(f'prediction of shape {pred.shape} against truth of shape {truth.shape}')
    scored = truth < num_classes
    columns = num_classes + 1
    cells = truth[scored].astype(np.int64) * columns + np.minimum(pred[scored].astype(np.int64), num_classes)
    return np.bincount(cells, minlength=num_classes * columns).reshape(num_classes, columns)


def unions(matrix):
    """Return, for each class, the pixels that are it or are predicted as it: (C,) int64."""
    classes = matrix[:, :-1]
    return matrix.sum(axis=1) + classes.sum(axis=0) - np.diagonal(classes)


def iou_from_confusion(matrix):
    """Return the IoU of each class in 0..1, (C,) float64; a class whose union is empty scores 0 and stays in means."""
    return np.diagonal(matrix) / np.maximum(unions(matrix), 1)


def pixel_accuracy(matrix):
    """Return correct pixels over pixels predicted as a class, a float in 0..1 (0 without any)."""
    classes = matrix[:, :-1]
    return float(np.trace(classes) / max(classes.sum(), 1))
