"""Drawing annotators' strokes and dots as label maps.

A pixel is a point at whole coordinates. It takes the class of the nearest stroke whose half width it lies within, so
the result does not depend on the order in which crossing strokes were made.
"""
import numpy as np

from spml.names import UNLABELLED


def middle(path, fraction):
    """Return the middle `fraction` (0..1) of the length of a polyline; 0 gives its middle point, rounded to a pixel.

    Both are float64 of x, y: (N, 2) and (M, 2).
    """
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    first, last = ((1 - fraction) / 2 * along[-1], (1 + fraction) / 2 * along[-1])
    inner = path[(along > first) & (along < last)]
    ends = np.stack([np.interp((first, last), along, column) for column in path.T], 1)
    if fraction == 0:
        return np.rint(ends[:1])
    return np.concatenate([ends[:1], inner, ends[1:]])


def draw(strokes, shape, radius):
    """Draw strokes with round ends on a map of unlabelled pixels, (H, W) uint8.

    Strokes are a list of (class id, (N, 2) float64 of x, y); one point is a dot. What lies outside is left out. Pixels
    as far as the radius, half the width in pixels, belong to the stroke. On ties the earlier stroke wins.
    """
    labels = np.full(shape, UNLABELLED, np.uint8)
    nearest = np.full(shape, np.inf)
    for label, path in strokes:
        for start, end in zip(path[:max(1, len(path) - 1)], path[min(1, len(path) - 1):], strict=True):
            low = np.floor(np.minimum(start, end) - radius).astype(int)
            high = np.ceil(np.maximum(start, end) + radius).astype(int) + 1
            (left, top), (right, bottom) = np.clip(low, 0, shape[::-1]), np.clip(high, 0, shape[::-1])
            y, x = np.arange(top, bottom)[:, None] - start[1], np.arange(left, right) - start[0]
            dx, dy = end - start
            length = dx * dx + dy * dy
            along = np.clip((x * dx + y * dy) / length, 0, 1) if length else 0
            distance = (x - along * dx) ** 2 + (y - along * dy) ** 2
            box = np.s_[top:bottom, left:right]
            wins = (distance <= radius * radius) & (distance < nearest[box])
            labels[box][wins] = label
            nearest[box][wins] = distance[wins]
    return labels
