"""From the bytes of an image file to pixels, whatever the bytes are: bounded, checked after opening, damage told of.

JPEG is decoded by OpenCV, because decoders differ by a grey level and the published results used this one; everything
else by Pillow, which notices damage. `spml.data.readers` says what each kind of file must be.

Cameras often store pixels as the sensor gave them, with a tag, the EXIF orientation, that says how to turn them.
Viewers and annotation tools show them turned, so labels are drawn on upright pixels. Wherever this project reads a
photo, from a file or from a PIL image, it uses the functions below, so that a tag means the same everywhere.
"""
import contextlib
import fcntl
import io
import logging
import os
import re
import struct
import threading

import cv2
import numpy as np
from PIL import Image, ImageFile

from spml.errors import DataError, WrongEncodingError, first_line
from spml.program import warn_once

logger = logging.getLogger(__name__)

# Decoding is refused beyond this: a small hostile file cannot fill the memory. It lies below Pillow's own limit.
MAX_PIXELS = 80_000_000
# The same for whole files, and for what compressed arrays grow to: no reader takes a gibibyte, copies included.
MAX_BYTES = 1 << 28

# What libjpeg says of a file that it decodes all the same, with pixels that may be wrong.
_COMPLAINT = re.compile(rb'(?:Corrupt JPEG data: |Premature end of JPEG|Inconsistent progression sequence)[^\r\n]*\n?')
# The decoder writes to the standard error of the whole process, which one thread at a time may listen to.
_LISTENING = threading.Lock()

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PNG_COLOURS = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey with alpha', 6: 'RGB with alpha'}
UPRIGHT = 1  # the tag's value for pixels that are stored as they are shown
_TAG = 0x0112
_TAG_CHUNKS = (b'eXIf', b'tEXt', b'zTXt', b'iTXt')
# By the tag's value: whether rows and columns change places, and whether rows, then columns, are then reversed.
_TURNS = {1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
          5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False)}


def warn_of_damage(text):
    """Log, once a file, that an image is damaged and read all the same."""
    warn_once(logger, text)


def read_bytes(path):
    """Return what a file holds; DataError: it cannot be read, or has more than `MAX_BYTES`."""
    try:
        with open(path, 'rb') as source:
            if os.fstat(source.fileno()).st_size > MAX_BYTES:
                raise DataError(f'{path}: a file of more than {MAX_BYTES} bytes; is it the right one?')
            return source.read()
    except FileNotFoundError:
        raise DataError(f'{path}: no such file') from None
    except OSError as error:
        raise DataError(f'{path}: cannot read the file: {error.strerror}') from None


@contextlib.contextmanager
def decoding(path, what):
    """Have whatever a decoder raises inside the `with` block say in one line that the file is not a readable `what`."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f'{path}: no such file') from None
    except Image.DecompressionBombError:
        raise DataError(f'{path}: more than {MAX_PIXELS} pixels; scale it down') from None
    except Exception as error:  # decoders fail on damaged files in any way
        raise DataError(f'{path}: not a readable {what} ({first_line(error)}); replace the file') from None


@contextlib.contextmanager
def opened_image(name, content, formats, what):
    """Yield a PIL image of the bytes of a file, which errors call `name`: its size is checked, nothing decoded yet."""
    with decoding(name, what), Image.open(io.BytesIO(content), formats=formats) as image:
        check_pixels(name, image.size)
        if image.format == 'PNG' and _headers_of_png(content) != 1:
            # Pillow goes by the last one, other checks by the first.
            raise DataError(f'{name}: a damaged PNG (more than one header); replace the file')
        yield image


def png_pixels(name, content, mode=None):
    """Decode the bytes of a PNG: as the (H, W, ...) array that it stores, or converted to a `mode` of Pillow.

    DataError, which calls it `name`: it is damaged, too large, or no PNG.
    """
    with opened_image(name, content, ('PNG',), 'PNG') as image:
        return _array(image, mode)


def png_header(path, content):
    """Return the bit depth, the colour type and the (width, height) that a PNG's first chunk states."""
    if not content.startswith(_PNG_SIGNATURE):
        raise WrongEncodingError(f'{path}: not a PNG file, but a label must be an 8-bit single-channel PNG')
    # Pillow silently widens 2- and 4-bit grey values to 0..255, so the file's own depth decides.
    if len(content) < 26 or content[12:16] != b'IHDR':
        raise DataError(f'{path}: a damaged PNG (no header); replace the file')
    width, height, depth, colour = struct.unpack('>IIBB', content[16:26])
    return depth, _PNG_COLOURS.get(colour, 'strange'), (width, height)


def check_pixels(path, size):
    """Raise DataError unless an image of `size`, (width, height), has pixels, and not too many."""
    if 0 in size:
        raise DataError(f'{path}: {size[0]}x{size[1]} pixels; an image must have at least one')
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f'{path}: {size[0]}x{size[1]} pixels are more than {MAX_PIXELS}; scale the image down')


def _headers_of_png(content):
    """Return how many headers a PNG has before its pixels."""
    at, count = len(_PNG_SIGNATURE), 0
    while at + 8 <= len(content):
        length, chunk = struct.unpack_from('>I4s', content, at)
        if chunk == b'IDAT':
            break
        count += chunk == b'IHDR'
        at += 12 + length
    return count


