"""Masks and scribbles that somebody drew, PNGs of class ids or of colours, as label maps."""
import io
import pathlib

import numpy as np
from PIL import Image

from spml.data.readers import MAX_PIXELS, decoding
from spml.errors import DataError
from spml.names import UNLABELLED
from spml.visualization.palette import ids_of_colours

_FORMS = 'an 8-bit PNG: grey or palette (class ids), palette or RGB (colours of the class list)'


def read_mask(path, classes):
    """Read a mask, a PNG of the forms above that says the class of every pixel, as an (H, W) uint8 label map.

    Grey values are ids; palette indices too, unless the ClassList has colours. 255 is void, 254 unlabelled; in colours
    they are what the class list says. DataError: the file is missing, damaged, of another form, or holds a value or a
    colour of no class.
    """
    ids, pixels, opaque = _read(path, classes)
    if not opaque.all():
        raise DataError(f'{path}: has transparent pixels, but a mask says the class of every pixel; fill them, or give '
                        'it as scribbles')
    if ids is not None:
        _refuse(path, (ids >= len(classes.names)) & (ids < UNLABELLED), lambda y, x: f'the value {ids[y, x]}',
                f'{classes.path} has the classes 0..{len(classes.names) - 1}')
        return ids
    labels = ids_of_colours(pixels, classes.values)
    _refuse(path, labels < 0, lambda y, x: f'the colour {tuple(pixels[y, x].tolist())}',
            f'no line of {classes.path} does; list it (as void, if it is not a class), and draw without soft edges')
    return labels.astype(np.uint8)


def read_scribbles(path, classes, undrawn=None):
    """Read scribbles as an (H, W) uint8 label map: what is not drawn is unlabelled.

    They are a PNG of the forms above, or one with transparency. Grey values and palette indices as in `read_mask`;
    those of no class are not drawn. Colours of no class, as soft edges have, are not drawn either. `undrawn` is the
    value (grey 0..255) or the colour (R, G, B) of what is not drawn, besides transparent pixels, if there is one; where
    it is the value 0, the classes follow from 1 on. DataError: as in `read_mask`; or nothing or everything is drawn.
    """
    ids, pixels, opaque = _read(path, classes)
    if isinstance(undrawn, int):
        undrawn = (undrawn,) * 3
    if ids is not None:
        labels = ids.astype(int) - (undrawn == (0, 0, 0))
        missing = ids == undrawn[0] if undrawn and len(set(undrawn)) == 1 else np.zeros(labels.shape, bool)
        missing |= (labels < 0) | (labels >= len(classes.names))
    else:
        labels = ids_of_colours(pixels, classes.values)
        missing = labels < 0
        if undrawn:
            missing |= (pixels == np.array(undrawn)).all(-1)
    missing |= ~opaque
    if missing.all():
        raise DataError(f'{path}: nothing is drawn in it with an id or a colour of {classes.path}; check both, and '
                        '--undrawn')
    if not missing.any():
        raise DataError(f'{path}: every pixel of it is drawn; say with --undrawn what is not (0, say, or a colour '
                        '255,255,255), or give it as a mask')
    return np.where(missing, UNLABELLED, labels).astype(np.uint8)


def _read(path, classes):
    """Return ids (H, W) uint8, None where colours say the class; RGB (H, W, 3) uint8; what is opaque, (H, W) bool."""
    with decoding(path, f'PNG; it must be {_FORMS}'):
        content = pathlib.Path(path).read_bytes()
        with Image.open(io.BytesIO(content), formats=('PNG',)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f'{path}: more than {MAX_PIXELS} pixels; scale it down')
            # Pillow silently widens fewer bits of grey to 0..255; the depth is in the header.
            if image.mode not in ('L', 'LA', 'P', 'RGB', 'RGBA') or (content[24] != 8 and image.mode != 'P'):
                raise DataError(f'{path}: a {content[24]}-bit PNG of mode {image.mode}; it must be {_FORMS}')
            rgba = np.array(image.convert('RGBA'))
            has_ids = image.mode in ('L', 'LA') or (image.mode == 'P' and classes.colours is None)
            ids = np.array(image.getchannel(0)) if has_ids else None
    # Threshold the brush's soft edge.
    return ids, rgba[..., :3], rgba[..., 3] >= 128


def _refuse(path, wrong, what, reason):
    """Raise DataError naming the first pixel of `wrong` (H, W) bool and `what(y, x)` it has."""
    if wrong.any():
        y, x = np.argwhere(wrong)[0].tolist()
        raise DataError(f'{path}: the pixel at x = {x}, y = {y} has {what(y, x)}, but {reason}')
