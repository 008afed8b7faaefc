"""Boxes around objects, as annotation tools write them, in one form.

LabelMe's rectangles (.json), VOC's XML and YOLO's text (.txt) are a file an image in a folder; COCO's `bbox`es are one
file. A box is (label value, (left, top, right, bottom)) in whole pixels from 0, right and bottom excluded.
"""
import logging
import math
import os
import pathlib
import re
import reprlib
from typing import NamedTuple

import yaml

from spml.data.readers import check_size
from spml.errors import DataError, first_line
from spml.prepare import labelme, voc_xml
from spml.prepare import notes as noted
from spml.prepare.coco_masks import SHARES, are_shares, read_records
from spml.prepare.photos import SAME_PHOTO
from spml.prepare.shapes import class_value, shape_value
from spml.program import check_name
from spml.utils.formats import as_float, as_int, read_json, read_lines

logger = logging.getLogger(__name__)

FORMATS = {'.json': 'labelme', '.xml': 'voc', '.txt': 'yolo'}  # of files in a folder, by their ending
_YOLO_NAMES = ('classes.txt', 'obj.names', 'data.yaml')  # what tools call the list of YOLO's classes
_FAR = 1e9  # pixels
_ROUNDED = 1e-4  # by which a share may leave 0..1, as sums of rounded numbers do
_SLACK = 1  # pixels by which a box may leave its image unreported: tools round differently


class Boxes(NamedTuple):
    """The boxes of an image as they are given: their format, and a file or, for COCO and YOLO, what JSON can hold."""

    format: str
    content: object


