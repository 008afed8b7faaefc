"""Masks and scribbles that somebody drew, files of class ids or of colours, as label maps.

Whether the numbers of an indexed file are class ids or its palette's colours say the class is decided for all files of
a folder at once (`coding`): programs that save as few colours as they can number them anew in every file.
"""
import logging
import pathlib
from typing import NamedTuple

import numpy as np

from spml.data.decoding import UPRIGHT, opened_image, orientation, read_bytes
from spml.errors import DataError
from spml.names import UNLABELLED, VOID
from spml.visualization.palette import ids_of_colours

logger = logging.getLogger(__name__)

ENDINGS = ('.png', '.tif', '.tiff', '.bmp')
# What cannot hold class values, or not for sure, and why.
UNFIT_ENDINGS = {**dict.fromkeys(('.jpg', '.jpeg', '.jp2', '.avif', '.heic'), 'compression changes its values'),
                 **dict.fromkeys(('.webp', '.gif'), 'it is not read as a label')}
_FORMATS = ('PNG', 'TIFF', 'BMP')
_FORM = 'an 8-bit PNG, TIFF or BMP: grey or palette (class ids), palette or RGB (colours of the class list)'
_LOSSY_TIFF = ('jpeg', 'tiff_jpeg', 'webp')
# A colour is one of the class list that was blurred if it is as near as this (Euclidean, of 0..255 a channel), and
# twice as near as any other.
_NEAR = 64
# Of a drawing without transparency: where less of it is left, that is the edge of strokes, and the paper has the colour
# of a class.
_LEAST_UNDRAWN = 0.1
_OFF_BLEND = 24  # how far (Euclidean) a blend of two colours may be from the line between them


class Coding(NamedTuple):
    """How the files of a folder say which class a pixel has.

    `by_colour`: the colours of palettes do, not the indices. `fixes`: pairs (value, what it is written as), of ids.
    `greys_too`: grey files are in the greys of the class list, instead of in ids. `first_id`: the value of the first
    class in scribbles of ids, 0 or 1, or None where there are none.
    """

    by_colour: bool
    fixes: tuple = ()
    greys_too: bool = False
    first_id: int | None = 0


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


def read_mask(path, classes, coding=None):
    """Read a mask, a file of the forms above that says the class of every pixel, as an (H, W) uint8 label map.

    Grey values are ids unless `coding` says otherwise; palette indices too (default: unless the ClassList has colours).
    255 is void, 254 unlabelled; in colours they are what the class list says. DataError: the file is missing, damaged,
    of another form, or holds a value or a colour of no class.
    """
    coding = coding or Coding(classes.colours is not None)
    ids, pixels, opaque, _ = _read(path, coding.by_colour, coding.greys_too)
    if not opaque.all():
        raise DataError(f'{path}: has transparent pixels, but a mask says the class of every pixel; fill them, or give '
                        'it as scribbles')
    if ids is not None:
        ids = _fixed(coding.fixes)[ids]
        number = len(classes.names)
        from_one = (f', or, if ids count from 1 and 0 is none, --fix 0=void 1=0 2=1{" ..." * (number > 2)}'
                    if ids[ids < UNLABELLED].max(initial=0) == number and not coding.fixes else '')
        _refuse(path, (ids >= number) & (ids < UNLABELLED), lambda y, x: f'the value {ids[y, x]}',
                lambda y, x: f'{classes.path} has the classes 0..{number - 1}; list what is missing, or '
                f'give --fix {ids[y, x]}=void (or =unlabelled, or the name of a class){from_one}')
        return ids
    labels = ids_of_colours(pixels, classes.values)
    _refuse(path, labels < 0, lambda y, x: f'the colour {tuple(pixels[y, x].tolist())}',
            lambda y, x: f'no line of {classes.path} does; list it (as void, if it is not a class), and draw without '
            f'soft edges{"; class ids must be saved as grey" * (len(set(pixels[y, x].tolist())) == 1)}')
    return labels.astype(np.uint8)


