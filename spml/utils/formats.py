"""Text, JSON, PNG, `.npy` and `.npz` files: written whole or not at all, read with errors that name the file."""
import contextlib
import io
import json
import math
import pathlib
import re

import numpy as np
from PIL import Image

from spml.errors import DataError, first_line
from spml.utils.files import atomic_path


def write_text(path, text):
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def read_lines(path, what):
    """Return the lines of a UTF-8 text file; DataError if it cannot be read, in which `what` says what it is."""
    try:
        # utf-8-sig: editors on Windows put a byte-order mark first, which would become part of the first line.
        return pathlib.Path(path).read_text(encoding='utf-8-sig').split('\n')
    except FileNotFoundError:
        raise DataError(f'{path}: no such file; it should be {what}') from None
    except OSError as error:
        raise DataError(f'{path}: cannot read the file: {error.strerror}; it should be {what}') from None
    except UnicodeDecodeError:
        raise DataError(f'{path}: not a UTF-8 text file; save it as one: it should be {what}') from None


def append_line(path, line):
    """Add a line to a UTF-8 text file; a kill may leave a part of it, which readers have to expect."""
    try:
        with open(path, 'a', encoding='utf-8') as out:
            out.write(f'{line}\n')
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_json(path, value):
    """Write `value` as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2) + '\n')


def read_json(path, way_out):
    """Return what a JSON file holds; DataError, ending in `way_out`, if it cannot be read."""
    try:
        return json.loads(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise DataError(f'{path}: cannot read the file: {error.strerror}; {way_out}') from None
    except (ValueError, RecursionError) as error:
        raise DataError(f'{path}: not valid JSON ({first_line(error)}); {way_out}') from None


def as_int(value):
    """Return the int that a value of JSON or CSV means: an int, a whole float, or a text of either; else None."""
    if isinstance(value, str) and re.fullmatch(r'\s*[+-]?\d{1,18}(\.0*)?\s*', value, re.ASCII):
        value = float(value) if '.' in value else int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_float(text):
    """Return the number that a text means, NaN where it means none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def read_json_or_none(path):
    """Return what a JSON file of this program's own holds; None where it is missing, unreadable or damaged."""
    try:
        return json.loads(pathlib.Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def read_json_lines(path, skip_damaged=False):
    """Return the objects of a JSON-lines file, none without the file.

    What follows a line that is damaged or cut short is dropped, or that line alone if `skip_damaged`.
    """
    rows = []
    if pathlib.Path(path).is_file():
        for line in pathlib.Path(path).read_text(encoding='utf-8', errors='replace').splitlines():
            row = None
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
            elif not skip_damaged:
                break
    return rows


def write_png(path, array):
    """Write an (H, W) uint8 or uint16 or an (H, W, 3) uint8 RGB array as PNG atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format='PNG')


def encoded(image, form='png', **options):
    """Return the bytes of a PIL image as a file of a format, with further options of Pillow's."""
    out = io.BytesIO()
    image.save(out, format=form, **options)
    return out.getvalue()


def write_npz(path, **arrays):
    """Write the named arrays as an uncompressed `.npz` atomically."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as out:
        np.savez(out, **arrays)


def write_npy(path, value):
    """Write an array, or a dict of arrays as the pickled object of numpy's `save`, as `.npy` atomically."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as out:
        np.save(out, value)
