"""Photos on their way into a data set: those that are stored turned (EXIF orientation) are written upright, once.

Annotation tools show photos upright, so labels are drawn on upright pixels. Other programs draw on the pixels as they
are stored: then these stay as they are, and the tag goes. A photo without the tag is never touched.
"""
import io
import pathlib
import struct

import numpy as np
from PIL import Image, JpegImagePlugin

from spml.data import decoding
from spml.data.readers import image_size, read_image, stored_orientation
from spml.utils.files import atomic_path, place_file
from spml.utils.formats import encoded

# Which pixels labels were drawn on.
UPRIGHT, STORED = ORIENTATIONS = ('upright', 'stored')
SAME_PHOTO = ('use the photo that was annotated; if the tool ignored its EXIF orientation, prepare_custom.py takes it '
              'with --orientation stored')
TURNING = {UPRIGHT: 'they are written upright; if labels were drawn on the pixels as stored, give --orientation stored',
           STORED: 'their pixels are kept as stored, without the tag'}

_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}
_SWAPPING = (5, 6, 7, 8)
_KEPT = ('icc_profile', 'transparency', 'gamma', 'dpi')  # of what a file says about its pixels
_FULL_CHROMA, _HALF_ACROSS = 0, 1  # Pillow's numbers for 4:4:4 and 4:2:2


def photo_size(path, drawn_on):
    """Return the (height, width) of a photo's pixels as `place_photo` writes them."""
    return image_size(path, as_stored=drawn_on == STORED)


def place_photo(source, path, drawn_on):
    """Let `path` hold the photo `source` without an EXIF orientation.

    Args:
        source: a JPEG or PNG.
        path: of the same kind; a link to `source` where that has no orientation.
        drawn_on: `UPRIGHT` turns the pixels, `STORED` keeps them and drops the tag.

    A PNG keeps its values. A JPEG is only stored anew to be turned, with its own quantisation and sampling of
    colours, so with no less quality. DataError: the photo cannot be read.
    """
    value = stored_orientation(source)
    read_image(source)  # what is damaged or of another kind is refused here, not days later when it is its turn
    if value == decoding.UPRIGHT:
        place_file(source, path)
        return
    content = pathlib.Path(source).read_bytes()
    with Image.open(io.BytesIO(content), formats=('JPEG', 'PNG')) as image:
        is_png = image.format == 'PNG'
        if is_png or drawn_on == UPRIGHT:
            content = _encoded(image, value if drawn_on == UPRIGHT else decoding.UPRIGHT)
        else:
            content = _without_tags(content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _encoded(image, value):
    """Return the file of an image whose EXIF orientation is `value`, turned upright."""
    image.load()
    turned = image.transpose(_TURNS[value]) if value in _TURNS else image.copy()
    turned.info = {key: image.info[key] for key in _KEPT if key in image.info}
    if image.format == 'PNG':
        return encoded(turned)
    tables = [np.reshape(table, (8, 8)) for _, table in sorted(image.quantization.items())]
    sampling = JpegImagePlugin.get_sampling(image)
    if value in _SWAPPING:
        tables = [table.T for table in tables]  # of frequencies down and across
        sampling = _FULL_CHROMA if sampling == _HALF_ACROSS else sampling  # it would be half down, which Pillow lacks
    return encoded(turned, 'jpeg', qtables=[table.ravel().tolist() for table in tables],
                   subsampling=max(sampling, _FULL_CHROMA), icc_profile=image.info.get('icc_profile'))


def _without_tags(content):
    """Return a JPEG without the segments that hold EXIF and XMP; its pixels are the same, bit by bit."""
    kept, at = [content[:2]], 2
    while content[at:at + 2] != b'\xff\xda':  # the pixels begin
        length = 2 + struct.unpack('>H', content[at + 2:at + 4])[0] if content[at + 1] != 0xff else 1  # or a fill byte
        if content[at + 1] != 0xe1:
            kept.append(content[at:at + length])
        at += length
    return b''.join([*kept, content[at:]])
