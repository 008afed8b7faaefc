"""Locks on folders, and files in two places."""
import contextlib
import fcntl
import filecmp
import os
import pathlib
import shutil

from spml.utils.atomic import atomic_path


@contextlib.contextmanager
def folder_lock(folder):
    """Let one process at a time into the block for this folder, which is made; the others wait."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        # A file system without locks leaves it to the user to run one process at a time.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def place_file(source, path):
    """Let `path` hold what the file `source` does: as a hard link, or as a copy where there can be none."""
    path = pathlib.Path(path)
    if path.is_file():
        if path.samefile(source) or filecmp.cmp(source, path, shallow=False):
            return
        path.unlink()  # the source was replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), path)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, one without links, or a file of somebody else's
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)
