"""Intersection over union and pixel accuracy from one confusion matrix of the whole data set.

A matrix has a row for each of the C true classes and C + 1 columns: the predicted classes and, last, everything that is
predicted but not a class. That column keeps such pixels as misses of their true class without making them anybody's
false positives. Matrices of images are added; every score is a function of the sum.

By instance, an image counts for a class once per instance of it: the score of a class is the mean of its per-image IoU,
each image weighted by its number of instances of that class, so that many small objects count as much as large ones.
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


def instances_per_class(instance, truth, num_classes, background=True):
    """Count the instances of each class in one image.

    Every id is an instance, 0 and 255 too. Its class is the most frequent true class among its pixels (the smallest on
    ties); pixels whose truth is >= C do not vote. An instance with nothing but such pixels is of class 0, the
    background; where there is none (`background` is false), it does not count.

    From `instance`, the ids, and `truth`, both (H, W) ints >= 0, to (C,) int64; ValueError if the shapes differ.
    """
    if instance.shape != truth.shape:
        raise ValueError(f'instances of shape {instance.shape} against truth of shape {truth.shape}')
    ids, index = np.unique(instance, return_inverse=True)
    voting = truth < num_classes
    # numpy 2.0 shapes the inverse like the input, others flatten it.
    cells = index.reshape(truth.shape)[voting] * num_classes + truth[voting].astype(np.int64)
    votes = np.bincount(cells, minlength=len(ids) * num_classes).reshape(len(ids), num_classes)
    if not background:
        votes = votes[votes.any(axis=1)]
    return np.bincount(votes.argmax(axis=1), minlength=num_classes)


def iou_by_instance(image_iou, counts):
    """Average (N, C) IoU of N images' classes (0 where the union is empty), weighed by their (N, C) instances.

    Returns (C,) float64 in 0..1; a class without an instance anywhere scores 0.
    """
    return (image_iou * counts).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
