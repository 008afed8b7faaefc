"""Mean IoU in which an image counts for a class once per instance of it.

The score of a class is the mean of its per-image IoU, each image weighted by its number of instances of that class.
Many small objects thus count as much as many large ones.
"""
import numpy as np


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
