"""The class list of a user's data set: a text file with one class per line, background first if there is one.

    background
    cat              or, with the colours that masks and scribbles are drawn in,    cat 128 0 0
    palm tree                                                                       palm tree 0 128 0

Coloured masks are decoded by these, or by PASCAL VOC's colours where the list has none. Two more names may have a
colour without being classes: `void` (pixels to be thrown away) and `unlabelled`. LabelMe's own `labels.txt` is a class
list, too: its `__ignore__` is void and its `_background_` the background. So is CVAT's `labelmap.txt`, `cat:128,0,0::`,
and a list in which all lines begin with the id, `1,cat`, perhaps below a heading, as Roboflow's `_classes.csv`. Lines
that begin with `#` and no letter or digit are comments.
"""
import pathlib
import re
import unicodedata
from typing import NamedTuple

from spml.errors import ConfigError, DataError
from spml.names import UNLABELLED, VOID
from spml.utils.formats import read_lines
from spml.visualization.palette import class_colours

# Of CVAT's `labelmap.txt`, `name:R,G,B:parts:actions`, what follows the colour does not matter.
_LINE = re.compile(r'(?P<name>.*?)(?:[\s,:]+(?P<colour>\d+[\s,]+\d+[\s,]+\d+|#[0-9a-fA-F]{6})(?::[^:]*:[^:]*)?)?')
_NUMBERED = re.compile(r'(?P<id>\d+)\s*[\s,;:.]\s*(?P<rest>[^\W\d].*)')  # `1 cat`, `1,cat,128,0,0`
_COMMENT = re.compile(r'#(\W.*)?')
_COLUMNS = re.compile(r'\w+[,;\t](r,g,b|red,green,blue)', re.IGNORECASE)  # the heading of class_dict.csv
_IGNORED = '__ignore__'
_NO_CLASSES = {'void': VOID, _IGNORED: VOID, 'unlabelled': UNLABELLED, 'unlabeled': UNLABELLED}  # in any case
_LABELME_BACKGROUND = '_background_'
# What the first class is usually called where it is what no other class covers; anything else may be a real class.
_USUAL_BACKGROUND = ('background', 'bg', 'other', 'others', 'rest', 'nothing', 'none', 'empty')


class ClassList(NamedTuple):
    """Names in the order of the ids; `colours` (C tuples of R, G, B) is None where the list has none.

    `values` maps every known colour (R, G, B) to its label value: ids, and 255 or 254 for what is not a class.
    """

    path: pathlib.Path
    names: tuple
    colours: tuple | None
    values: dict

    def find(self, name):
        """Return the id of a class by its name, or None.

        Names that differ in case, blanks or Unicode form alone are one name, unless the list tells them apart.
        """
        if name in self.names:
            return self.names.index(name)
        alike = [index for index, one in enumerate(self.names) if _plain(one) == _plain(name)]
        return alike[0] if len(alike) == 1 else None

    def has_background(self, choice=None):
        """Return whether the first class is the background: by the user's `choice`, or by its name where None is made.

        ConfigError: no choice is made, and the name is none of the usual ones; or it is that of a later class.
        """
        later = [name for name in self.names[1:] if name.lower() in _USUAL_BACKGROUND[:2]]
        if later and choice != 'none' and self.names[0].lower() not in _USUAL_BACKGROUND:
            raise ConfigError(f'{self.path}: the background must be the first class; move {later[0]} to the first line'
                              + (', and if ids of masks count the lines as they are, give --fix for each (--fix 2=0)'
                                 if self.colours is None else '')
                              + '; or give --background none if all classes are equal')
        if choice is None and self.names[0].lower() not in _USUAL_BACKGROUND:
            raise ConfigError(f'{self.path}: is the first class, {self.names[0]}, the background, that is, whatever no '
                              'other class covers? Give --background first if it is, and --background none if all '
                              f'classes are equal; the usual names are {", ".join(_USUAL_BACKGROUND[:4])} ...')
        return choice is None or choice == 'first'


