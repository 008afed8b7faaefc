"""Files that are complete wherever they have their final names, files in two places, locks on folders, and weights.

What is written goes next to its destination under a temporary name and is renamed: on one file system a rename is
atomic, so an interrupted or full-disk run leaves the old file or none, never half of one. A process that is killed
outright leaves its temporary file behind; the name says whose it is, and `remove_abandoned` clears it away.

The weights of a training are `model-<iteration>.pth` in its folder.
"""
import contextlib
import fcntl
import filecmp
import os
import pathlib
import re
import shutil
import socket
import tempfile

from spml.names import PRETRAINED_NAMES

# Letters that cannot be mistaken for the dashes between the parts of a temporary name.
_HOST = re.sub(r'[^A-Za-z0-9]', '', socket.gethostname())[:32] or 'host'
_TEMPORARY = re.compile(r'\.(?P<host>[A-Za-z0-9]+)-(?P<process>\d+)-[^-]*\.tmp')
# The folder that holds spml/, configs/ and snapshots/.
PROJECT = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def atomic_path(path, durable=False):
    """Yield a temporary path in the folder of `path`; on success it becomes `path`, on an exception it is removed.

    Args:
        path: where the file will be; missing folders are made.
        durable: have the disk itself hold the file before it gets its name, so that it outlives a machine that fails.
            Too slow for thousands of small files that are easily made again.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{_HOST}-{os.getpid()}-', suffix='.tmp')
        os.close(handle)
        yield pathlib.Path(temporary)
        # mkstemp makes files private; results are as readable as the user's umask lets any new file be.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        if durable:
            _synchronise(temporary)
        os.replace(temporary, path)
        if durable:
            _synchronise(path.parent)
    except BaseException as error:
        if temporary is not None:
            pathlib.Path(temporary).unlink(missing_ok=True)
        # A write that fails does not know its file, and the temporary name means nothing to the user.
        if isinstance(error, OSError) and (error.filename is None or _TEMPORARY.fullmatch(
                os.path.basename(os.fsdecode(error.filename)))):
            error.filename, error.filename2 = str(path), None
        raise


def remove_abandoned(folder):
    """Remove the temporary files that killed processes of this machine left in a folder and those below it."""
    for path in pathlib.Path(folder).rglob('.*.tmp'):
        found = _TEMPORARY.fullmatch(path.name)
        if found and found['host'] == _HOST and not _is_alive(int(found['process'])):
            path.unlink(missing_ok=True)


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; a number that no process has is not ours to remove
        return True
    # One that has ended stays known until its parent asks; in a container there may be none that does.
    with contextlib.suppress(OSError):
        return pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    return True


def _synchronise(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def model_path(snapshot_dir, iteration):
    """Return the path of the snapshot of a zero-based iteration."""
    return pathlib.Path(snapshot_dir) / f'model-{iteration}.pth'


def model_iterations(folder):
    """Return the iterations whose `model-<iteration>.pth` are in a folder, ascending."""
    found = (re.fullmatch(r'model-(\d+)\.pth', path.name) for path in pathlib.Path(folder).glob('model-*.pth'))
    return sorted(int(match[1]) for match in found if match)


def newest_model(folder):
    """Return the `model-<iteration>.pth` of the highest iteration in a folder, or None."""
    iterations = model_iterations(folder)
    return model_path(folder, iterations[-1]) if iterations else None


def has_weights(pretrained):
    """Return whether a value of `network.pretrained` needs no file, or that file is there."""
    return pretrained in ('', *PRETRAINED_NAMES) or weights_path(pretrained).exists()


def weights_path(text):
    """Return the file that the user means by a file or by the folder of a training, whose newest model it is then.

    A relative path is taken from the working directory, or else from the folder of the project. What is not there is
    returned as it is.
    """
    path = pathlib.Path(text)
    if not path.exists() and (PROJECT / path).exists():
        path = PROJECT / path
    return (newest_model(path) or path) if path.is_dir() else path
