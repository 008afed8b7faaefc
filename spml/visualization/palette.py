"""Colours for class ids and for arbitrary ids.

The class colours are PASCAL VOC's, computed from their rule instead of read from a file: the bits of the id, from the
lowest, go in turn to red, green and blue, each of which they fill from its highest bit.
"""
import numpy as np

from spml.names import VOID

VOID_COLOUR = (224, 224, 192)
UNLABELLED_COLOUR = (72, 72, 72)


def voc_colour_map(n=256):
    """Return the first `n` (at most 256) PASCAL VOC colours, (n, 3) uint8 RGB; 0 is black, 255 void's light colour."""
    ids = np.arange(n)
    colours = np.zeros((n, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def class_colours(number, color_map=None):
    """Return the colours of the classes 0..number-1 as tuples (R, G, B): those of `color_map`, or PASCAL VOC's."""
    return [tuple(colour) for colour in (voc_colour_map(number).tolist() if color_map is None else color_map)]


def ids_of_colours(pixels, ids):
    """Return the ids of (H, W, 3) uint8 RGB pixels, by a dict from (R, G, B), as (H, W) int64; -1 where it has none."""
    # One number a pixel: numpy sorts numbers far faster than rows.
    codes, index = np.unique(pixels.astype(np.int64) @ (1 << 16, 1 << 8, 1), return_inverse=True)
    found = [ids.get((code >> 16, code >> 8 & 255, code & 255), -1) for code in codes.tolist()]
    return np.array(found)[index].reshape(pixels.shape[:2])


def legend_entries(names, color_map=None):
    """Return [((R, G, B), name)] of the classes and of what is unlabelled or void."""
    return [*zip(class_colours(len(names), color_map), names, strict=True),
            (UNLABELLED_COLOUR, 'unlabelled'), (VOID_COLOUR, 'void')]


def colourise(label, num_classes=None, color_map=None):
    """Return a label map, (H, W) ints in 0..255, in colours, (H, W, 3) uint8 RGB; 255 is void's light colour.

    With `num_classes`, C, values C..254 are shown as unlabelled, in dark grey. `color_map`, (C, 3) ints in 0..255, has
    the RGB colour of each class (default: PASCAL VOC's).
    """
    colours = voc_colour_map()
    if color_map is not None:
        colours[:len(color_map)] = color_map
    if num_classes is not None:
        colours[num_classes:VOID] = UNLABELLED_COLOUR
    return colours[label]


def colourise_ids(ids):
    """Return a map of ids, such as an over-segmentation or clusters, in colours that tell neighbouring ids apart.

    The colours are random but always the same for an id and repeat every 4096. (H, W) ints, of which negative ones (no
    id) are black, become (H, W, 3) uint8 RGB.
    """
    colours = np.random.default_rng(0).integers(40, 256, (4096, 3), dtype=np.uint8)
    return np.where(ids[..., None] < 0, np.uint8(0), colours[ids % len(colours)])
