"""What is done to (H, W) maps of labels, regions or clusters, and to indices, with nothing but numpy."""
import numpy as np


def nearest_resize(values, size):
    """Resize an (h, w, ...) array to `size` = (height, width) by nearest, floor(i * in / out) in exact integers."""
    rows, columns = (np.arange(out) * old // out for out, old in zip(size, values.shape[:2], strict=True))
    return values[rows[:, None], columns]


def boundary(labels):
    """Return (H, W) bool: the pixels of (H, W) ints that have another value above, below, left or right of them."""
    result = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        before, after = ([slice(None)] * axis + [cut] for cut in (slice(None, -1), slice(1, None)))
        differs = labels[tuple(after)] != labels[tuple(before)]
        result[tuple(before)] |= differs
        result[tuple(after)] |= differs
    return result


def tags_of(label, number=256):
    """Return (number,) bool: which of the values 0..number-1 occur in an (H, W) uint8 label map."""
    return np.bincount(label.ravel(), minlength=256)[:number] > 0


def evenly(count, most):
    """Return at most `most` indices below `count`, evenly spaced, ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count else np.arange(0)
