"""Masks and scribbles that somebody drew, files of class ids or of colours, as label maps.

How the files of a folder say the class, a `Coding`, is decided for all of them at once, by `drawing_survey`.
"""
from typing import NamedTuple

import numpy as np

from spml.data.decoding import UPRIGHT, opened_image, orientation, read_bytes
from spml.errors import DataError
from spml.names import UNLABELLED
from spml.visualization.palette import ids_of_colours

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
BLACK = (0, 0, 0)
_OFF_BLEND = 24  # how far (Euclidean) a blend of two colours may be from the line between them


class Coding(NamedTuple):
    """How the files of a folder say which class a pixel has.

    `by_colour`: the colours of palettes do, not the indices. `fixes`: pairs (value, what it is written as), of ids.
    `greys_too`: grey files are in the greys of the class list, instead of in ids. `first_id`: the value of the first
    class in scribbles of ids, 0 (or None, where there are none) or 1.
    """

    by_colour: bool
    fixes: tuple = ()
    greys_too: bool = False
    first_id: int | None = None


def read_mask(path, classes, coding=None):
    """Read a mask, a file of the forms above that says the class of every pixel, as an (H, W) uint8 label map.

    Grey values are ids unless `coding` says otherwise; palette indices too (default: unless the ClassList has colours).
    255 is void, 254 unlabelled; in colours they are what the class list says. DataError: the file is missing, damaged,
    of another form, or holds a value or a colour of no class.
    """
    coding = coding or Coding(by_colour(classes))
    ids, pixels, opaque, _ = read_pixels(path, coding.by_colour, coding.greys_too)
    if not opaque.all():
        raise DataError(f'{path}: has transparent pixels, but a mask says the class of every pixel; fill them, or give '
                        'it as scribbles')
    if ids is not None:
        ids = fix_table(coding.fixes)[ids]
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
    undrawn, coding = as_colour(undrawn), coding or Coding(by_colour(classes))
    ids, pixels, opaque, _ = read_pixels(path, coding.by_colour, coding.greys_too)
    if ids is not None:
        labels, number = ids.astype(int) - (coding.first_id or 0), len(classes.names)
        missing = is_undrawn(ids, undrawn) | (labels < 0) | (labels >= number)
        if undrawn is None and opaque.all() and ids.max() == number and np.bincount(ids.ravel()).argmax() == 0:
            raise DataError(f'{path}: most of it is 0, and its largest value {number} is the number of classes; if ids '
                            f'count from 1, give --undrawn 0; if {number} is what is not drawn, --undrawn {number}')
        paper = None
    else:
        labels, _, _ = nearest_classes(pixels, opaque, classes, undrawn)
        missing = (labels < 0) | (labels == UNLABELLED)
        paper = _paper_of_a_class(pixels, classes) if undrawn is None and opaque.all() else None
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


def by_colour(classes, palettes=None):
    """Return whether colours say the class in indexed files, as far as the ClassList and the user's word do."""
    return palettes == 'colours' or (palettes is None and classes.colours is not None)


def as_colour(undrawn):
    """Return what is not drawn, a grey 0..255, a colour (R, G, B) or None, as a colour or None."""
    return (undrawn,) * 3 if isinstance(undrawn, int) else undrawn


def is_undrawn(ids, undrawn):
    """Return (H, W) bool: what has the grey (R, G, B) that is not drawn; nothing has where that is None or no grey."""
    return ids == undrawn[0] if undrawn and len(set(undrawn)) == 1 else np.zeros(ids.shape, bool)


def fix_table(fixes):
    """Return (256,) uint8: what each value is written as."""
    table = np.arange(256, dtype=np.uint8)
    for old, new in fixes:
        table[old] = new
    return table


def nearest_classes(pixels, opaque, classes, undrawn):
    """Return of (H, W, 3) uint8 pixels the label values, what is drawn, and what of that has its very colour.

    They are (H, W): ints, -1 for what is of no class, and twice bool.
    Where nothing is transparent, the paper is what most of the drawing is. Where nothing is that either, as in
    scribbles on a photo, only exact colours are drawn.
    """
    labels, values = np.full(opaque.shape, -1), dict(classes.values)
    colours, inverse, counts = _colours(pixels[opaque])
    exact = np.array([values.get(tuple(colour), -1) for colour in colours.tolist()], int)
    paper = np.zeros(len(colours), bool)
    if undrawn:
        paper = (colours == np.array(undrawn)).all(-1)
    elif opaque.all() and 2 * counts.max() >= opaque.size:
        paper[counts.argmax()] = exact[counts.argmax()] in (-1, UNLABELLED)
    exact[paper] = -1
    found, drawn = exact, exact >= 0
    if paper.any() or not opaque.all():
        candidates = [(colour, value) for colour, value in values.items() if tuple(undrawn or ()) != colour]
        candidates += [(tuple(colour), -1) for colour in colours[paper].tolist()]
        nearest, second = np.full(len(colours), np.inf), np.full(len(colours), np.inf)
        found, drawn = np.full(len(colours), -1), ~paper
        for colour, value in candidates:
            distance = np.linalg.norm(colours - np.array(colour), axis=-1)
            wins = distance < nearest
            second = np.where(wins, nearest, np.minimum(second, distance))
            nearest, found = np.where(wins, distance, nearest), np.where(wins, value, found)
        found[(nearest > _NEAR) | (2 * nearest > second)] = -1
    labels[opaque] = found[inverse]
    is_drawn, is_exact = np.zeros((2, *opaque.shape), bool)
    is_drawn[opaque], is_exact[opaque] = drawn[inverse], (exact >= 0)[inverse]
    return labels, is_drawn, is_exact


def _paper_of_a_class(pixels, classes):
    """Return the colour (R, G, B) of a class that seems to be the paper of a drawing, (H, W, 3) uint8 RGB, or None.

    Most of the drawing has it, and what has the colour of no class are mostly blends of it and another: the soft edges
    of strokes. A photo that was drawn on has other colours.
    """
    colours, _, counts = _colours(pixels.reshape(-1, 3))
    values = np.array([classes.values.get(tuple(colour), UNLABELLED) for colour in colours.tolist()])
    paper, others = colours[counts.argmax()], values == UNLABELLED
    if values[counts.argmax()] >= UNLABELLED or 2 * counts.max() < counts.sum() or not others.any():
        return None
    away, is_blend = colours[others] - paper, np.zeros(others.sum(), bool)
    for colour in colours[values < UNLABELLED] - paper:
        share = np.clip(away @ colour / max(colour @ colour, 1), 0, 1)
        is_blend |= np.linalg.norm(away - share[:, None] * colour, axis=-1) <= _OFF_BLEND
    return tuple(paper.tolist()) if 2 * counts[others][is_blend].sum() > counts[others].sum() else None


def read_pixels(path, by_colour, greys_too=False):
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


def _colours(pixels):
    """Return the colours in (N, 3) uint8 pixels, (K, 3) ints; for each pixel which it has; and how many have each."""
    codes, inverse, counts = np.unique(pixels.astype(np.int64) @ (1 << 16, 1 << 8, 1), return_inverse=True,
                                       return_counts=True)
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1), inverse.ravel(), counts


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
