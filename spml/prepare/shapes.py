"""Annotations as label maps: shapes, of LabelMe and of COCO, and the strokes and dots that annotators draw.

Of strokes, a pixel is a point at whole coordinates. It takes the class of the nearest stroke whose half width it lies
within, so the result does not depend on the order in which crossing strokes were made.
"""
import logging
from typing import NamedTuple

import numpy as np

from spml.data.readers import check_size
from spml.errors import DataError
from spml.names import UNLABELLED, VOID
from spml.prepare import labelme
from spml.prepare import notes as noted
from spml.prepare.coco_masks import decode_mask, is_rectangle, read_records
from spml.prepare.photos import SAME_PHOTO

logger = logging.getLogger(__name__)

# What a rectangle of LabelMe is: an area to be filled, or the box around an object. The latter, as an annotation of
# COCO that has a box alone, is then left to `spml.prepare.boxes`.
REFUSED, REGIONS, BOXES = RECTANGLES = ('refuse', 'regions', 'boxes')
_ROUNDING = 1e-9  # pixels


class ShapeRules(NamedTuple):
    """How shapes become a label map.

    `rest` is the value of what no shape covers, 0, `UNLABELLED` or `VOID`; `others` that of shapes whose name is not in
    the class list, 0 or `VOID`, or None to refuse them; `width` is in pixels, of lines and points; `rectangles` is of
    RECTANGLES; without `has_background`, LabelMe's `_background_` is a name as any other.
    """

    rest: int
    others: int | None
    width: float
    rectangles: str = REFUSED
    has_background: bool = True


class CocoImage(NamedTuple):
    """What a file of COCO holds of an image, as JSON can hold it.

    `where` names its record in messages; `size` is the [height, width] that the file states, or None; annotations are
    (place for messages, label value, segmentation).
    """

    where: str
    size: list | None
    annotations: list


def draw_labelme(path, size, classes, rules, notes):
    """Draw the shapes in a JSON of LabelMe, the later over the earlier.

    Polygons, rectangles, circles and masks cover areas, as LabelMe itself fills them; lines and points are strokes.
    `size` is the image's (H, W), that of the uint8 label map returned; `notes` takes what draws nothing. DataError: as
    in `labelme.read_shapes`; or the file holds a shape of an unknown class, strokes where the rest is not unlabelled,
    or rectangles that the rules refuse.
    """
    labels = np.full(size, rules.rest, np.uint8)
    for shape in labelme.read_shapes(path, size, notes):
        if shape.type == 'rectangle' and rules.rectangles != REGIONS:
            if rules.rectangles == BOXES:
                continue
            raise DataError(f'{shape.where} is a rectangle; if it is an area to be filled, give --rectangles regions; '
                            'if it is the box around an object, give the folder as --boxes')
        value = shape_value(shape, classes, rules.others, rules.has_background)
        if shape.type not in labelme.STROKES:
            covered, empty = labelme.area(shape, size)
        elif rules.rest != UNLABELLED:
            raise DataError(f'{shape.where} is a {shape.type}, which covers no area, but what no shape covers is not '
                            'unlabelled here; give --rest unlabelled if these are scribbles or points')
        else:
            lines = [shape.points] if shape.type.startswith('line') else shape.points[:, None]
            covered = draw_strokes([(value, line) for line in lines], size, rules.width / 2) != UNLABELLED
            empty = '' if covered.any() else f'a {shape.type} outside the image'
        labels[covered] = value
        if empty:
            notes.append((noted.NOTHING, f'{shape.where}, {empty}'))
    return labels


