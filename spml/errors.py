"""The errors a user can cause. A command line prints one as a single line and leaves with status 2.

Every message names the file (and line) or the key that is wrong and says what to do about it.
"""


class SpmlError(Exception):
    """Base of every error that is a user's to mend.

    Attributes:
        exit_status: what a command line leaves with.
        is_secondary: whether it only follows from another process's error.
    """

    exit_status = 2
    is_secondary = False


class ConfigError(SpmlError):
    """A configuration file or an override is wrong."""


class DataError(SpmlError):
    """A list, an image, a label or another input file is wrong."""


class CheckpointError(SpmlError):
    """A checkpoint is missing, unreadable or of another model."""


def first_line(error):
    """Return the first line of what an exception says, or its kind where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