def read_scribbles(path, classes, undrawn=None, coding=None):
    """Read scribbles as an (H, W) uint8 label map: what is not drawn is unlabelled.

    They are a file of the forms above, or one with transparency. Grey values and palette indices as in `read_mask`;
    those of no class are not drawn. Colours that are near one of the class list, as soft edges have, count as it;
    others are not drawn. `undrawn` is the value (grey 0..255) or the colour (R, G, B) of what is not drawn, besides
    transparent pixels, if there is one. DataError: as in `read_mask`; or nothing or, where nothing is transparent,
    nearly everything is drawn.
    """
    if isinstance(undrawn, int):
        undrawn = (undrawn,) * 3
    coding = coding or Coding(classes.colours is not None)
    ids, pixels, opaque, _ = _read(path, coding.by_colour, coding.greys_too)
    if ids is not None:
        labels, number = ids.astype(int) - (coding.first_id or 0), len(classes.names)
        missing = _is_undrawn(ids, undrawn) | (labels < 0) | (labels >= number)
        if undrawn is None and opaque.all() and ids.max() == number and np.bincount(ids.ravel()).argmax() == 0:
            raise DataError(f'{path}: most of it is 0, and its largest value {number} is the number of classes; if ids '
                            f'count from 1, give --undrawn 0; if {number} is what is not drawn, --undrawn {number}')
    else:
        labels, _, _ = _nearest(pixels, opaque, classes, undrawn)
        missing = (labels < 0) | (labels == UNLABELLED)
    paper = _paper_of_a_class(pixels, classes) if ids is None and undrawn is None and opaque.all() else None
    missing |= ~opaque
    if missing.all():
        raise DataError(f'{path}: nothing is drawn in it with an id or a colour of {classes.path}; check both, and '
                        '--undrawn')
    if not missing.any() or (opaque.all() and missing.mean() < _LEAST_UNDRAWN):
        share = f'{100 * (1 - missing.mean()):.0f} % of its pixels are' if missing.any() else 'every pixel of it is'
        raise DataError(f'{path}: {share} drawn; say with --undrawn what is not (0, say, or a colour 255,255,255), or '
                        'give it as a mask')
    if paper is not None:
        colour = ','.join(map(str, paper))
        raise DataError(f'{path}: most of it has the colour {colour} of a class, and what has none are soft edges; '
                        f'give --undrawn {colour} if that is paper, and if it is drawn, a colour that does not occur')
    return np.where(missing, UNLABELLED, labels).astype(np.uint8)


def survey_mask(path):
    """Return the Survey of a mask; DataError as in `read_mask`, of the file's form alone."""
    ids, _, opaque, palette = _read(path, False)
    return Survey(path, None if ids is None else np.bincount(ids.ravel(), minlength=256) > 0, palette,
                  greys=_greys(ids, opaque, palette))


def survey_scribbles(classes, undrawn, palettes, first_id, path):
    """Return the Survey of scribbles; arguments as in `read_scribbles`, `coding`, `find_first_id`; errors likewise."""
    if isinstance(undrawn, int):
        undrawn = (undrawn,) * 3
    ids, pixels, opaque, palette = _read(path, (classes.colours is not None and palettes is None)
                                         or palettes == 'colours')
    if ids is not None:
        if palette is not None:
            palette = {index: colour for index, colour in palette.items()
                       if index in ids[opaque] and (not undrawn or set(undrawn) != {index}) and colour != undrawn}
        opaque = opaque & ~_is_undrawn(ids, undrawn)
        counts = np.bincount(ids[opaque], minlength=256)
        # Where 0 is not drawn and nobody says otherwise, the value after the last class shows that they count from 1.
        of_none = counts[len(classes.names) + (undrawn == (0, 0, 0) if first_id is None else first_id):]
        # Where nothing else is, what is not drawn is one of these values.
        paper = of_none.max() if opaque.all() else 0
        return Survey(path, counts > 0, palette, greys=_greys(ids, opaque, palette), of_none=int(of_none.sum() - paper))
    labels, drawn, exact = _nearest(pixels, opaque, classes, undrawn)
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
        return Coding(palettes != 'ids', fixes, palettes == 'colours' and classes.colours is not None)
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
    if given is not None or undrawn not in (0, (0, 0, 0)):
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
    fixed = _fixed(by.fixes)
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


def _is_undrawn(ids, undrawn):
    """Return (H, W) bool: what has the grey (R, G, B) that is not drawn; nothing has where that is None or no grey."""
    return ids == undrawn[0] if undrawn and len(set(undrawn)) == 1 else np.zeros(ids.shape, bool)


def _fixed(fixes):
    """Return (256,) uint8: what each value is written as."""
    table = np.arange(256, dtype=np.uint8)
    for old, new in fixes:
        table[old] = new
    return table


def _nearest(pixels, opaque, classes, undrawn):
    """Return of (H, W, 3) uint8 pixels the label values, what is drawn, and what of that has its very colour.

    They are (H, W): ints, -1 for what is of no class, and twice bool.
    Where nothing is transparent, the paper is what most of the drawing is. Where nothing is that either, as in
    scribbles on a photo, only exact colours are drawn.
    """
    labels, values = np.full(opaque.shape, -1), dict(classes.values)
    codes, inverse, counts = np.unique(pixels[opaque].astype(np.int64) @ (1 << 16, 1 << 8, 1), return_inverse=True,
                                       return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1)
    exact = np.array([values.get(tuple(colour), -1) for colour in colours.tolist()], int)
    paper = np.zeros(len(codes), bool)
    if undrawn:
        paper = (colours == np.array(undrawn)).all(-1)
    elif opaque.all() and 2 * counts.max() >= opaque.size:
        paper[counts.argmax()] = exact[counts.argmax()] in (-1, UNLABELLED)
    exact[paper] = -1
    found, drawn = exact, exact >= 0
    if paper.any() or not opaque.all():
        candidates = [(colour, value) for colour, value in values.items() if tuple(undrawn or ()) != colour]
        candidates += [(tuple(colour), -1) for colour in colours[paper].tolist()]
        nearest, second = np.full(len(codes), np.inf), np.full(len(codes), np.inf)
        found, drawn = np.full(len(codes), -1), ~paper
        for colour, value in candidates:
            distance = np.linalg.norm(colours - np.array(colour), axis=-1)
            wins = distance < nearest
            second = np.where(wins, nearest, np.minimum(second, distance))
            nearest, found = np.where(wins, distance, nearest), np.where(wins, value, found)
        found[(nearest > _NEAR) | (2 * nearest > second)] = -1
    labels[opaque] = found[inverse.ravel()]
    is_drawn, is_exact = np.zeros((2, *opaque.shape), bool)
    is_drawn[opaque], is_exact[opaque] = drawn[inverse.ravel()], (exact >= 0)[inverse.ravel()]
    return labels, is_drawn, is_exact


