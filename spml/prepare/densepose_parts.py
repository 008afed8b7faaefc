"""What DensePose-COCO annotates of a person, as label maps of the 15 classes and as points.

An annotation looks at the person's box scaled to 256 x 256: `dp_masks` are the masks of 14 parts there, `dp_x`, `dp_y`
points and `dp_I` the surface each lies on, 1..24: most parts have two (torso front and back, ...).
"""
import math

import numpy as np

from spml.errors import DataError
from spml.names import UNLABELLED, VOID
from spml.prepare import strokes
from spml.prepare.coco_masks import decode_mask

NUM_PARTS = 14
GRID = 256
# The part of each surface 1..24; 0 is none.
PART_OF_SURFACE = (0, 1, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9, 10, 11, 10, 11, 12, 13, 12, 13, 14, 14)


def part_map(size, unannotated, bodies):
    """Return the (H, W) uint8 label map of an image: parts 1..14, 0 elsewhere, 255 on people without parts.

    Args:
        size: (H, W).
        unannotated: list of (where, COCO segmentation) of people whom DensePose did not annotate.
        bodies: list of (where, DensePose annotation). Where parts of several overlap, the later one's are kept.
    """
    labels = np.zeros(size, np.uint8)
    for where, segmentation in unannotated:
        labels[decode_mask(segmentation, size, where)] = VOID
    for where, annotation in bodies:
        left, top, width, height = _box(annotation, where)
        rows = np.arange(max(0, top), min(top + height, size[0]))[:, None]
        columns = np.arange(max(0, left), min(left + width, size[1]))
        if not rows.size or not columns.size:
            raise DataError(f'{where}: the box lies outside the image of {size[1]}x{size[0]} pixels; fetch the file '
                            'again')
        grid = _part_grid(annotation['dp_masks'], where)
        parts = grid[(rows - top) * GRID // height, (columns - left) * GRID // width]
        labels[rows, columns] = np.where(parts > 0, parts, labels[rows, columns])
    return labels


def point_map(labels, bodies, per_part, background, radius, seed):
    """Return the (H, W) uint8 map of some annotated points, each a disc within its part, the rest unlabelled.

    `labels` is what `part_map` returned, of which void stays void, and `bodies` as there. There are `per_part` points
    on each part of each person, fewer where there are fewer, and `background` ones on background in total; a point
    counts only where the part map agrees with it. `radius` is in pixels. Choices depend on the `seed`, a list of ints,
    and on the annotation's id alone.
    """
    dots = []
    for where, annotation in bodies:
        rng = np.random.default_rng([*seed, int(annotation['id'])])
        x, y, parts = _points(annotation, labels.shape, where)
        agreed = labels[y, x] == parts
        for part in range(1, NUM_PARTS + 1):
            # Annotated points of large grids may share a pixel of a small box; they are one then.
            places = np.unique(np.stack([x, y], 1)[agreed & (parts == part)], axis=0)
            dots += [(part, place[None].astype(float)) for place in rng.permutation(places)[:per_part]]
    rows, columns = np.nonzero(labels == 0)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:background]
    dots += [(0, np.array([[columns[index], rows[index]]], float)) for index in chosen]
    drawn = strokes.draw(dots, labels.shape, radius)
    return np.where(labels == VOID, VOID, np.where(drawn == labels, drawn, UNLABELLED)).astype(np.uint8)


def is_annotated(annotation):
    """Return whether DensePose annotated this person's parts."""
    return bool(annotation.get('dp_masks'))


def _part_grid(masks, where):
    """Return the (256, 256) uint8 parts of the masks; [] is a part that cannot be seen."""
    if not isinstance(masks, list) or len(masks) != NUM_PARTS:
        raise DataError(f'{where}: dp_masks must be a list of {NUM_PARTS} masks; fetch the file again')
    grid = np.zeros((GRID, GRID), np.uint8)
    for part, mask in enumerate(masks, start=1):
        if mask:
            grid[decode_mask(mask, (GRID, GRID), f'{where}, dp_masks {part}')] = part
    return grid


def _points(annotation, size, where):
    """Return x and y in pixels and the parts of the annotated points, three (N,) int arrays."""
    left, top, width, height = _box(annotation, where)
    values = [annotation.get(key) for key in ('dp_x', 'dp_y', 'dp_I')]
    good = all(isinstance(value, list) and len(value) == len(values[0]) and all(map(_is_finite, value))
               for value in values)
    x, y, surface = np.array(values, float).reshape(3, -1) if good else np.zeros((3, 1))
    if not good or not ((x >= 0) & (y >= 0) & (x <= GRID) & (y <= GRID) & np.isin(surface, range(1, 25))).all():
        raise DataError(f'{where}: dp_x and dp_y must be lists of numbers in 0..{GRID}, dp_I of surfaces in 1..24, all '
                        'of one length; fetch the file again')
    columns = left + np.minimum(x * width // GRID, width - 1).astype(int)
    rows = top + np.minimum(y * height // GRID, height - 1).astype(int)
    return (columns.clip(0, size[1] - 1), rows.clip(0, size[0] - 1),
            np.array(PART_OF_SURFACE)[surface.astype(int)])


def _box(annotation, where):
    """Return left, top, width and height in whole pixels, as DensePose's own code rounds them."""
    box = annotation.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)) or min(box[2:]) < 0:
        raise DataError(f'{where}: bbox must be [x, y, width, height]; fetch the file again')
    left, top, width, height = map(int, box)
    return left, top, max(1, width), max(1, height)


def _is_finite(value):
    return type(value) in (int, float) and math.isfinite(value)
