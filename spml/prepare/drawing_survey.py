"""What the files of a folder of drawings hold, looked at before any is read as labels.

Whether the numbers of an indexed file are class ids or its palette's colours say the class is decided for all files of
a folder at once (`coding`): programs that save as few colours as they can number them anew in every file.
"""
import logging
import pathlib
from typing import NamedTuple

import numpy as np

from spml.errors import DataError
from spml.names import UNLABELLED, VOID
from spml.prepare.drawings import (
    BLACK,
    Coding,
    as_colour,
    by_colour,
    fix_table,
    is_undrawn,
    nearest_classes,
    read_pixels,
)

logger = logging.getLogger(__name__)


class Survey(NamedTuple):
    """What was seen in a drawing before any was read as labels.

    `values` are the ids in it, of scribbles those that are drawn, (256,) bool, None where colours say the class;
    `palette` is a dict from the indices that occur to their colours, None without a palette; `greys` the values in a
    grey drawing; `drawn`, `snapped` and `lost` count pixels of scribbles in colours: all that are drawn, those in
    colours near one of the class list, and those in colours near none; `of_none` counts those of scribbles of ids that
    are drawn with the id of no class.
    """

    path: pathlib.Path
    values: np.ndarray | None
    palette: dict | None
    drawn: int = 0
    snapped: int = 0
    lost: int = 0
    greys: tuple = ()
    of_none: int = 0

    def holds_ids(self, coding):
        """Return whether the values of a file that has such are ids by a Coding."""
        return not (coding.by_colour and self.palette) and not (coding.greys_too and self.greys)


def survey_mask(path):
    """Return the Survey of a mask; DataError as in `read_mask`, of the file's form alone."""
    ids, _, opaque, palette = read_pixels(path, False)
    return Survey(path, None if ids is None else np.bincount(ids.ravel(), minlength=256) > 0, palette,
                  greys=_greys(ids, opaque, palette))


def survey_scribbles(classes, undrawn, palettes, first_id, path):
    """Return the Survey of scribbles; arguments as in `read_scribbles`, `coding`, `find_first_id`; errors likewise."""
    undrawn = as_colour(undrawn)
    ids, pixels, opaque, palette = read_pixels(path, by_colour(classes, palettes))
    if ids is not None:
        if palette is not None:
            palette = {index: colour for index, colour in palette.items()
                       if index in ids[opaque] and (not undrawn or set(undrawn) != {index}) and colour != undrawn}
        opaque = opaque & ~is_undrawn(ids, undrawn)
        counts = np.bincount(ids[opaque], minlength=256)
        # Where 0 is not drawn and nobody says otherwise, the value after the last class shows that they count from 1.
        of_none = counts[len(classes.names) + (undrawn == BLACK if first_id is None else first_id):]
        # Where nothing else is, what is not drawn is one of these values.
        paper = of_none.max() if opaque.all() else 0
        return Survey(path, counts > 0, palette, greys=_greys(ids, opaque, palette), of_none=int(of_none.sum() - paper))
    labels, drawn, exact = nearest_classes(pixels, opaque, classes, undrawn)
    return Survey(path, None, None, int(drawn.sum()), int((drawn & (labels >= 0) & ~exact).sum()),
                  int((drawn & (labels < 0)).sum()))


def coding(surveys, classes, palettes=None, fixes=()):
    """Return the Coding of a folder's drawings, of which `surveys` were made.

    `palettes` is `ids` or `colours` where the user says so. Otherwise colours count where the ClassList has them; ids
    where every index has one colour in all files, and no other index has it. Grey files hold ids, unless the ClassList
    has colours and the user says `colours`. DataError: neither can be, the colours are those of other classes by PASCAL
    VOC's rule, black is not the first, or grey values may be ids as well as greys of the ClassList.
    """
    if palettes is None and classes.colours is not None:
        _refuse_greys(surveys, classes)
    if palettes is not None or classes.colours is not None:
        return Coding(by_colour(classes, palettes), fixes, palettes == 'colours' and classes.colours is not None)
    colours, indices, number = {}, {}, len(classes.names)
    for survey in surveys:
        used = {index: colour for index, colour in (survey.palette or {}).items() if index < number}
        is_informative = len(set(used.values())) == len(used)
        for index, colour in used.items():
            path, other = colours.setdefault(index, (survey.path, colour))
            clash = f'number {index} has the colour {other} in {path}, but {colour} in {survey.path}'
            if other == colour:
                path, other = indices.setdefault(colour, (survey.path, index)) if is_informative else (path, index)
                if other == index:
                    continue
                clash = f'the colour {colour} is number {other} in {path}, but {index} in {survey.path}'
            if all(known in classes.values for survey in surveys for known in (survey.palette or {}).values()):
                return Coding(True, fixes)
            raise DataError(f'{survey.path}: the palettes of these files do not agree: {clash}; write the colours into '
                            f'{classes.path}, or give --palettes ids if the numbers are the class ids all the same')
    by_voc = {index: classes.values.get(colour) for index, (_, colour) in colours.items()}
    is_informative = len({colour for _, colour in colours.values()}) == len(colours)
    if is_informative and None not in by_voc.values() and any(index != value for index, value in by_voc.items()):
        index, value = next((index, value) for index, value in by_voc.items() if index != value)
        raise DataError(f'{colours[index][0]}: number {index} has the colour that PASCAL VOC gives to the class '
                        f'{value}, so which of both counts? Give --palettes ids or --palettes colours, or write '
                        f'the colours into {classes.path}')
    black = next((index for index, (_, colour) in colours.items() if colour == (0, 0, 0)), 0)
    if is_informative and black:
        raise DataError(f'{colours[black][0]}: number {black} is black, as the class 0 usually is, so which of both '
                        f'counts? Write the colours into {classes.path}, or give --palettes ids')
    return Coding(False, fixes)