def find_boxes(path, classes, has_background=True):
    """Return a dict from the file name of each image, with any ending, to its `Boxes`.

    YOLO's numbers are looked up in a list of classes beside its files or in the folder above (`classes.txt`,
    `obj.names` or `data.yaml`, the last also one further up) other than the class list; without one, they count its
    classes, without the background, from 0.

    `path` is a JSON of COCO, or a folder of files of one of the other formats; `has_background` says whether the first
    class of the ClassList is the background. DataError: the file or the folder is missing or damaged, or the folder
    holds several formats.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        records = read_records(path)
        _check_corners(path, records)
        return {image.file_name: Boxes('coco', [image.where, image.size, [
            [where, category.name, category.where, record.get('bbox')] for where, category, record in
            image.annotations]]) for image in records}
    files = {}
    for file in sorted(path.iterdir()):
        ending = file.suffix.lower()
        if ending in FORMATS and file.name not in _YOLO_NAMES and not file.name.startswith('.'):
            files.setdefault(ending, []).append(check_name(file))
    if len(files) > 1:
        raise DataError(f'{path}: holds {" and ".join(sorted(files))} files; give a folder with boxes of one format')
    ending, found = next(iter(files.items()), ('', []))
    if FORMATS.get(ending) == 'yolo':
        names, fields = _yolo_names(path, classes, has_background), _yolo_fields(path)
        return {file.name: Boxes('yolo', [str(file), names, _yolo_rows(file, fields)]) for file in found}
    return {file.name: Boxes(FORMATS[ending], file) for file in found}


def are_complete(path):
    """Return whether all objects of an image have a box, as long as a file by prepare_custom.py does not deny it."""
    content = {} if pathlib.Path(path).is_dir() else read_json(path, 'export it again')
    info = content.get('info') if isinstance(content, dict) else None  # what is not COCO's is refused by its reader
    return not isinstance(info, dict) or info.get('complete') is not False


def read_boxes(boxes, size, classes, others, notes, has_background=True):
    """Return the list of the boxes of an image of `size` (H, W), in the order in which they are given.

    What a box says of the image is checked; one that reaches out of the image is cut, one that covers no pixel left
    out, and both are noted. Boxes that the class list has no class for are refused, left out or void, as `others` is
    None, 0 or `VOID`; those of the background are left out. `notes` is a list that takes what is odd, see
    `spml.prepare.notes`. DataError: a file is damaged, of another image's size, or has a box of an unknown class or of
    impossible numbers.
    """
    found = []
    for where, value, corners in _READERS[boxes.format](boxes.content, size, classes, others, notes, has_background):
        left, top, right, bottom = (round(number) for number in corners)
        inside = max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            notes.append((noted.NOTHING, f'{where}, a box of no pixel of the image'))
            continue
        if max(abs(one - other) for one, other in zip(inside, corners, strict=True)) > _SLACK:
            place = f'from x = {left}, y = {top} to x = {right}, y = {bottom}'
            notes.append((noted.CUT, f'{where}, {place}, of an image of {size[1]}x{size[0]} pixels'))
        if value != 0 or not has_background:
            found.append((value, inside))
        elif others != 0:
            notes.append((noted.BACKGROUND, where))
    return found


def _labelme(path, size, classes, others, notes, has_background):
    for shape in labelme.read_shapes(path, size, notes):
        if shape.type != 'rectangle':
            notes.append((noted.NO_BOX, f'{shape.where}, a {shape.type}'))
        elif not (shape.points[1] - shape.points[0]).all():
            notes.append((noted.NOTHING, f'{shape.where}, a rectangle of zero area'))
        else:  # the pixels that LabelMe fills
            (left, top), (right, bottom) = shape.points.tolist()
            yield shape.where, shape_value(shape, classes, others, has_background), (
                math.floor(left), math.floor(top), math.floor(right) + 1, math.floor(bottom) + 1)


def _voc(path, size, classes, others, notes, has_background):
    objects, stated, named = voc_xml.read_objects(path)
    _check_stated(path, stated, size)
    if are_shares([number for _, _, (left, top, right, bottom) in objects for number in (
            left + 1, top + 1, right, bottom)], size):
        raise DataError(f'{path}: {SHARES}')
    labelme.note_renamed(path, named, notes)
    for where, name, corners in objects:
        yield where, class_value(name, classes, others, where), corners


def _coco(content, size, classes, others, notes, has_background):
    place, stated, annotations = content
    _check_stated(place, stated, size)
    for where, name, category, box in annotations:
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)) or min(box[2:]) < 0 or (
                are_shares(box, size)):
            raise DataError(f'{where}: has the bbox {reprlib.repr(box)}; it must be [x, y, width, height] in pixels')
        x, y, width, height = box
        yield where, class_value(name, classes, others, category), (x, y, x + width, y + height)


def _yolo(content, size, classes, others, notes, has_background):
    path, names, rows = content
    for line, fields in rows:
        where = f'{path}:{line}'
        number, numbers = as_int(fields[0]), [_share(where, field) for field in fields[1:]]
        if number is None or not 0 <= number < len(names):
            raise DataError(f"{where}: the class {fields[0]}, but YOLO's classes are 0..{len(names) - 1} "
                            f'({", ".join(names[:3])} ...); put its list beside the files as classes.txt')
        if len(numbers) == 4:
            x, y, width, height = numbers
            shares = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        elif len(numbers) >= 6 and len(numbers) % 2 == 0:  # a polygon
            xs, ys = numbers[::2], numbers[1::2]
            shares = min(xs), min(ys), max(xs), max(ys)
        else:
            raise DataError(f'{where}: {len(fields)} fields; a line must be `class x y width height`')
        yield where, class_value(names[number], classes, others, where), [
            share * size[1 - index % 2] for index, share in enumerate(shares)]


_READERS = {'labelme': _labelme, 'voc': _voc, 'coco': _coco, 'yolo': _yolo}


def _check_stated(where, stated, size):
    if stated is not None:
        check_size(where, stated, 'the image', size, SAME_PHOTO)


def _check_corners(path, records):
    """Refuse `bbox`es that are corners x1, y1, x2, y2: those that most leave their image, but would not as corners."""
    found = [(record.get('bbox'), image.size) for image in records if image.size
             for _, _, record in image.annotations]
    found = [(box, size) for box, size in found if isinstance(box, list) and len(box) == 4 and all(
        map(_is_number, (*box, *size)))]
    leaving = [box for (box, (height, width)) in found
               if box[0] + box[2] > width + _SLACK or box[1] + box[3] > height + _SLACK]
    if 2 * len(leaving) > len(found) and all(
            box[0] <= box[2] <= width + _SLACK and box[1] <= box[3] <= height + _SLACK
            for box, (height, width) in found):
        raise DataError(f'{path}: {len(leaving)} of {len(found)} bboxes leave their image, for example '
                        f'{leaving[0]}, and none would if it were x1, y1, x2, y2; a bbox of COCO is x, y, width, '
                        'height')


def _is_number(value):
    return type(value) in (int, float) and -_FAR <= value <= _FAR


def _share(where, text):
    value = as_float(text)
    if not -_ROUNDED <= value <= 1 + _ROUNDED:
        raise DataError(f"{where}: {text!r} is not a share of the image's width or height, 0..1; are these pixels?")
    return value


def _yolo_rows(path, fields):
    return [[number, line.split()[:fields]] for number, line in enumerate(read_lines(path, 'boxes of YOLO'), 1)
            if line.strip()]


def _yolo_fields(folder):
    """Return how many fields of a line count: 5 where keypoints follow the box, which would pass for a polygon."""
    return 5 if any(re.match('kpt_shape *:', line) for path in _yolo_lists(folder) if path.suffix == '.yaml'
                    for line in read_lines(path, "YOLO's description of the data")) else None


def _yolo_lists(folder):
    """Return the files that may list YOLO's classes, the nearest first: where there is a folder a split, further up."""
    places = [folder / name for name in _YOLO_NAMES] + [folder.parent / name for name in _YOLO_NAMES]
    places += [place / 'data.yaml' for place in pathlib.Path(os.path.abspath(folder)).parents[1:2]]
    return [path for path in places if path.is_file()]


def _yolo_names(folder, classes, has_background):
    """Return the names of YOLO's classes, in their order."""
    for path in _yolo_lists(folder):
        # The class list, which may lie there, begins with the background, which YOLO does not count.
        if path.samefile(classes.path):
            continue
        if path.suffix == '.yaml':
            return _names_of_yaml(path)
        return [line.strip() for line in read_lines(path, "YOLO's list of classes") if line.strip()]
    names = list(classes.names[1:] if has_background else classes.names)
    if len(names) > 1:
        logger.warning('WARNING: %s: no list of classes (%s) is in it or above, so its numbers count those of %s: 0 is '
                       '%s, 1 is %s ...', folder, ', '.join(_YOLO_NAMES), classes.path, *names[:2])
    return names


def _names_of_yaml(path):
    try:
        content = yaml.safe_load('\n'.join(read_lines(path, "YOLO's description of the data")))
        names = content['names']
        if isinstance(names, dict):
            numbered = {as_int(number): name for number, name in names.items()}
            if numbered.keys() != set(range(len(names))):
                raise DataError(f'{path}: the numbers of `names` are {reprlib.repr(list(names))}; they must count from '
                                '0 without a gap')
            names = [numbered[number] for number in range(len(names))]
        if isinstance(names, str):
            raise TypeError('it is a text')
        return [*map(str, names)]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f'{path}: has no list `names` ({first_line(error)}); give one, or classes.txt') from None
