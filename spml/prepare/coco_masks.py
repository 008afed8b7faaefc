"""JSON of COCO: its records, and masks as run lengths, compressed or not, and as polygons.

Run lengths are decoded here, with every length checked: the decoder of pycocotools trusts them, and a damaged file
makes it read memory that is not its own. Polygons are filled by pycocotools, whose very pixels are COCO's.
"""
import itertools

import numpy as np

from spml.errors import DataError, SpmlError


def check_records(path, content, group, **fields):
    """Return the list `group` in the content of a JSON of COCO; DataError unless it has fields of these types."""
    records = content.get(group) if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f'{path}: has no list of {group}; is it a file of COCO?')
    for record in records:
        for field, kind in fields.items():
            if not isinstance(record.get(field), kind):
                raise DataError(f'{path}: one of the {group} has {field} = {record.get(field)!r}; use the original '
                                'file')
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


def _fill(polygons, size, where):
    limit = 2 * max(size)  # far coordinates and NaN would crash the library
    good = all(isinstance(polygon, list) and len(polygon) % 2 == 0 for polygon in polygons)
    if not good or not all(type(number) in (int, float) and -limit <= number <= limit
                           for number in itertools.chain.from_iterable(polygons)):
        raise DataError(f'{where}: polygons must be lists [x, y, x, y, ...] of pixels; fetch the file again')
    polygons = [polygon for polygon in polygons if len(polygon) >= 6]  # three points
    if not polygons:
        return np.zeros(size, bool)
    try:
        from pycocotools import mask
    except ImportError:
        raise SpmlError("polygons of COCO need pycocotools: pip install -e '.[data]'") from None
    return mask.decode(mask.merge(mask.frPyObjects(polygons, *size))).astype(bool)