def find_first_id(surveys, classes, by, undrawn, given=None):
    """Return the value of the first class in scribbles, read by a Coding, of which `surveys` were made.

    It is 0; where the value 0 is not drawn, 1 if the value after that of the last class occurs; or what is `given`, 0,
    1 or None. Where colours say the class in all, it is None. DataError: 0 is not drawn, that value does not occur,
    and nothing is given.
    """
    seen = [survey for survey in surveys if survey.values is not None and survey.holds_ids(by)]
    number = len(classes.names)
    if not seen:
        return None
    if given is not None or as_colour(undrawn) != BLACK:
        return given or 0
    if any(survey.values[number] for survey in seen):
        return 1
    raise DataError(f'{seen[0].path}: 0 is not drawn, and no scribble has the value {number}, so which value means '
                    f'{classes.names[0]}, the first class? Give --first_id 1 if ids count from 1, and --first_id 0 if '
                    f'1 means {classes.names[1]}')


def _refuse_greys(surveys, classes):
    """Refuse grey files whose values are greys of the class list and mean something else as ids.

    They do not where a value is the id of a class and no grey of the list, and no grey of the list is too high an id.
    """
    number, values = len(classes.names), {value for survey in surveys for value in survey.greys}
    greys = {value: classes.values[value, value, value] for value in values if (value,) * 3 in classes.values}
    strange = sorted(value for value, label in greys.items() if label != value)
    if strange and (not any(value < number and value not in greys for value in values)
                    or any(number <= value < UNLABELLED for value in greys)):
        path = next(survey.path for survey in surveys if strange[0] in survey.greys)
        raise DataError(f'{path}: a grey file with the value {strange[0]}, but ({strange[0]}, {strange[0]}, '
                        f'{strange[0]}) is a colour of {classes.path}; give --palettes colours if that counts, or '
                        '--palettes ids if its values are class ids')


def check_no_class(surveys, classes, by, has_background=True):
    """Look for masks, read by a Coding, in which 255 or 254 is a class or ids count from 1: refuse or warn of them.

    DataError: all that masks of ids hold is a single class and 255, void, or 254, unlabelled; or there is one class
    besides the background, and no mask has it beside 255.
    """
    seen = [survey for survey in surveys if survey.values is not None and survey.holds_ids(by)]
    used = np.any([survey.values for survey in seen], axis=0) if seen else np.ones(256, bool)
    if not used[0] and not by.fixes and used[1:len(classes.names)].all():
        shifts = ' '.join(f'{index + 1}={index}' for index in range(min(3, len(classes.names) - 1)))
        logger.warning('WARNING: no mask of ids has the value 0, %s, and all others occur; if ids count from 1, give '
                       '--fix %s%s', classes.names[0], shifts, ' ...' * (len(classes.names) > 4))
    fixed = fix_table(by.fixes)
    absent = [name for index, name in enumerate(classes.names) if index not in fixed[used]]
    is_binary = len(classes.names) == 2
    for value, meaning in ((VOID, 'void'), (UNLABELLED, 'unlabelled')):
        holding = [survey for survey in seen if survey.values[value]]
        if not holding or value in dict(by.fixes):
            continue
        # Void surrounds objects, so one is there, too; where somebody gave a class this value, background may be alone.
        alone = [survey for survey in holding if has_background and value == VOID and {0} == {
            *range(len(classes.names))} & {*fixed[survey.values].tolist()}]
        if not absent and not alone:
            continue
        told = (f'{len(holding)} of {len(seen)} masks of ids hold {value}, which means {meaning}, '
                + f'{len(alone)} of these beside nothing but {classes.names[0]}, ' * bool(alone)
                + f'for example {(alone or holding)[0].path}'
                + f', and none has {", ".join(absent[:3])}{" ..." * (len(absent) > 3)}' * bool(absent))
        only = absent[0] if len(absent) == 1 else classes.names[1] if is_binary else 'NAME'
        way_out = f'if {value} is a class, give --fix {value}={only}, and if it is not, --fix {value}={meaning}'
        if len(absent) >= len(classes.names) - 1 or (is_binary and len(alone) == len(holding)):
            raise DataError(f'{told}; {way_out}')
        logger.warning('WARNING: %s; %s', told, way_out)


def warn_of_colours(surveys, by):
    """Say how much of scribbles, read by a Coding, is drawn in colours or with ids that are not in the class list."""
    drawn = sum(survey.drawn for survey in surveys)
    for what, counts in (('are near one in the class list and count as it', [survey.snapped for survey in surveys]),
                         ('are near none in the class list and do not count', [survey.lost for survey in surveys])):
        if sum(counts):
            first = next(survey for survey, count in zip(surveys, counts, strict=True) if count)
            logger.warning('WARNING: %d of %d drawn pixels (%.1f %%) have colours that %s, for example in %s',
                           sum(counts), drawn, 100 * sum(counts) / drawn, what, first.path)
    strange = [survey for survey in surveys if survey.of_none and survey.holds_ids(by)]
    if strange:
        logger.warning('WARNING: %d scribbles have pixels with ids of no class besides what is not drawn, %d pixels in '
                       'all, and these do not count, for example in %s', len(strange),
                       sum(survey.of_none for survey in strange), strange[0].path)


def _greys(ids, opaque, palette):
    """Return the values in a drawing that is grey, see `read_pixels`, () of others."""
    return () if ids is None or palette is not None else tuple(np.unique(ids[opaque]).tolist())
