"""JSON files of LabelMe: their shapes, checked, and the areas that they cover."""
import base64
import binascii
import math
import pathlib
import reprlib
import unicodedata
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from spml.data.decoding import opened_image
from spml.data.readers import check_size
from spml.errors import DataError, first_line
from spml.prepare import notes as noted
from spml.prepare.coco_masks import SHARES, are_shares
from spml.prepare.photos import SAME_PHOTO
from spml.utils.formats import as_int, read_json

BACKGROUND, IGNORED = '_background_', '__ignore__'  # labels that are not classes, by LabelMe's own convention
STROKES = ('line', 'linestrip', 'point', 'points')
# The numbers of points that each type of shape may have, at least and at most. Corners: of a rectangle, which some
# tools write as two that are opposite, others as all four.
_CORNERS = (2, 5)
_NUM_POINTS = {'polygon': (3, math.inf), 'rectangle': _CORNERS, 'circle': (2, 2), 'mask': _CORNERS,
               'line': (2, math.inf), 'linestrip': (1, math.inf), 'point': (1, math.inf), 'points': (1, math.inf)}
_WAY_OUT = 'export it again'
_SLACK = 1  # pixels
_SAME_CORNER = 0.5  # pixels by which points may differ that mean one corner


class Shape(NamedTuple):
    """A shape: its file and number, for messages; its label and type; its points and its record in the file.

    The points are (N, 2) float64 of x, y; those of rectangles and masks are two corners, the upper left one first.
    """

    where: str
    label: str
    type: str
    points: np.ndarray
    record: dict


def shape_types(path):
    """Return the set of the types of shapes in a JSON of LabelMe; DataError: the file is missing or damaged."""
    return {_type(shape) for shape in _shapes(path, read_json(path, _WAY_OUT))}


def with_types(found, types, empty=False):
    """Return what of `found`, a dict to things with a JSON of LabelMe as `content`, has shapes of these types.

    With `empty` also what has no shape at all. What cannot be read stays, for its reader to refuse.
    """
    def is_kept(thing):
        try:
            there = shape_types(thing.content)
        except DataError:
            return True
        return bool(there & types) or (empty and not there)

    return {name: thing for name, thing in found.items() if is_kept(thing)}


def read_shapes(path, size, notes):
    """Return the list of `Shape`s in a JSON of LabelMe of an image of `size` (H, W).

    `notes` takes what is odd (`spml.prepare.notes`). DataError: the file is missing, damaged, of another image's size,
    or holds a shape without a label, of an unknown type, or of a number of points that its type cannot have.
    """
    content = read_json(path, _WAY_OUT)
    shapes = _shapes(path, content)
    # A file may state one of the two alone.
    stated = [content.get(field) for field in ('imageHeight', 'imageWidth')]
    stated = [own if value is None else as_int(value) or value for own, value in zip(size, stated, strict=True)]
    check_size(path, stated, 'the image', size, SAME_PHOTO)
    named = content.get('imagePath')
    note_renamed(path, named if isinstance(named, str) else None, notes)
    shapes = [_check_shape(f'{path}: shape {number}', shape, size) for number, shape in enumerate(shapes)]
    if are_shares([number for shape in shapes for number in shape.points.ravel().tolist()], size):
        raise DataError(f'{path}: {SHARES}')
    if shapes and content.get('imageHeight') is content.get('imageWidth') is None:
        note_outside(str(path), np.concatenate([shape.points for shape in shapes]), size, notes)
    return shapes


def note_outside(where, points, size, notes):
    """Note that points (N, 2), of a file without a stated size, leave their image of (H, W) by more than tools round.

    Where the size is stated and right, who draws over the edge means it.
    """
    if (points < -_SLACK).any() or (points > np.array(size[::-1]) + _SLACK).any():
        (left, top), (right, bottom) = points.min(0), points.max(0)
        notes.append((noted.OUTSIDE, (f'{where}, from x = {left:g}, y = {top:g} to x = {right:g}, y = {bottom:g} in an '
                                      f'image of {size[1]}x{size[0]} pixels')))


