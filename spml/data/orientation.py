"""The EXIF orientation of photos: which way up the stored pixels of a file are.

Cameras often store pixels as the sensor gave them, with a tag that says how to turn them. Viewers and annotation tools
show them turned, so labels are drawn on upright pixels. Wherever this project reads a photo, from a file or from a PIL
image, it uses these functions, so that a tag means the same everywhere.
"""
import contextlib
import os
import struct

import numpy as np

UPRIGHT = 1  # the tag's value for pixels that are stored as they are shown
_TAG = 0x0112
_TAG_CHUNKS = (b'eXIf', b'tEXt', b'zTXt', b'iTXt')
# By the tag's value: whether rows and columns change places, and whether rows, then columns, are then reversed.
_TURNS = {1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
          5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False)}


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
