"""What every command line shares: how help looks, the common options, and errors as one line with exit status 2."""
import argparse
import contextlib
import errno
import hashlib
import math
import os
import pathlib
import signal
import sys
import textwrap
import threading

from spml.errors import SpmlError
from spml.names import LAUNCHED
from spml.utils import usage
from spml.utils.memory import is_out_of_memory


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that says of every option whether it is required and, if not, what its default is."""

    def _get_default_metavar_for_optional(self, action):
        known = {pathlib.Path: 'DIR', int: 'N'}
        return known.get(action.type) or super()._get_default_metavar_for_optional(action)

    def _get_help_string(self, action):
        text = action.help or ''
        if action.default is argparse.SUPPRESS:
            return text
        if action.required:
            return f'{text} (required)'
        if '(default: ' not in text:
            text += ' (default: %(default)s)'
        return text.replace('%(default)s', _default_text(action.default).replace('%', '%%'))


def _default_text(default):
    if default in (None, '', [], ('', '')):
        return 'none'
    if isinstance(default, bool):
        return 'on' if default else 'off'
    return ','.join(map(str, default)) if isinstance(default, tuple) else str(default)


def script_parser(doc):
    """Return a parser whose help is made of a script's docstring.

    Args:
        doc: what the script does, and an example: a paragraph that begins with `python`, which stands after the options
            in the help.
    """
    paragraphs = doc.strip('\n').split('\n\n')
    examples = [text for text in paragraphs if text.lstrip().startswith('python ')]
    purpose = '\n\n'.join(textwrap.dedent(text) for text in paragraphs if text not in examples)
    example = '\n\n'.join(textwrap.indent(textwrap.dedent(text), '  ') for text in examples)
    return argparse.ArgumentParser(description=purpose, epilog=f'example:\n{example}' if examples else None,
                                   formatter_class=_HelpFormatter)


def build_parser(doc, cfg_default=None):
    """Return the parser of a script that reads a configuration, with the options that all of those take.

    Args:
        doc: the script's docstring.
        cfg_default: what is used without `--cfg_path`, in words; None makes it required.
    """
    parser = script_parser(doc)
    parser.add_argument('--cfg_path', type=pathlib.Path, required=cfg_default is None, metavar='FILE',
                        help='YAML configuration' + (f' (default: {cfg_default})' if cfg_default else ''))
    parser.add_argument('--set', action='extend', nargs='+', default=[], metavar='SECTION.KEY=VALUE', dest='overrides',
                        help='override a key of the configuration, for example train.base_lr=0.01')
    parser.add_argument('--device', default=None,
                        help='cuda, cuda:1, cpu ... (default: cuda when there is one, else cpu)')
    return parser


def add_process_argument(parser, default):
    """Add `--num_processes`; `default` says what happens without it."""
    parser.add_argument('--num_processes', type=at_least_one, default=None, metavar='N',
                        help=f'processes to start, on CUDA one on each GPU (default: {default}); torchrun works too')


def add_data_arguments(parser):
    """Add `--data_dir` and `--data_list`."""
    parser.add_argument('--data_dir', type=pathlib.Path, required=True,
                        help='folder that the paths in the list start from')
    parser.add_argument('--data_list', type=pathlib.Path, required=True, metavar='FILE',
                        help='list file: `image semantic instance`, `image semantic` or `image` on each line')


def add_workers_argument(parser, purpose='processes that share the work; 0 works in this one'):
    """Add `--num_workers`, by default the number of processors; `purpose` says what they do."""
    parser.add_argument('--num_workers', type=count, default=_processors(), metavar='N', help=purpose)


def require(args, reason, *names):
    """Raise SpmlError unless every named option was given."""
    missing = [f'--{name}' for name in names if getattr(args, name) is None]
    if missing:
        raise SpmlError(f'{reason} needs {" and ".join(missing)}')


def share(text):
    """Parse a number above 0 and at most 1."""
    value = positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0 and at most 1')
    return value


def positive(text):
    """Parse a finite number greater than 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number greater than 0')
    return value


def at_least_one(text):
    """Parse a whole number greater than 0."""
    if count(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number greater than 0')
    return int(text)


def count(text):
    """Parse a whole number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 0 on')
    return int(text)


def _processors():
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def run(main):
    """Call `main()` and leave with its status; a user's mistake is one line on standard error and status 2.

    SIGTERM ends a script as Ctrl-C does.
    """
    try:
        with _sigterm_as_interrupt():
            status = main()
    except SpmlError as error:
        if not (error.is_secondary and LAUNCHED in os.environ):
            _complain(error)
        status = error.exit_status
    except SystemExit as error:
        # Of several processes, those that leave the word to another one.
        _leave_group(error.code)
        raise
    except KeyboardInterrupt:
        # A pipeline that runs this as a stage says itself how to go on; of several processes one speaks for all.
        if 'SPML_STAGE' not in os.environ and os.environ.get('RANK', '0') == '0':
            print('\ninterrupted; what was complete is kept, run the same command again to go on', file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # The reader (`| head`) went away: that is no error. Keep the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        if error.errno not in _ENVIRONMENT_ERRORS:
            raise
        _complain(f'{error.filename or "write"}: {error.strerror}; {_ENVIRONMENT_ERRORS[error.errno]}')
        status = 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _complain(f'out of memory ({error or type(error).__name__}); end other programs, or work on less at a time')
        status = 2
    usage.record(status or 0)
    _leave_group(status or 0)
    sys.exit(status or 0)


def _leave_group(status):
    """Leave at once where an error has left this process in a group with others."""
    distributed = sys.modules.get('spml.utils.distributed')  # of a script that needs torch
    if distributed and distributed.world_size() > 1:
        distributed.leave_at_once(status)


@contextlib.contextmanager
def _sigterm_as_interrupt():
    """Raise KeyboardInterrupt on SIGTERM too, so that temporary files and worker processes are cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
    errno.EEXIST: 'a file stands where a folder is needed',
    errno.EIO: 'check the disk',
}


def one_line(message):
    """Return a message as one line that any terminal shows as it is: it may quote what a file holds."""
    return ''.join(letter if letter.isprintable() else '?' for letter in ' '.join(str(message).split()))


def _complain(message):
    message = one_line(message)
    if not _is_said(message):
        print(f'error: {message}', file=sys.stderr)


def _is_said(message):
    """Whether another process that the same command launched has said this; if not, note that this one does."""
    folder = os.environ.get(LAUNCHED)
    if folder is None:
        return False
    try:
        (pathlib.Path(folder) / hashlib.sha256(message.encode()).hexdigest()).open('x').close()
    except FileExistsError:
        return True
    except OSError:  # better twice than never
        return False
    return False