def draw_coco(image, size, rules, notes):
    """Draw a `CocoImage` as an (H, W) uint8 label map, the smaller annotations on top; errors and notes likewise."""
    if image.size is not None:
        check_size(image.where, image.size, 'the image', size, SAME_PHOTO)
    labels, smallest = np.full(size, rules.rest, np.uint8), np.full(size, np.iinfo(np.int32).max, np.int32)
    for where, value, segmentation in image.annotations:
        mask = decode_mask(segmentation, tuple(size), where)
        pixels = int(mask.sum())
        # One at a time, for a photo may have hundreds; of equal ones the later is on top.
        wins = mask & (pixels <= smallest)
        labels[wins], smallest[wins] = value, pixels
        if image.size is None and isinstance(segmentation, list):
            labelme.note_outside(where, np.reshape(np.hstack(segmentation), (-1, 2)), size, notes)
        short = [polygon for polygon in segmentation if isinstance(polygon, list) and len(polygon) < 6] if (
            isinstance(segmentation, list)) else []
        if short or not pixels:
            notes.append((noted.NOTHING, f'{where}, a polygon of {len(short[0]) // 2} points' if short else
                          f'{where}, which covers no pixel of the image'))
    return labels


def read_coco(path, classes, rules):
    """Read the annotations of a JSON of COCO, whose categories have the names of `classes`.

    Returns a dict from each image's file name to its `CocoImage`. DataError: the file is missing, damaged, of another
    form, or has a category of no class.
    """
    result = {}
    for image in read_records(path):
        annotations = []
        for where, category, annotation in image.annotations:
            if not annotation.get('segmentation'):
                if rules.rectangles == BOXES and rules.rest == UNLABELLED:
                    continue
                raise DataError(f'{where}: has no segmentation; boxes alone are not masks: give the file as --boxes, '
                                'with --rest unlabelled if it is --coco, too')
            value = class_value(category.name, classes, rules.others, category.where)
            annotations.append((where, value, annotation['segmentation']))
        result[image.file_name] = CocoImage(image.where, image.size, annotations)
    drawn = [segmentation for image in result.values() for _, _, segmentation in image.annotations]
    if drawn and all(map(is_rectangle, drawn)):
        logger.warning('WARNING: %s: all %d segmentations are upright rectangles, and are filled; if they are boxes '
                       'around objects, as some tools write them, give the file as --boxes', path, len(drawn))
    return result


def shape_value(shape, classes, others, has_background=True):
    """Return the label value of a `labelme.Shape`; DataError as in `class_value`."""
    if shape.label == labelme.IGNORED:
        return VOID
    if shape.label == labelme.BACKGROUND and has_background:
        return 0
    return class_value(shape.label, classes, others, shape.where)


def class_value(name, classes, others, where):
    """Return the label value of a class name; DataError for one that is not in the class list, if `others` is None."""
    value = classes.find(name)
    value = others if value is None else value
    if value is None:
        raise DataError(f'{where}: {name!r} is not in {classes.path}; add it there, or give --others background or '
                        'void')
    return value


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


def draw_strokes(strokes, shape, radius):
    """Draw strokes with round ends on a map of unlabelled pixels, (H, W) uint8.

    Strokes are a list of (class id, (N, 2) float64 of x, y); one point is a dot. What lies outside is left out. Pixels
    as far as the radius, half the width in pixels, belong to the stroke, and of a dot at least the nearest. On ties the
    earlier stroke wins.
    """
    labels = np.full(shape, UNLABELLED, np.uint8)
    nearest = np.full(shape, np.inf)
    for label, path in strokes:
        reach = max(radius, float(np.hypot(*(path[0] - np.rint(path[0])))) + _ROUNDING) if len(path) == 1 else radius
        for start, end in zip(path[:max(1, len(path) - 1)], path[min(1, len(path) - 1):], strict=True):
            low = np.floor(np.minimum(start, end) - reach).astype(int)
            high = np.ceil(np.maximum(start, end) + reach).astype(int) + 1
            (left, top), (right, bottom) = np.clip(low, 0, shape[::-1]), np.clip(high, 0, shape[::-1])
            y, x = np.arange(top, bottom)[:, None] - start[1], np.arange(left, right) - start[0]
            dx, dy = end - start
            length = dx * dx + dy * dy
            along = np.clip((x * dx + y * dy) / length, 0, 1) if length else 0
            distance = (x - along * dx) ** 2 + (y - along * dy) ** 2
            box = np.s_[top:bottom, left:right]
            wins = (distance <= reach * reach) & (distance < nearest[box])
            labels[box][wins] = label
            nearest[box][wins] = distance[wins]
    return labels
