"""JSON of COCO: its records, and masks as run lengths, compressed or not, and as polygons.

Run lengths are decoded here, with every length checked: the decoder of pycocotools trusts them, and a damaged file
makes it read memory that is not its own. Polygons are filled by pycocotools, whose very pixels are COCO's.
"""
import itertools
import reprlib
from typing import NamedTuple

import numpy as np

from spml.errors import DataError, require_module
from spml.utils.formats import as_int, read_json

SHARES = 'all x and y are in 0..1; they must be pixels, not shares of the image'


class Category(NamedTuple):
    """A class in a file of COCO: its name, and its file and id for messages."""

    name: str
    where: str


class ImageRecord(NamedTuple):
    """An image in a file of COCO.

    `where` is its file and id for messages; `size` the [height, width] that the file states, or None; annotations are
    (file and id for messages, `Category`, record).
    """

    where: str
    file_name: str
    size: list | None
    annotations: list


def read_records(path):
    """Return the list of `ImageRecord`s in a JSON of COCO.

    Ids may be numbers, or texts, as some tools write them: `"1"` and 1.0 mean 1. DataError: the file is missing,
    damaged or of another form; two images or two categories have one id, or two images one file name; or an annotation
    is of an image or a category that the file does not have.
    """
    content = read_json(path, 'it must be a JSON of COCO')
    images = {}
    for identity, record in _by_id(path, content, 'images', 'file_name').items():
        images[identity] = ImageRecord(f'{path}: image {identity}', record['file_name'].replace('\\', '/'),
                                       _stated_size(path, record), [])
    categories = {identity: Category(record['name'], f'{path}: category {identity}')
                  for identity, record in _by_id(path, content, 'categories', 'name').items()}
    for number, record in enumerate(check_records(path, content, 'annotations')):
        # Nothing refers to an annotation, so it may do without an id.
        where = f'{path}: annotation {record.get("id", f"number {number}")}'
        image, category = (_identity(where, record, field) for field in ('image_id', 'category_id'))
        if image not in images or category not in categories:
            raise DataError(f'{where}: is of the image {image} and the category {category}, one of which the file does '
                            'not have')
        images[image].annotations.append((where, categories[category], record))
    names = {}
    for image in images.values():
        other = names.setdefault(image.file_name, image)
        if other is not image:
            raise DataError(f'{image.where}: has the file name of {other.where}, {image.file_name}; keep one of them')
    return list(images.values())


def _by_id(path, content, group, name):
    """Return a dict from id to record of a group; DataError for a wrong or repeated id, or no text in field `name`."""
    records = {}
    for record in check_records(path, content, group, **{name: str}):
        identity = _identity(f'{path}: one of the {group}', record, 'id')
        other = records.setdefault(identity, record)
        if other is not record:
            raise DataError(f'{path}: two of the {group} have the id {identity}, {other[name]} and {record[name]}; '
                            'give each its own')
    return records


def _identity(where, record, field):
    """Return an id, an int or a text; DataError where it is missing or cannot be one."""
    if field not in record:
        raise DataError(f'{where} has no {field}; use the original file')
    value = record[field]
    identity = as_int(value)
    if identity is None and isinstance(value, str):
        identity = value.strip()
    if identity is None or identity == '':
        raise DataError(f'{where} has {field} = {reprlib.repr(value)}, which is neither a whole number nor a text; use '
                        'the original file')
    return identity


def _stated_size(path, record):
    stated = [as_int(record[field]) or record[field] for field in ('height', 'width')
              if record.get(field) not in (None, 0)]  # some tools write 0 for what they do not know
    if len(stated) == 1:
        raise DataError(f'{path}: one of the images, {record["file_name"]}, has a height or a width alone; use the '
                        'original file')
    return stated or None


def check_records(path, content, group, **fields):
    """Return the list `group` in the content of a JSON of COCO; DataError unless it has fields of these types."""
    records = content.get(group) if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f'{path}: has no list of {group}, so it is not a JSON of COCO; export it as that')
    for record in records:
        for field, expected in fields.items():
            if not isinstance(record.get(field), expected):
                raise DataError(f'{path}: one of the {group} has {field} = {reprlib.repr(record.get(field))}; use the '
                                'original file')
    return records


def decode_mask(segmentation, size, where):
    """Return the (H, W) bool mask of a COCO segmentation; `where` is its file and annotation, for messages.

    It is a list of polygons [x, y, x, y, ...], or a dict with `size` and `counts`, run lengths down the columns as a
    list or in COCO's compressed text. DataError: it is of none of these forms or of another size.
    """
    if isinstance(segmentation, list):
        return _fill(segmentation, size, where)
    if not isinstance(segmentation, dict) or segmentation.get('size') != list(size):
        found = segmentation.get('size') if isinstance(segmentation, dict) else type(segmentation).__name__
        raise DataError(f'{where}: expected polygons or run lengths of size {list(size)}, not {found}')
    runs = segmentation.get('counts')
    if isinstance(runs, str):
        runs = _run_lengths(runs)
    good = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
    if not good or sum(runs) != size[0] * size[1]:
        raise DataError(f'{where}: run lengths that do not fill {size[1]}x{size[0]} pixels; fetch the file again')
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T


def _run_lengths(text):
    """Return the run lengths in COCO's compressed text, or None if it is not that.

    Each is written in groups of 5 bits from the lowest, 0x20 saying that more follow and the highest bit of the last
    the sign; from the fourth on, a run is the difference from the last but one.
    """
    runs, value, shift = [], 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 0x1f) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return None if shift else runs


def is_rectangle(segmentation):
    """Return whether a COCO segmentation is a single polygon of the four corners of an upright rectangle."""
    polygon = segmentation[0] if isinstance(segmentation, list) and len(segmentation) == 1 else None
    if not isinstance(polygon, list) or len(polygon) not in (8, 10) or not all(
            type(number) in (int, float) for number in polygon):
        return False
    xs, ys = polygon[::2], polygon[1::2]
    return len(set(xs)) == len(set(ys)) == 2 and len(set(zip(xs, ys, strict=True))) == 4 and (
        len(xs) == 4 or (xs[0], ys[0]) == (xs[-1], ys[-1]))


def are_shares(numbers, size):
    """Return whether numbers, meant as pixels of an image of `size` (H, W), are shares of it: fractions in 0..1."""
    return (min(size) > 1 and all(0 <= number <= 1 for number in numbers)
            and any(number != int(number) for number in numbers))


def _fill(polygons, size, where):
    limit = 2 * max(size)  # far coordinates and NaN would crash the library
    if polygons and all(type(number) in (int, float) for number in polygons):
        polygons = [polygons]  # as VGG's annotator writes a single one
    good = all(isinstance(polygon, list) and len(polygon) % 2 == 0 for polygon in polygons)
    if not good or not all(type(number) in (int, float) and -limit <= number <= limit
                           for number in itertools.chain.from_iterable(polygons)):
        raise DataError(f'{where}: polygons must be lists [x, y, x, y, ...] of pixels; fetch the file again')
    if are_shares(list(itertools.chain.from_iterable(polygons)), size):
        raise DataError(f'{where}: {SHARES}')
    polygons = [polygon for polygon in polygons if len(polygon) >= 6]  # three points
    if not polygons:
        return np.zeros(size, bool)
    mask = require_module('pycocotools.mask', "polygons of COCO need pycocotools: pip install -e '.[data]'")
    return mask.decode(mask.merge(mask.frPyObjects(polygons, *size))).astype(bool)
