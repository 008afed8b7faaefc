"""XML annotations of VOC's images: the boxes of VOC itself and the polylines of ScribbleSup."""
import math
import xml.etree.ElementTree as ElementTree

import numpy as np

from spml.config.schema import VOC_CLASS_NAMES
from spml.errors import DataError
from spml.utils.formats import as_float

# Names that other annotations use for VOC's classes.
_SYNONYMS = {'plane': 'aeroplane', 'airplane': 'aeroplane', 'bike': 'bicycle', 'table': 'diningtable',
             'motorcycle': 'motorbike', 'plant': 'pottedplant', 'couch': 'sofa', 'tv': 'tvmonitor',
             'monitor': 'tvmonitor'}


def class_table(aliases=()):
    """Return the dict from a tag, in small letters without blanks or signs, to VOC's class id.

    `aliases` are further pairs (tag, class name). Raises DataError for an unknown class name.
    """
    table = {name: index for index, name in enumerate(VOC_CLASS_NAMES)}
    for tag, name in [*_SYNONYMS.items(), *aliases]:
        if _plain(name) not in table:
            raise DataError(f'--alias {tag}={name}: {name} is not a class; choose one of {", ".join(VOC_CLASS_NAMES)}')
        table[_plain(tag)] = table[_plain(name)]
    return table


def read_scribbles(path, classes):
    """Read the scribbles of an image as ScribbleSup publishes them.

    Each `polygon` below the root is an open polyline with a class (`tag`, looked up in a `class_table`) and `point`
    elements with `X` and `Y`; the background is a class like others.

    Returns a list of (class id, (N, 2) float64 of x, y), in the file's order, and (height, width) or None where the
    file does not say the size. DataError: it is missing, damaged, without any polyline, or has a tag of no class.
    """
    root = _parse(path)
    scribbles = []
    for number, polyline in enumerate(root.findall('polygon'), start=1):
        where = f'{path}: polygon {number}'
        points = [[_number(where, point, *names) for names in (('X', 'x'), ('Y', 'y'))]
                  for point in polyline.findall('point')]
        if not points:
            raise DataError(f'{where} has no points; delete it from the file')
        tag = _text(where, polyline, 'tag')
        if _plain(tag) not in classes:
            raise DataError(f'{where} has the class {tag.strip()!r}, which VOC does not have; say which class it means '
                            'by --alias TAG=CLASS')
        scribbles.append((classes[_plain(tag)], np.array(points)))
    if not scribbles:
        raise DataError(f'{path}: holds no scribble (`polygon` with `tag` and `point`); is it a file of ScribbleSup?')
    return scribbles, _stated_size(path, root)


def read_objects(path):
    """Read what an XML in the form of VOC's `Annotations` says of an image.

    Returns a list of (file and number for messages, class name, (left, top, right, bottom)), the box in pixels from 0
    with right and bottom excluded; the (height, width) that the file states, or None; and the image's file name, or
    None. Nothing is compared with classes or the image. DataError: the file is missing or damaged, or a box does not
    rise.
    """
    root, objects = _parse(path), []
    if root.tag != 'annotation':
        raise DataError(f'{path}: a file of another kind than those of VOC (it begins with {root.tag!r} instead of '
                        "'annotation'); export it in the format of VOC or COCO")
    for number, thing in enumerate(root.findall('object'), start=1):
        where = f'{path}: object {number}'
        box = thing.find('bndbox')
        if box is None:
            raise DataError(f'{where} has no bndbox; use the original file')
        left, top, right, bottom = (_number(where, box, name) for name in ('xmin', 'ymin', 'xmax', 'ymax'))
        if left > right or top > bottom:
            raise DataError(f'{where} has the box {left:g}, {top:g}, {right:g}, {bottom:g}; x and y must rise')
        objects.append((where, _text(where, thing, 'name').strip(), (left - 1, top - 1, right, bottom)))
    return objects, _stated_size(path, root), (root.findtext('filename') or '').strip() or None


def _stated_size(path, root):
    """Return the (height, width) that a file states, or None; tools that do not know it write 0."""
    size = root.find('size')
    if size is None:
        return None
    if not any((size.findtext(name) or '').strip() for name in ('height', 'width')):
        return None
    stated = tuple(int(_number(f'{path}: size', size, name)) for name in ('height', 'width'))
    return stated if any(stated) else None


def _parse(path):
    try:
        # The parser fetches nothing from outside and bounds the growth of entities by itself.
        return ElementTree.parse(path).getroot()  # noqa: S314
    except FileNotFoundError:
        raise DataError(f'{path}: no such file') from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f'{path}: not valid XML ({error}); fetch the file again') from None


def _text(where, element, name):
    text = element.findtext(name)
    if text is None:
        raise DataError(f'{where} has no {name}; use the original file')
    return text


def _number(where, element, *names):
    """Return the number in the child of the first of these names that there is."""
    text = next((text for text in map(element.findtext, names) if text is not None), None)
    value = as_float(text)
    if not math.isfinite(value):
        raise DataError(f'{where} has {names[0]} = {text!r}, which is not a number; use the original file')
    return value


def _plain(text):
    return ''.join(letter for letter in text.lower() if letter.isalnum())
