"""Writing files so that only complete ones ever stand under their final names.

Everything is written beside its destination under a temporary name and renamed: on one file system a rename is atomic,
so an interrupted or full-disk run leaves the old file or none, never half of one.
"""
import contextlib
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
from PIL import Image


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path in the folder of `path`; on success it becomes `path`, on an exception it is removed."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp')
    os.close(handle)
    try:
        yield pathlib.Path(temporary)
        # mkstemp makes files private; results are as readable as the user's umask lets any new file be.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def place_file(source, path):
    """Let `path` be the file `source` too: by a hard link, or by a copy where there can be none; one there is kept."""
    path = pathlib.Path(path)
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), path)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, one without links, or a file of somebody else's
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)


def write_text(path, text):
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_json(path, value):
    """Write `value` as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2) + '\n')


def write_png(path, array):
    """Write an (H, W) uint8 or uint16 or an (H, W, 3) uint8 RGB array as PNG atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format='PNG')


def write_npz(path, **arrays):
    """Write the named arrays as an uncompressed `.npz` atomically."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as out:
        np.savez(out, **arrays)