def decode_image(name, content, on_damage):
    """Return the bytes of a JPEG or PNG as (H, W, 3) uint8 RGB."""
    with opened_image(name, content, ('JPEG', 'PNG'), 'JPEG or PNG image') as image:
        if image.format == 'PNG':
            return rgb_pixels(name, image)
        size, turned = image.size, orientation(image)
        if not content.rstrip(b'\0').endswith(b'\xff\xd9'):
            image.load()  # no end marker: OpenCV 4 would fill what is missing with grey, Pillow raises
    pixels, complaint = _decode_jpeg(content)
    if pixels is None or pixels.shape[1::-1] != size:
        raise DataError(f'{name}: a damaged JPEG; replace the file')
    if complaint:
        on_damage(f'{name}: a damaged JPEG, a part of its pixels is likely to be wrong ({complaint}); replace the file')
    return upright(pixels[:, :, ::-1], turned)


def _decode_jpeg(content):
    """Return a JPEG's (H, W, 3) uint8 BGR pixels, or None, and what libjpeg complained of, or ''.

    OpenCV has libjpeg write complaints to standard error and returns nothing of them.
    """
    with _LISTENING, contextlib.ExitStack() as stack:
        caught = None
        with contextlib.suppress(OSError):  # nobody may have left standard error open
            shown = os.dup(2)
            stack.callback(os.close, shown)
            caught = stack.enter_context(open(os.memfd_create('complaints'), 'r+b'))
            # Writes of two threads to such a file go to the same place otherwise: Linux does not lock its offset.
            fcntl.fcntl(caught, fcntl.F_SETFL, fcntl.fcntl(caught, fcntl.F_GETFL) | os.O_APPEND)
            os.dup2(caught.fileno(), 2)
        pixels = None
        try:
            with contextlib.suppress(cv2.error):
                # Turned by the caller, as PNGs are: OpenCV knows fewer of the places that the tag may be in.
                pixels = cv2.imdecode(np.frombuffer(content, np.uint8),
                                      cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        finally:
            if caught is not None:
                os.dup2(shown, 2)
        if caught is None:
            return pixels, ''
        said = os.pread(caught.fileno(), os.fstat(caught.fileno()).st_size, 0)
    found = _COMPLAINT.search(said)
    if others := _COMPLAINT.sub(b'', said):
        os.write(2, others)  # of another thread
    return pixels, found[0].decode('ascii', 'replace').strip() if found else ''


def unread_content(image):
    """Return the bytes of the file that a PIL image is still to be read from; None where its pixels were read."""
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ('JPEG', 'PNG') or not image.tile:
        return None
    try:
        place = image.fp.tell()
        image.fp.seek(0)
        content = image.fp.read(MAX_BYTES)
        image.fp.seek(place)
        with Image.open(io.BytesIO(content)) as again:
            return content if again.size == image.size else None  # `draft` has made it smaller
    except (AttributeError, OSError, ValueError, Image.DecompressionBombError):
        return None


def rgb_pixels(name, image):
    """Return a PIL image upright as (H, W, 3) uint8 RGB; DataError unless it has 8 bits per channel and can be read."""
    check_pixels(name, image.size)
    stored = [image.mode, *(tile[3] for tile in getattr(image, 'tile', ()))]  # Pillow reads 16 bits of colour as 8
    if image.mode.startswith(('I', 'F')) or ';16' in str(stored):
        depth = 32 if image.mode in ('I', 'F') and ';16' not in str(stored) else 16
        what = f'a {depth}-bit {image.format or "image"}'
        raise WrongEncodingError(f'{name}: {what}, but images must have 8 bits per channel; convert it')
    with decoding(name, 'image'):
        turned = orientation(image)
        return upright(_array(image, 'RGB'), turned)


def _array(image, mode=None):
    """Return the pixels of a PIL image as an array, converted to a mode where one is given."""
    if mode in (None, image.mode):
        return np.array(image)
    converted = image.convert(mode)
    if isinstance(image, ImageFile.ImageFile):
        image.close()  # both and the array would be three copies
    return np.array(converted)


def orientation(image):
    """Return the EXIF orientation of a PIL image, 1 to 8; `UPRIGHT` without one, or with one that cannot be read.

    A PNG may have it after its pixels, so those with such chunks are decoded.
    """
    with contextlib.suppress(Exception):  # a damaged tag; viewers ignore it, too
        if image.format == 'PNG' and image.fp is not None and not _has_tags(image.fp):
            return UPRIGHT
        value = image.getexif()[_TAG]
        return value if value in _TURNS else UPRIGHT
    return UPRIGHT


def _has_tags(stream):
    """Return whether a PNG has chunks that may hold tags, from their headers alone; the stream stays where it is."""
    began = stream.tell()
    try:
        stream.seek(8)
        while len(header := stream.read(8)) == 8:
            length, chunk = struct.unpack('>I4s', header)
            if chunk in _TAG_CHUNKS:
                return True
            stream.seek(length + 4, os.SEEK_CUR)
        return False
    finally:
        stream.seek(began)


def upright(pixels, value):
    """Turn stored pixels (H, W, ...) upright, as their EXIF orientation `value` asks for."""
    swap, rows, columns = _TURNS[value]
    pixels = pixels.swapaxes(0, 1) if swap else pixels
    return np.ascontiguousarray(pixels[::-1 if rows else 1, ::-1 if columns else 1])


def upright_size(image):
    """Return the (height, width) that a PIL image has when it is turned upright."""
    swap, _, _ = _TURNS[orientation(image)]
    return image.size if swap else image.size[::-1]
