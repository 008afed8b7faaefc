"""Zip archives from strangers (`.npz`, `.pth`): how large they are is known before anything in them is unpacked."""
import math
import os
import struct
import zipfile

import numpy as np

_END, _END_64 = b'PK\x05\x06', b'PK\x06\x06'
# A comment of 64 KiB may follow the end of the list of members, and the records of large archives precede it.
_TAIL = (1 << 16) + 22 + 20 + 56
# A list of members takes some ten times its size in memory. A network has a few hundred tensors.
_MOST_LISTED = 4 << 20


def members(source):
    """Return the ZipInfo of each member of a zip archive, given as a binary file; ValueError: its list is too long.

    zipfile.BadZipFile: it is not an archive.
    """
    length = source.seek(0, os.SEEK_END)
    source.seek(max(0, length - _TAIL))
    tail = source.read()
    listed, at = 0, tail.rfind(_END)
    if 0 <= at <= len(tail) - 22:
        listed, = struct.unpack_from('<I', tail, at + 12)
    at = tail.rfind(_END_64)
    if listed == 0xFFFFFFFF and 0 <= at <= len(tail) - 56:
        listed, = struct.unpack_from('<Q', tail, at + 40)
    # zipfile reads as much as the file has, whatever is stated.
    if min(listed, length) > _MOST_LISTED:
        raise ValueError(f'a list of {listed} bytes of members')
    source.seek(0)
    with zipfile.ZipFile(source) as archive:
        return archive.infolist()


def check_arrays(source, limit):
    """Check a `.npz`, given as a binary file, before its arrays are read.

    ValueError: its members, or an array by what its header states, are more than `limit` bytes or than the member has.
    """
    found = members(source)
    if sum(member.file_size for member in found) > limit:
        raise ValueError(f'more than {limit} bytes of arrays')
    with zipfile.ZipFile(source) as archive:
        for member in found:
            if member.filename.endswith('.npy'):
                with archive.open(member) as stream:
                    shape, dtype = array_header(stream)
                if math.prod(shape) * dtype.itemsize > member.file_size:
                    raise ValueError(f'{member.filename} states a shape of {shape}, more than the file has')
    source.seek(0)


def array_header(stream):
    """Return the shape and the type that the header of a `.npy` states, given as a binary file, and read past it."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype
