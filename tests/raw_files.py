"""Contents of files that no library writes: pictures of any header, pickles that call functions."""
import io
import struct
import zlib

import numpy as np


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(width, height, depth, kind, rows, interlace=0, extra=()):
    """Return a PNG of a header, the rows as they are before compression, and further chunks (name, data)."""
    header = struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, interlace)
    chunks = [chunk(b'IHDR', header), *(chunk(name, data) for name, data in extra),
              chunk(b'IDAT', zlib.compress(rows)), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def without_its_middle(path):
    """Write zeros over the middle third of a file, which leaves a JPEG readable and damaged."""
    content = path.read_bytes()
    third = len(content) // 3
    path.write_bytes(content[:third] + bytes(third) + content[2 * third:])
    return path


def as_object(value):
    box = np.empty((), object)
    box[()] = value
    return box


def object_npy(payload):
    """Return an object `.npy` whose pickle is `payload`."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {'descr': '|O', 'fortran_order': False, 'shape': ()})
    return out.getvalue() + payload


class Evil:
    """Its pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call
