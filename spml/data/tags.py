"""What the tags of a list's images say together: how many pairs of images share a class."""
import numpy as np

from spml.data.lists import located
from spml.data.readers import entry_tags, read_label
from spml.names import UNLABELLED

_NOT_LABELLED = np.full((1, 1), UNLABELLED, np.uint8)


def read_tags(entries):
    """Return (N, 256) bool, the tags of N list entries; DataError, with the list's `FILE:LINE`, for a bad label."""
    rows = []
    for entry in entries:
        with located(entry):
            rows.append(entry_tags(entry, _NOT_LABELLED if entry.semantic is None else read_label(entry.semantic)))
    return np.array(rows)


def sharing_pairs(tags):
    """Return which share, in 0..1, of the pairs of N images have a tag in common, from (N, T) bool; 0 without pairs."""
    sets, counts = np.unique(tags, axis=0, return_counts=True)
    # Products of 0/1 rows count common members exactly in float32.
    meets = sets.astype(np.float32) @ sets.T.astype(np.float32) > 0
    with_itself = (counts * meets.diagonal()).sum()
    ordered = counts @ meets @ counts - with_itself
    return float(ordered / max(1, len(tags) * (len(tags) - 1)))
