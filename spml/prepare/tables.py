"""Tags and points of images from CSV files, or from what stands in for one: folders a class, LabelMe's points.

A CSV may be separated by commas, semicolons or tabs and may have a header and a byte-order mark.
"""
import csv
import filecmp
import logging
import math
import pathlib
import re
from typing import NamedTuple

import numpy as np

from spml.errors import DataError
from spml.prepare import labelme
from spml.prepare import notes as noted
from spml.prepare.coco_masks import SHARES
from spml.prepare.shapes import class_value, shape_value
from spml.program import check_name
from spml.utils.formats import as_float, as_int, read_lines

logger = logging.getLogger(__name__)

# Words, in small letters, by which a first line is known as a header, and its columns.
_COLUMNS = {'image': ('image', 'images', 'image_id', 'image_name', 'img', 'file', 'filename', 'file_name', 'name',
                      'path', 'photo'),
            'x': ('x',), 'y': ('y',),
            'class': ('class', 'classes', 'label', 'labels', 'category', 'tag', 'tags', 'class_name', 'label_name',
                      'category_name')}
_ID_COLUMNS = ('class_id', 'label_id', 'category_id')  # of tags, where no column is called as above
_ENDINGS = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp', '.webp')
_FEW = 3


class Points(NamedTuple):
    """The points of an image as they are given: a JSON of LabelMe, or rows [place, class, x, y] of a CSV."""

    content: object


def read_tags(path, classes, others=None):
    """Return a dict from the file name of each image, with any ending, to the sorted tuple of its class ids.

    Args:
        path: a CSV, `image,class,class ...` on each line (several lines of an image add up; a field may hold several
            classes with `;` or `|` between them), a CSV with a column of 0 and 1 for each class that its header
            names, or a folder with a folder of images for each class.
        classes: ClassList; its names or ids are given.
        others: as in `shapes.ShapeRules`; if not None, what is not in the list is left out.

    DataError: the file is missing or no table, holds a class that is not in the list, names two images alike, or has
    numbers of which it is not clear whether they are ids.
    """
    path = pathlib.Path(path)
    tags = (_tags_of_folders if path.is_dir() else _tags_of_table)(path, classes, others)
    return {name: tuple(sorted(ids)) for name, ids in tags.items()}


def _tags_of_folders(path, classes, others):
    tags, known, unused = {}, {}, []
    for folder in sorted(place for place in path.iterdir() if place.is_dir() and not place.name.startswith('.')):
        ids = _ids(str(folder), folder.name, classes, others)
        for file in sorted(place for place in folder.iterdir() if not place.name.startswith('.')):
            if file.suffix.lower() not in _ENDINGS or not file.is_file():
                unused.append(file)
                continue
            tags.setdefault(check_name(file).name, set()).update(ids)
            other = known.setdefault(file.name, file)
            if other is not file and not filecmp.cmp(file, other, shallow=False):
                raise DataError(f'{file}: is another image than {other}, but images are identified by their base '
                                'names; rename one of them')
    if unused:
        logger.warning('WARNING: %s: %d files or folders in its folders are not used, for example %s; images end in %s',
                       path, len(unused), unused[0], ', '.join(_ENDINGS))
    return tags


def _tags_of_table(path, classes, others):
    tags, known = {}, {}
    for where, image, fields in _tag_rows(path, classes):
        of_image, fields = tags.setdefault(_image(where, image, known), set()), [*filter(None, fields)]
        for field in fields:
            of_image.update(_ids(where, field, classes, others))
        parts = [part for field in fields for part in _parts(field, classes)]
        numbers = [part for part in parts if classes.find(part) is None and as_int(part) is not None]
        if 0 < len(numbers) < len(parts):
            raise DataError(f'{where}: {numbers[0]} beside a name: is it the id of another class? Give ids alone or '
                            'names alone, or a header that calls the column that counts `class`')
    return tags