def read_class_list(path):
    """Read a class list.

    DataError: the file is missing or not text, names too few or too many classes, one twice, or colours for some.
    """
    path = pathlib.Path(path)
    lines = read_lines(path, 'a list with one class per line')
    lines = [(f'{path}:{number}', line.strip()) for number, line in enumerate(lines, 1)
             if line.strip() and not _COMMENT.fullmatch(line.strip())]
    if lines and _COLUMNS.fullmatch(re.sub(r'\s*[,;\t]\s*', ',', lines[0][1])):
        lines = lines[1:]
    entries = [_parse(place, line) for place, line in _without_numbers(lines)]
    classes = [entry for entry in entries if entry[1].lower() not in _NO_CLASSES]
    if not 2 <= len(classes) < UNLABELLED:
        raise DataError(f'{path}: {len(classes)} classes; give 2 to {UNLABELLED - 1}, a line each, background first')
    with_colour = {colour is not None for _, _, colour in entries}
    if len(with_colour) > 1:
        number = sum(colour is None for _, _, colour in entries)
        rare = entries[0][2] is not None if 2 * number == len(entries) else 2 * number < len(entries)
        place = next(place for place, _, colour in entries if (colour is None) == rare)
        raise DataError(f'{place}: every class must have a colour, or none')
    _check_twice(entries)
    _check_order(entries, with_colour)
    names = tuple('background' if name == _LABELME_BACKGROUND else name for _, name, _ in classes)
    if _LABELME_BACKGROUND in [name for _, name, _ in classes[1:]]:
        place = next(place for place, name, _ in classes if name == _LABELME_BACKGROUND)
        raise DataError(f'{place}: {_LABELME_BACKGROUND} has the id 0 and must be the first class; move it up')
    if len(set(names)) < len(names):
        raise DataError(f'{path}: has both background and {_LABELME_BACKGROUND}, which are one class; remove one')
    if with_colour == {False}:
        colours = class_colours(256)
        return ClassList(path, names, None, {colours[value]: value for value in (*range(len(names)), VOID)})
    values = {colour: index for index, (_, _, colour) in enumerate(classes)}
    values |= {colour: _NO_CLASSES[name.lower()] for _, name, colour in entries if name.lower() in _NO_CLASSES}
    return ClassList(path, names, tuple(colour for _, _, colour in classes), values)


def _without_numbers(lines):
    """Return (place, line) without the ids that all lines begin with and a heading of these, if there are ids.

    DataError: the ids are others than the lines' own.
    """
    # A line with a colour is a class, not a heading.
    has_heading = (len(lines) > 2 and re.search(r'[,;\t]', lines[0][1]) is not None
                   and _NUMBERED.fullmatch(lines[0][1]) is None and _parse(*lines[0])[2] is None)
    numbered = lines[has_heading:]
    found = [_NUMBERED.fullmatch(line) for _, line in numbered]
    if not lines or None in found:
        return lines
    rests = [(place, match['rest']) for (place, _), match in zip(numbered, found, strict=True)]
    names = [_parse(*rest)[1] for rest in rests]
    if len(set(names)) < len(names):  # `1 euro` and `2 euro` are names
        return lines
    for index, ((place, line), match, name) in enumerate(zip(numbered, found, names, strict=True)):
        is_none = name.lower() in _NO_CLASSES
        if int(match['id']) != (_NO_CLASSES[name.lower()] if is_none else index):
            other = f'; {name} is not a class, so call it background if it is what no other class covers' * is_none
            raise DataError(f'{place}: {line!r}, but ids count the classes from 0; list the classes alone, in their '
                            f'order, and give --fix VALUE=CLASS for masks that hold other values{other}')
    return rests


def _plain(name):
    return ' '.join(unicodedata.normalize('NFC', name).casefold().split())


def _parse(place, line):
    """Return (place, name, colour or None) of a line."""
    match = _LINE.fullmatch(line)
    name, text = ' '.join(match['name'].split()), match['colour']
    if line[0] == '#' or re.search(r' #(\D|$)', name):
        raise DataError(f'{place}: {line!r} may be a comment or a class; begin comments with # and a blank, on lines '
                        'of their own, and classes with something else')
    if text is None:
        return place, name, None
    parts = bytes.fromhex(text[1:]) if text[0] == '#' else re.split(r'[\s,]+', text)
    colour = tuple(int(part) for part in parts)
    if max(colour) > 255 or not name:
        raise DataError(f'{place}: {line!r} is not `name` or `name R G B` with numbers in 0..255')
    return place, name, colour


def _check_twice(entries):
    for index, what in ((1, 'name'), (2, 'colour')):
        seen = {}
        for entry in entries:
            other = seen.setdefault(entry[index], entry)
            if entry[index] is not None and other is not entry:
                raise DataError(f'{entry[0]}: the {what} {entry[index]} is at {other[0]} already')


def _check_order(entries, with_colour):
    """Refuse what is not a class before a class where ids may count it; LabelMe's own, -1 by custom, may be first."""
    special = [entry for entry in entries if entry[1].lower() in _NO_CLASSES and entry[1] != _IGNORED]
    if special and with_colour == {False} and entries.index(special[0]) < len(entries) - len(special):
        place, name, _ = special[0]
        raise DataError(f'{place}: {name} is not a class, and ids count the classes alone, from 0; move it to the end, '
                        'and if ids of masks count it, give --fix for each (--fix 0=void 1=0 2=1)')
