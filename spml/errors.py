"""The errors a user can cause. A command line prints one as a single line and exits with status 2.

Every message names the file (and line) or the key that is wrong and says what to do about it.
"""
import importlib
import re


class SpmlError(Exception):
    """Base of every error that a user can fix."""

    exit_status = 2  # of the command line
    is_secondary = False  # whether it only follows from another process's error


class ConfigError(SpmlError):
    """A configuration file or an override is wrong."""


class DataError(SpmlError):
    """A list, an image, a label or another input file is wrong."""


class CheckpointError(SpmlError):
    """A checkpoint is missing, unreadable or of another model."""


class WrongEncodingError(DataError):
    """An image or a label is stored in another way than it must be: a palette, 16 bits, colours for class ids."""


class OutputClosedError(SpmlError):
    """Nobody reads the output any more: `| head` has ended, or the terminal was closed."""

    exit_status = 141


class ResourceError(SpmlError):
    """The machine has too little memory for what was asked."""


def require_module(name, message, kind=SpmlError):
    """Return the module of that name; where its package is not installed, `message` says so and how to install it."""
    try:
        importlib.import_module(name.partition('.')[0])
        return importlib.import_module(name)
    except ImportError:
        raise kind(message) from None


def first_line(error):
    """Return the first line of what an exception says, or its kind where it says nothing, without object addresses."""
    return re.sub(r' ?<[^<>]* at 0x[0-9a-f]+>', '', (str(error).strip() or type(error).__name__).splitlines()[0])