def find_points(path):
    """Return a dict from the file name of each image, with any ending, to its `Points`.

    `path` is a CSV, `image,x,y,class` on each line (a header may give another order), x and y in pixels; or a folder of
    JSON files of LabelMe. DataError: the file or the folder is missing or no table.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return {check_name(file).name: Points(file) for file in sorted(path.iterdir())
                if file.suffix.lower() == '.json' and not file.name.startswith('.')}
    header, rows = read_table(path)
    order = ['image', 'x', 'y', 'class']
    if header:
        order = [next((column for column, words in _COLUMNS.items() if word.lower() in words), word) for word in header]
        if any(order.count(column) != 1 for column in _COLUMNS):
            raise DataError(f'{path}: the header {",".join(header)} does not name the columns image,x,y,class')
    points, folders = {}, {}
    for where, fields in rows:
        if len(fields) != len(order):
            raise DataError(f'{where}: {len(fields)} fields, but there must be {len(order)}: {",".join(order)}')
        named = dict(zip(order, fields, strict=True))
        row = [where, named['class'], *(_number(where, named[axis]) for axis in 'xy')]
        points.setdefault(_image(where, named['image'], folders), []).append(row)
    numbers = [number for rows in points.values() for row in rows for number in row[2:]]
    if max(numbers) <= 1 and min(numbers) >= 0 and (
            len(numbers) > 2 * _FEW or any(number != int(number) for number in numbers)):
        raise DataError(f'{path}: {SHARES}')
    return {name: Points(rows) for name, rows in points.items()}


def read_points(points, size, classes, others, notes, has_background=True):
    """Return the points of an image of `size` (H, W) as a list of (label value, (1, 2) float64 of x, y), for `strokes`.

    Arguments as in `boxes.read_boxes`; points of no class are left out where `others` is 0. DataError: likewise, or a
    point lies outside the image.
    """
    found = []
    if isinstance(points.content, list):
        for where, name, *point in points.content:
            if len(_parts(name, classes)) != 1:
                raise DataError(f'{where}: a point of the class {name!r}; it must have one class')
            found += [(where, value, point) for value in _ids(where, name, classes, others, kept=True)]
    else:
        for shape in labelme.read_shapes(points.content, size, notes):
            if shape.type in ('point', 'points'):
                value = shape_value(shape, classes, others, has_background)
                found += [(shape.where, value, point) for point in shape.points.tolist()]
            else:
                notes.append((noted.NO_POINT, f'{shape.where}, a {shape.type}'))
    for where, _, (x, y) in found:
        if not (round(x) >= 0 <= round(y) and x < size[1] and y < size[0]):
            raise DataError(f'{where}: the point x = {x:g}, y = {y:g} lies outside its image of {size[1]}x{size[0]} '
                            'pixels (width x height); are x and y swapped?')
    # For tools that count from a pixel's corner the last pixel reaches up to the size.
    return [(value, np.minimum([point], np.array(size[::-1]) - 0.5)) for _, value, point in found]


def read_table(path):
    """Return the header of a CSV, a list of words or None, and its further lines as (FILE:LINE, list of fields).

    Fields are without blanks around them; empty lines are left out. DataError: the file is missing, not UTF-8 text or
    empty, or a line has a single field.
    """
    lines = read_lines(path, 'a CSV with a line for each image')
    separator, rows = _separator(lines), []
    try:
        for number, fields in enumerate(csv.reader(lines, delimiter=separator, strict=True), 1):
            fields = [field.strip() for field in fields]
            if any(fields):
                rows.append((f'{path}:{number}', fields))
    except csv.Error as error:
        raise DataError(f'{path}: no table of comma-separated values ({error}); export it again') from None
    words = [field.lower() for field in rows[0][1]] if rows else []
    is_header = words and (words[0] in _COLUMNS['image'] or {'x', 'y'} <= set(words))
    header = rows.pop(0)[1] if is_header else None
    if not rows:
        raise DataError(f'{path}: holds no line; give one for each image')
    for where, fields in rows:
        if len(fields) < 2:
            raise DataError(f'{where}: {fields[0]!r} is a single field; separate fields by commas')
    return header, rows


def _separator(lines):
    """Return what separates fields: what is on all lines, if there is such, and may end the name of an image on most.

    Of several that do, it is the first in the first line.
    """
    bare = [re.sub('"([^"]*)"', lambda quoted: re.sub('[,;\t]', ' ', quoted[1]), line)  # there they separate nothing
            for line in lines if line.strip()]
    signs = [sign for sign in ',;\t' if bare and all(sign in line for line in bare)]
    return max(signs or ',;\t', key=lambda sign: (
        sum(line.split(sign)[0].strip().lower().endswith(_ENDINGS) for line in bare),
        -len(''.join(bare[:1]).split(sign)[0])))


def _tag_rows(path, classes):
    """Yield (FILE:LINE, image, list of fields that name its classes) of the lines of a CSV of tags."""
    header, rows = read_table(path)
    lines = [header or [], *(fields for _, fields in rows)]
    width = max(number for fields in lines for number, field in enumerate(fields, 1) if field)  # of trailing commas
    header, rows = header and header[:width], [(where, fields[:width]) for where, fields in rows]
    if header is None and len(rows) > 1 and _are_switches(rows[1:], rows[0][1]) and all(
            classes.find(name) is not None for name in rows[0][1][1:]):
        header = rows.pop(0)[1]  # of a column without a name, or with one that is not known
    if header is None:
        yield from ((where, fields[0], fields[1:]) for where, fields in rows)
        return
    used, by_title = _class_columns(path, header, rows, classes)
    others = [number for number in range(1, len(header)) if number not in used]
    if others:
        alike = next((header[number] for number in others if _are_classes(rows, number, classes)), None)
        logger.warning('WARNING: %s: %d columns are not used, for example %s; classes are read from those called class'
                       '%s', path, len(others), header[others[0]] or f'number {others[0] + 1}',
                       f'; {alike} holds names of classes, too: call it class 2 if they count' if alike else '')
    for where, fields in rows:
        if len(fields) > len(header) and others:
            raise DataError(f'{where}: {len(fields)} fields, but the header names {len(header)}, and not all of these '
                            'are of classes; put several classes into one field, with ; between them')
        # What lies beyond the titles belongs to the last.
        found = [(number, field) for number, field in enumerate(fields) if number in used or number >= len(header)]
        yield where, fields[0], ([header[number] for number, field in found if as_int(field)] if by_title else
                                 [field for _, field in found])


def _class_columns(path, header, rows, classes):
    """Return the numbers of the columns that say the classes, and whether their titles do, of fields that are 0 or 1.

    DataError: they may mean two things.
    """
    titled = [number for number, title in enumerate(header) if title and number]
    of_classes = [number for number in titled if classes.find(header[number]) is not None]
    named = [number for number in titled if header[number].lower().rstrip('0123456789_-. ()#') in _COLUMNS['class']]
    named = named or [number for number in titled if header[number].lower() in _ID_COLUMNS]
    titles, is_many = ','.join(header[number] for number in titled), len(titled) > 1
    is_switched = bool(titled) and _are_switches(rows, header, titled)
    if is_switched and ((of_classes == titled and is_many) if named else (of_classes or is_many)):
        return titled, True
    if is_switched and (len(named) > 1 or not named) and len(classes.names) > 2:
        raise DataError(f'{path}: the column {titles} holds 0 and 1 alone; call one column `class` if these are '
                        'ids of classes, or each like the class that is there or not')
    has_numbers = any(as_int(field) is not None for _, fields in rows for number, field in enumerate(fields)
                      if number in titled)
    if not named and not is_switched and (of_classes or has_numbers):
        raise DataError(f'{path}: the columns {titles}: where each is a class, its fields must be 0 or 1; call a '
                        'column of names or ids of classes `class`')
    # Beside a column called class, others may hold what a network said, the share of a data set, or a size.
    return [number for number in range(1, len(header)) if number in named or not named or (
        not header[number] and _are_classes(rows, number, classes))], False


def _are_classes(rows, number, classes):
    """Return whether all fields of a column that are not empty are names in the class list."""
    return all(classes.find(fields[number]) is not None for _, fields in rows if fields[number:] and fields[number])


def _are_switches(rows, header, columns=None):
    """Return whether rows are as long as the header, and 0, 1 or empty in `columns`, all but the first if None."""
    columns = range(1, len(header)) if columns is None else columns
    return all(len(fields) == len(header) and all(fields[number] == '' or as_int(fields[number]) in (0, 1)
                                                  for number in columns) for _, fields in rows)


def _image(where, text, folders):
    """Return the file name of an image that a table names; `folders` is a dict that remembers where those before are.

    DataError: there is no name, or a line before names an image of another folder by it.
    """
    path = pathlib.PureWindowsPath(text)  # which takes / for \ too
    if not path.name:
        raise DataError(f'{where}: names no image')
    name = path.name if path.name.lower().endswith(_ENDINGS) else f'{path.name}.png'
    other = folders.setdefault(name, path.parent)
    if other != path.parent:
        raise DataError(f'{where}: names {path.as_posix()}, and a line before {(other / path.name).as_posix()}, but '
                        'images are identified by their base names; rename one of them')
    return name


def _parts(text, classes):
    """Return the names or ids in a field; those in the list may hold what separates others."""
    parts = [text] if classes.find(text) is not None else text.replace('|', ';').split(';')
    return [part.strip() for part in parts if part.strip()]


def _ids(where, text, classes, others, kept=False):
    """Return the ids of the classes in a field; if not `kept`, what is not in the list is left out."""
    ids = []
    for part in _parts(text, classes):
        number, is_listed = as_int(part), classes.find(part) is not None
        if not is_listed and number is not None:
            if not 0 <= number < len(classes.names):
                raise DataError(f'{where}: the class {part}, but {classes.path} has 0..{len(classes.names) - 1}')
            ids.append(number)
        else:
            value = class_value(part, classes, others, where)
            if is_listed or (kept and value):
                ids.append(value)
    return ids


def _number(where, text):
    value = as_float(text.replace(',', '.'))  # as spreadsheets of some countries write it
    if not math.isfinite(value):
        raise DataError(f'{where}: {text!r} is not a number of pixels')
    return value
