"""Looking at some of many things instead of at all."""
import numpy as np


def evenly(count, most):
    """Return at most `most` indices below `count`, evenly spaced, ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count else np.arange(0)
