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


def no_tags(data_list, first):
    """Return what is wrong with a list in which no image has a tag; tags are classes from `first` on."""
    return (f'{data_list}: no image has a tag, neither a class in its label map nor one in the fourth field '
            f'(`image - regions 1,15`){" (0 is background, no tag)" if first else ""}; give the list that has the tags')


def describe_tags(counts, num_images, names):
    """Return in one or two lines how many images have each tag, from (K,) ints and the K names, and which none has."""
    absent = [name for name, count in zip(names, counts, strict=True) if not count]
    text = f'{num_images} images with {counts.sum()} tags of {np.count_nonzero(counts)} classes'
    return f'{text}\nno image has the tag {", ".join(absent)}: no map will be learned of that' if absent else text