def _paper_of_a_class(pixels, classes):
    """Return the colour (R, G, B) of a class that seems to be the paper of a drawing, (H, W, 3) uint8 RGB, or None.

    Most of the drawing has it, and what has the colour of no class are mostly blends of it and another: the soft edges
    of strokes. A photo that was drawn on has other colours.
    """
    codes, counts = np.unique(pixels.reshape(-1, 3).astype(np.int64) @ (1 << 16, 1 << 8, 1), return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1)
    values = np.array([classes.values.get(tuple(colour), UNLABELLED) for colour in colours.tolist()])
    paper, others = colours[counts.argmax()], values == UNLABELLED
    if values[counts.argmax()] >= UNLABELLED or 2 * counts.max() < counts.sum() or not others.any():
        return None
    away, is_blend = colours[others] - paper, np.zeros(others.sum(), bool)
    for colour in colours[values < UNLABELLED] - paper:
        share = np.clip(away @ colour / max(colour @ colour, 1), 0, 1)
        is_blend |= np.linalg.norm(away - share[:, None] * colour, axis=-1) <= _OFF_BLEND
    return tuple(paper.tolist()) if 2 * counts[others][is_blend].sum() > counts[others].sum() else None


def _greys(ids, opaque, palette):
    """Return the values in a drawing that is grey, see `_read`, () of others."""
    return () if ids is None or palette is not None else tuple(np.unique(ids[opaque]).tolist())


def _read(path, by_colour, greys_too=False):
    """Return the ids, the colours, what is opaque, and the palette of a drawing.

    They are (H, W) uint8, None where colours say the class; (H, W, 3) uint8 RGB; (H, W) bool; and a dict from the
    indices that occur to their colours, None without a palette.
    """
    content = read_bytes(path)
    with opened_image(path, content, _FORMATS, f'drawing; it must be {_FORM}') as image:
        depth = _depth(image, content)
        if image.mode not in ('L', 'LA', 'P', 'RGB', 'RGBA') or (depth != 8 and image.mode != 'P'):
            raise DataError(f'{path}: a {depth}-bit {image.format} of mode {image.mode}; it must be {_FORM}')
        if image.info.get('compression') in _LOSSY_TIFF:
            raise DataError(f'{path}: a TIFF with lossy compression, which changes the values; save it without')
        if _pages(image) > 1:
            raise DataError(f'{path}: a {image.format} of {_pages(image)} pages; which of them is the label? Save that '
                            'alone')
        if image.format == 'PNG' and orientation(image) != UPRIGHT:
            raise DataError(f'{path}: has an EXIF orientation, as a photo that was stored turned, so which way up it '
                            'was drawn is not known; save it upright, without EXIF')
        rgba = np.array(image.convert('RGBA'))
        has_ids = (image.mode in ('L', 'LA') and not greys_too) or (image.mode == 'P' and not by_colour)
        ids = np.array(image.getchannel(0)) if has_ids else None
        palette = None
        if image.mode == 'P':
            indices, first = np.unique(np.array(image), return_index=True)
            palette = {index: tuple(colour) for index, colour in zip(
                indices.tolist(), rgba.reshape(-1, 4)[first, :3].tolist(), strict=True)}
    # Threshold the brush's soft edge.
    return ids, rgba[..., :3], rgba[..., 3] >= 128, palette


def _pages(image):
    """Return how many pages of a file have the size of the first: smaller ones are previews. The first stays open."""
    number = getattr(image, 'n_frames', 1)
    if number == 1:
        return 1
    count, size = 0, image.size
    for page in range(number):
        image.seek(page)
        count += image.size == size
    image.seek(0)
    return count


def _depth(image, content):
    """Return the bits of a channel. Pillow silently widens fewer bits of grey to 0..255; the depth is in the header."""
    if image.format == 'PNG':
        return content[24]
    if image.format == 'TIFF':
        return max(image.tag_v2.get(258, (1,)))  # BitsPerSample
    return 1 if image.mode == '1' else 8


def _refuse(path, wrong, what, reason):
    """Raise DataError naming the first pixel of `wrong` (H, W) bool, `what(y, x)` it has and `reason(y, x)`."""
    if wrong.any():
        y, x = np.argwhere(wrong)[0].tolist()
        raise DataError(f'{path}: the pixel at x = {x}, y = {y} has {what(y, x)}, but {reason(y, x)}')
