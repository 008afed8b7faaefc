"""Drawing annotators' strokes and dots as label maps.

A pixel is a point at whole coordinates. It takes the class of the nearest stroke whose half width it lies within, so
the result does not depend on the order in which crossing strokes were made.
"""
import numpy as np

from spml.names import UNLABELLED


def middle(path, fraction):
    """Return the middle `fraction` of the length of a polyline; 0 gives its middle point, rounded to a pixel.

    Args:
        path: (N, 2) float64 of x, y.
        fraction: 0..1.

    Returns:
        (M, 2) float64 of x, y.
    """
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    first, last = ((1 - fraction) / 2 * along[-1], (1 + fraction) / 2 * along[-1])
    inner = path[(along > first) & (along < last)]
    ends = np.stack([np.interp((first, last), along, column) for column in path.T], 1)
    if fraction == 0:
        return np.rint(ends[:1])
    return np.concatenate([ends[:1], inner, ends[1:]])


def draw(strokes, shape, radius):
    """Draw strokes with round ends on a map of unlabelled pixels.

    Args:
        strokes: list of (class id, (N, 2) float64 of x, y); one point is a dot. What lies outside is left out.
        shape: (H, W).
        radius: half the width in pixels; pixels as far as this belong to the stroke.

    Returns:
        (H, W) uint8 label map. On ties the earlier stroke wins.
    """
    labels = np.full(shape, UNLABELLED, np.uint8)
    nearest = np.full(shape, np.inf)
    for label, path in strokes:
        for start, end in zip(path[:max(1, len(path) - 1)], path[min(1, len(path) - 1):], strict=True):
            box = _box(start, end, shape, radius)
            distance = _squared_distance(start, end, box)
            wins = (distance <= radius * radius) & (distance < nearest[box])
            labels[box][wins] = label
            nearest[box][wins] = distance[wins]
    return labels


def _box(start, end, shape, radius):
    """Return the slices (rows, columns) of the pixels near the segment between two points x, y."""
    low = np.floor(np.minimum(start, end) - radius).astype(int)
    high = np.ceil(np.maximum(start, end) + radius).astype(int) + 1
    (left, top), (right, bottom) = np.clip(low, 0, shape[::-1]), np.clip(high, 0, shape[::-1])
    return np.s_[top:bottom, left:right]


def _squared_distance(start, end, box):
    """Return the (h, w) float64 squared distances of the pixels of a box to a segment."""
    y, x = np.arange(box[0].start, box[0].stop)[:, None] - start[1], np.arange(box[1].start, box[1].stop) - start[0]
    dx, dy = end - start
    length = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / length, 0, 1) if length else 0
    return (x - along * dx) ** 2 + (y - along * dy) ** 2
