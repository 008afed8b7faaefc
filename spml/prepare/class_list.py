"""The class list of a user's data set: a text file with one class per line, background first.

    background
    cat              or, with the colours that masks and scribbles are drawn in,    cat 128 0 0
    palm tree                                                                       palm tree 0 128 0

Coloured masks are decoded by these, or by PASCAL VOC's colours where the list has none. Two more names may have a
colour without being classes: `void` (pixels to be thrown away) and `unlabelled`.
"""
import pathlib
import re
from typing import NamedTuple

from spml.errors import DataError
from spml.names import UNLABELLED, VOID
from spml.utils.formats import read_lines
from spml.visualization.palette import class_colours

_LINE = re.compile(r'(?P<name>.*?)(?:\s+(?P<colour>\d+[\s,]+\d+[\s,]+\d+|#[0-9a-fA-F]{6}))?')
_NO_CLASSES = {'void': VOID, 'unlabelled': UNLABELLED}


class ClassList(NamedTuple):
    """Names in the order of the ids; `colours` (C tuples of R, G, B) is None where the list has none.

    `values` maps every known colour (R, G, B) to its label value: ids, and 255 or 254 for what is not a class.
    """

    path: pathlib.Path
    names: tuple
    colours: tuple | None
    values: dict


def read_class_list(path):
    """Read a class list.

    DataError: the file is missing or not text, names too few or too many classes, one twice, or colours for some.
    """
    path = pathlib.Path(path)
    lines = read_lines(path, 'a list with one class per line')
    entries = [_parse(f'{path}:{number}', line) for number, line in enumerate(lines, 1) if line.strip()]
    classes = [entry for entry in entries if entry[1] not in _NO_CLASSES]
    if not 2 <= len(classes) < UNLABELLED:
        raise DataError(f'{path}: {len(classes)} classes; give 2 to {UNLABELLED - 1}, a line each, background first')
    with_colour = {colour is not None for _, _, colour in entries}
    if len(with_colour) > 1:
        place = next(place for place, _, colour in entries if (colour is None) != (entries[0][2] is None))
        raise DataError(f'{place}: every class must have a colour, or none')
    _check_twice(entries)
    names = tuple(name for _, name, _ in classes)
    if with_colour == {False}:
        colours = class_colours(256)
        return ClassList(path, names, None, {colours[value]: value for value in (*range(len(names)), VOID)})
    values = {colour: index for index, (_, _, colour) in enumerate(classes)}
    values |= {colour: _NO_CLASSES[name] for _, name, colour in entries if name in _NO_CLASSES}
    return ClassList(path, names, tuple(colour for _, _, colour in classes), values)


def _parse(place, line):
    """Return (place, name, colour or None) of a line."""
    match = _LINE.fullmatch(line.strip())
    name, text = ' '.join(match['name'].split()), match['colour']
    if text is None:
        return place, name, None
    parts = bytes.fromhex(text[1:]) if text[0] == '#' else re.split(r'[\s,]+', text)
    colour = tuple(int(part) for part in parts)
    if max(colour) > 255 or not name:
        raise DataError(f'{place}: {line.strip()!r} is not `name` or `name R G B` with numbers in 0..255')
    return place, name, colour


def _check_twice(entries):
    for index, what in ((1, 'name'), (2, 'colour')):
        seen = {}
        for entry in entries:
            other = seen.setdefault(entry[index], entry)
            if entry[index] is not None and other is not entry:
                raise DataError(f'{entry[0]}: the {what} {entry[index]} is at {other[0]} already')
