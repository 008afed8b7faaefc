"""Annotations as shapes, of LabelMe and of COCO, as label maps."""
import base64
import binascii
import io
import json
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from spml.data.readers import check_size
from spml.errors import DataError, first_line
from spml.names import UNLABELLED, VOID
from spml.prepare import strokes
from spml.prepare.coco_masks import check_records, decode_mask
from spml.utils.formats import read_json

SAME_PHOTO = ('use the photo that was annotated; if the tool ignored the EXIF orientation, give --orientation '
              'stored')
_LABELME_CLASSES = {'_background_': 0, '__ignore__': VOID}  # by LabelMe's own convention
_STROKES = ('line', 'linestrip', 'point', 'points')
_NUM_POINTS = {'polygon': 3, 'rectangle': 2, 'circle': 2, 'mask': 2, 'line': 2}  # at least; else 1


class ShapeRules(NamedTuple):
    """How shapes become a label map.

    `rest` is the value of what no shape covers, 0 or `UNLABELLED`; `others` that of shapes whose name is not in the
    class list, 0 or `VOID`, or None to refuse them; `width` is in pixels, of lines and points.
    """

    rest: int
    others: int | None
    width: float


def draw_labelme(path, size, classes, rules):
    """Draw the shapes in a JSON of LabelMe, the later over the earlier.

    Polygons, rectangles, circles and masks cover areas, as LabelMe itself fills them; lines and points are strokes.
    `size` is the image's (H, W), that of the uint8 label map returned. DataError: the file is missing, damaged, of
    another image's size, or holds a shape of an unknown class or form; or strokes where the rest is background.
    """
    content = read_json(path, 'export it again')
    shapes = content.get('shapes') if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise DataError(f'{path}: has no list of shapes; is it a file of LabelMe?')
    stated = content.get('imageHeight'), content.get('imageWidth')
    if None not in stated:
        check_size(path, stated, 'the image', size, SAME_PHOTO)
    labels = np.full(size, rules.rest, np.uint8)
    for number, shape in enumerate(shapes):
        where = f'{path}: shape {number}'
        name, kind, points = _check_shape(where, shape, size)
        value = _LABELME_CLASSES.get(name)
        if value is None:
            value = class_value(name, classes, rules, where)
        if kind not in _STROKES:
            labels[_area(where, shape, kind, points, size)] = value
        elif rules.rest == 0:
            raise DataError(f'{where} is a {kind}, which covers no area, but what no shape covers is background here; '
                            'give --rest unlabelled if these are scribbles or points')
        else:
            lines = [(value, point) for point in points[:, None]] if 'point' in kind else [(value, points)]
            drawn = strokes.draw(lines, size, rules.width / 2)
            labels[drawn != UNLABELLED] = value
    return labels


def draw_coco(annotations, size, rules):
    """Draw what `read_coco` returned of an image as an (H, W) uint8 label map, the smaller on top; errors likewise."""
    labels = np.full(size, rules.rest, np.uint8)
    masks = [(value, decode_mask(segmentation, tuple(size), where)) for where, value, segmentation in annotations]
    for value, mask in sorted(masks, key=lambda pair: pair[1].sum(), reverse=True):
        labels[mask] = value
    return labels


def read_coco(path, classes, rules):
    """Read the annotations of a JSON of COCO, whose categories have the names of `classes`.

    Returns a dict from each image's file name to the list of (file and annotation for messages, label value,
    segmentation). DataError: the file is missing, damaged, of another form, or has a category of no class.
    """
    content = read_json(path, 'export it again')
    images = check_records(path, content, 'images', id=int, file_name=str)
    names = {record['id']: record['file_name'] for record in images}
    annotations = check_records(path, content, 'annotations', id=int, image_id=int, category_id=int)
    used = {annotation['category_id'] for annotation in annotations}
    values = {record['id']: class_value(record['name'], classes, rules, f'{path}: category {record["id"]}')
              for record in check_records(path, content, 'categories', id=int, name=str) if record['id'] in used}
    result = {name: [] for name in names.values()}
    for annotation in annotations:
        where = f'{path}: annotation {annotation["id"]}'
        if annotation['image_id'] not in names or annotation['category_id'] not in values:
            raise DataError(f'{where}: is of the image {annotation["image_id"]} and the category '
                            f'{annotation["category_id"]}, one of which the file does not have')
        if not annotation.get('segmentation'):
            raise DataError(f'{where}: has no segmentation; boxes alone are not masks')
        result[names[annotation['image_id']]].append(
            (where, values[annotation['category_id']], annotation['segmentation']))
    return result


def class_value(name, classes, rules, where):
    """Return the label value of a class name; DataError for one that is not in the class list and is refused."""
    value = classes.names.index(name) if name in classes.names else rules.others
    if value is None:
        raise DataError(f'{where}: {name!r} is not in {classes.path}; add it there, or give --others background or '
                        'void')
    return value


def _check_shape(where, shape, size):
    """Return the name, the kind and the points (N, 2) float64 of x, y of a shape of LabelMe."""
    if not isinstance(shape, dict) or not isinstance(shape.get('label'), str):
        raise DataError(f'{where}: has no label; export the file again')
    kind, points = shape.get('shape_type') or 'polygon', shape.get('points')
    if kind not in _NUM_POINTS and kind not in _STROKES:
        raise DataError(f'{where}: a {kind}; known are {", ".join([*_NUM_POINTS, *_STROKES[1:]])}')
    limit = 2 * max(size)
    good = isinstance(points, list) and len(points) >= _NUM_POINTS.get(kind, 1) and all(
        isinstance(point, list) and len(point) == 2 and all(
            type(number) in (int, float) and math.isfinite(number) and abs(number) <= limit for number in point)
        for point in points)
    if not good:
        raise DataError(f'{where}: a {kind} of the points {json.dumps(points)[:80]}; they must be pairs [x, y] near '
                        f'the image, at least {_NUM_POINTS.get(kind, 1)}')
    return shape['label'], kind, np.array(points, np.float64)


def _area(where, shape, kind, points, size):
    if kind == 'mask':
        return _embedded_mask(where, shape, points, size)
    canvas = Image.new('1', size[::-1])
    draw = ImageDraw.Draw(canvas)
    if kind == 'polygon':
        draw.polygon([tuple(point) for point in points], fill=1, outline=1)
    elif kind == 'rectangle':
        draw.rectangle([*points[:2].min(0), *points[:2].max(0)], fill=1, outline=1)
    else:
        radius = math.dist(*points[:2])
        draw.ellipse([*(points[0] - radius), *(points[0] + radius)], fill=1, outline=1)
    return np.array(canvas)


def _embedded_mask(where, shape, points, size):
    """Return the mask of a shape that holds one as a PNG in base64, its corners being the two points."""
    left, top = np.rint(points.min(0)).astype(int)
    mask = np.zeros(size, bool)
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape['mask'], validate=True)), formats=('PNG',)) as image:
            if left < 0 or top < 0 or left + image.width > size[1] or top + image.height > size[0]:
                raise DataError(f'{where}: a mask of {image.width}x{image.height} pixels at x = {left}, y = {top}, '
                                'which leaves the image; export the file again')
            mask[top:top + image.height, left:left + image.width] = np.array(image.convert('L')) > 0
    except (KeyError, TypeError, binascii.Error, OSError, SyntaxError, ValueError) as error:
        raise DataError(f'{where}: no PNG in base64 as its mask ({first_line(error)}); export it again') from None
    return mask
