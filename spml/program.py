"""How every script ends: errors as one line with exit status 2, interruptions as 130, a closed pipe as 141."""
import contextlib
import errno
import hashlib
import logging
import os
import pathlib
import re
import signal
import sys
import threading

from spml.errors import OutputClosedError, SpmlError
from spml.names import LAUNCHED
from spml.utils import interrupt
from spml.utils.memory import is_out_of_memory, note_gpu_memory


def execute(main):
    """Call `main()` and exit with its status; a user's mistake is one line and status 2, SIGTERM is like Ctrl-C."""
    try:
        with _signals_as_interrupts():
            for word in sys.argv[1:]:
                check_name(word)
            status = main()
    except SpmlError as error:
        if not (error.is_secondary and LAUNCHED in os.environ):
            # What was asked for is not a mistake.
            _complain(error, prefix='' if error.exit_status == interrupt.STATUS else 'error: ')
        status = error.exit_status
    except SystemExit as error:
        # Of several processes, those that leave the message to another one.
        _leave_group(error.code)
        raise
    except KeyboardInterrupt:
        interrupt.report()
        status = interrupt.STATUS
    except BrokenPipeError:
        # The reader went away (`| head`): nothing to report, but no success.
        status = OutputClosedError.exit_status
    except (OSError, UnicodeEncodeError) as error:
        message = _refusal(error)
        if message is None:
            raise
        _complain(message)
        status = 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _complain(f'out of memory ({error or type(error).__name__}); end other programs, or work on less at a time')
        status = 2
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
    status = status or (OutputClosedError.exit_status if closed else 0)
    note_gpu_memory()
    _leave_group(status)
    sys.exit(status)


def _refusal(error):
    """Return what to say of something that the machine refuses, or None if it is not that."""
    if isinstance(error, UnicodeEncodeError):
        # A file name that is not UTF-8 cannot be listed, printed or be that of a result.
        return next((_not_utf8(word) for word in error.object.split() if _UNDECODED.search(word)), None)
    if error.errno not in _ENVIRONMENT_ERRORS:
        return None
    return f'{error.filename or "write"}: {error.strerror}; {_ENVIRONMENT_ERRORS[error.errno]}'


def _is_closed(stream):
    """Flush a stream and return whether nobody reads it any more."""
    try:
        stream.flush()
    except BrokenPipeError:
        # Keep the interpreter from flushing it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def _leave_group(status):
    """Exit at once where an error has left this process in a group with others."""
    distributed = sys.modules.get('spml.utils.distributed')  # of a script that needs torch
    if distributed and distributed.world_size() > 1:
        distributed.leave_at_once(status)


@contextlib.contextmanager
def _signals_as_interrupts():
    """Raise KeyboardInterrupt on SIGINT and SIGTERM, so that temporary files and worker processes are cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM] + [signal.SIGINT] * (signal.getsignal(signal.SIGINT) is interrupt.leave)
    with interrupt.handled(numbers, signal.default_int_handler):
        yield


_LONGEST = 1800  # letters of a message
# How Python writes the bytes of a file name that it cannot decode.
_UNDECODED = re.compile('[\udc80-\udcff]')

_ENVIRONMENT_ERRORS = {
    errno.ENOENT: 'check the path',
    errno.EACCES: 'check the permissions',
    errno.EPERM: 'check the permissions',
    errno.EROFS: 'choose a folder that can be written',
    errno.ENOSPC: 'free some space and run the same command again',
    errno.EDQUOT: 'free some space and run the same command again',
    errno.EFBIG: 'raise the limit on the size of files (ulimit -f) and run the same command again',
    errno.ESTALE: 'its disk went away; mount it again and run the same command again',
    errno.ENAMETOOLONG: 'use a shorter name',
    errno.ENOTDIR: 'check the path',
    errno.EISDIR: 'give a file, not a folder',
    errno.EEXIST: 'there is a file where a folder is needed',
    errno.EIO: 'check the disk',
}


_WARNED = set()


def warn_once(logger, text):
    """Log a warning, unless this command has given it before, here or in another process that it launched."""
    if text not in _WARNED and not _is_said(text):
        _WARNED.add(text)
        if 'RANK' in os.environ:
            logger.setLevel(logging.WARNING)  # of several processes all but the first are quiet, but this one knows
        logger.warning('%s', text)


def one_line(message):
    """Return a message as one line that any terminal shows as it is: it may quote what a file holds.

    Bytes of a file name that are not UTF-8 are escaped, so that the file can be found; of a very long message the
    middle is left out.
    """
    line = _UNDECODED.sub(lambda found: f'\\x{ord(found[0]) - 0xDC00:02x}', ' '.join(str(message).split()))
    line = ''.join(letter if letter.isprintable() else '?' for letter in line)
    return line if len(line) <= _LONGEST else f'{line[:_LONGEST // 2]} ... {line[-_LONGEST // 2:]}'


def check_name(path):
    """Return a path; SpmlError unless its name is UTF-8: lists and results could not hold it."""
    if _UNDECODED.search(str(path)):
        raise SpmlError(_not_utf8(path))
    return path


def _not_utf8(name):
    return f'{name}: a file name that is not UTF-8; rename it (convmv and detox do so for whole folders)'


def _complain(message, prefix='error: '):
    message = one_line(message)
    if not _is_said(message):
        with contextlib.suppress(BrokenPipeError):
            print(f'{prefix}{message}', file=sys.stderr)


def _is_said(message):
    """Whether another process that the same command launched has said this; if not, note that this one does."""
    try:
        if folder := os.environ.get(LAUNCHED):
            (pathlib.Path(folder) / hashlib.sha256(message.encode()).hexdigest()).open('x').close()
    except OSError as error:
        return isinstance(error, FileExistsError)  # else better twice than never
    return False