def area(shape, size):
    """Return the (H, W) bool area of a shape that is none of `STROKES`, and why it is empty, or ''.

    It is filled as by LabelMe itself. DataError: the mask in its record is damaged, of another size than its corners
    state, or leaves the image.
    """
    if shape.type == 'mask':
        mask = _embedded_mask(shape, size)
        return mask, '' if mask.any() else 'a mask without any pixel'
    canvas = Image.new('1', size[::-1])
    draw, points = ImageDraw.Draw(canvas), shape.points
    if (shape.type == 'polygon' and np.linalg.matrix_rank(points - points[0]) < 2) or (
            shape.type != 'polygon' and not (points[1] - points[0]).any()) or (
            shape.type == 'rectangle' and not (points[1] - points[0]).all()):
        return np.array(canvas), f'a {shape.type} of zero area'
    if shape.type == 'polygon':
        draw.polygon([tuple(point) for point in points], fill=1, outline=1)
    elif shape.type == 'rectangle':
        draw.rectangle([*points[0], *points[1]], fill=1, outline=1)
    else:
        radius = math.dist(*points)
        draw.ellipse([*(points[0] - radius), *(points[0] + radius)], fill=1, outline=1)
    covered = np.array(canvas)
    return covered, '' if covered.any() else f'a {shape.type} outside the image'


def note_renamed(path, named, notes):
    """Note that a file names another image, or None, than that which it is called like, whatever system wrote it."""
    stems = [unicodedata.normalize('NFC', pathlib.PureWindowsPath(str(one)).stem)  # which takes / for \ too
             for one in (path, named or path)]
    if stems[0] != stems[1]:
        notes.append((noted.RENAMED, f'{path}: {named}'))


def _shapes(path, content):
    shapes = content.get('shapes') if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DataError(f'{path}: has no list of shapes, so it is not a file of LabelMe; export it as that, or as COCO '
                        'for --coco')
    for number, shape in enumerate(shapes):
        if not isinstance(_type(shape), str) or _type(shape) not in _NUM_POINTS:
            raise DataError(f'{path}: shape {number}: the type {reprlib.repr(_type(shape))}; known are '
                            f'{", ".join(_NUM_POINTS)}')
    return shapes


def _type(shape):
    return shape.get('shape_type') or 'polygon'


def _check_shape(where, shape, size):
    if not isinstance(shape.get('label'), str):
        raise DataError(f'{where}: has no label; export the file again')
    form, points = _type(shape), shape.get('points')
    limit = 2 * max(size)
    good = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(
            type(number) in (int, float) and abs(number) <= limit for number in point)
        for point in points)
    if not good:
        raise DataError(f'{where}: a {form} of the points {reprlib.repr(points)}; they must be pairs [x, y] near '
                        'the image')
    low, high = _NUM_POINTS[form]
    if not low <= len(points) <= high:
        number = f'at least {low}' if high == math.inf else f'{low}' if low == high else f'{low} or 4'
        raise DataError(f'{where}: a {form} of {len(points)} points; it must have {number}: export the file again')
    points = np.array(points, np.float64)
    if (low, high) == _CORNERS:
        points = _opposite_corners(where, form, points)
    return Shape(where, shape['label'], form, points, shape)


def _opposite_corners(where, form, points):
    """Return the upper left and the lower right corner (2, 2) of the upright rectangle whose corners the points are."""
    corners = np.stack([points.min(0), points.max(0)])
    if (abs(points - corners[:, None]).min(0) > _SAME_CORNER).any():
        raise DataError(f'{where}: a {form} of {len(points)} points that are not the corners of an upright rectangle; '
                        'make it a polygon')
    return corners


def _embedded_mask(shape, size):
    """Return the mask of a shape that holds one as a PNG in base64, its corners being the two points."""
    where, (left, top), (right, bottom) = shape.where, *np.rint(shape.points).astype(int)
    mask = np.zeros(size, bool)
    try:
        content = base64.b64decode(shape.record['mask'], validate=True)
        with opened_image(f'{where}: its mask', content, ('PNG',), 'PNG in base64') as image:
            if image.mode not in ('1', 'L'):  # what is transparent would count, or a palette's colours
                raise DataError(f'{where}: a mask of mode {image.mode}; it must be grey or of one bit: export the '
                                'file again')
            # The last pixel may be counted in or not.
            if image.width - (right - left) not in (0, 1) or image.height - (bottom - top) not in (0, 1):
                raise DataError(f'{where}: a mask of {image.width}x{image.height} pixels between x = {left}, y = {top} '
                                f'and x = {right}, y = {bottom}; export the file again')
            if left < 0 or top < 0 or left + image.width > size[1] or top + image.height > size[0]:
                raise DataError(f'{where}: a mask of {image.width}x{image.height} pixels at x = {left}, y = {top}, '
                                'which leaves the image; export the file again')
            mask[top:top + image.height, left:left + image.width] = np.array(image.convert('L')) > 0
    except (KeyError, TypeError, binascii.Error, OSError, SyntaxError, ValueError) as error:
        raise DataError(f'{where}: no PNG in base64 as its mask ({first_line(error)}); export it again') from None
    return mask
