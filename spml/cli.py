"""What every command line shares: the common options, and errors as one line with exit status 2."""
import argparse
import contextlib
import dataclasses
import errno
import math
import os
import pathlib
import signal
import sys
import threading

from spml.errors import SpmlError
from spml.inference.crf import CrfParameters
from spml.names import MAX_CLUSTERS
from spml.utils.memory import is_out_of_memory


def build_parser(description):
    """Return a parser with the options that every script reading a configuration takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cfg_path', type=pathlib.Path, required=True, metavar='FILE', help='YAML configuration')
    parser.add_argument('--set', action='extend', nargs='+', default=[], metavar='SECTION.KEY=VALUE', dest='overrides',
                        help='override a key of the configuration, for example train.base_lr=0.01')
    parser.add_argument('--device', default=None,
                        help='cuda, cuda:1, cpu ... (default: cuda when there is one, else cpu)')
    return parser


def add_data_arguments(parser):
    """Add `--data_dir` and `--data_list`."""
    parser.add_argument('--data_dir', type=pathlib.Path, required=True,
                        help='folder that the paths in the list start from')
    parser.add_argument('--data_list', type=pathlib.Path, required=True, metavar='FILE',
                        help='list file: `image semantic instance`, `image semantic` or `image` on each line')


def add_inference_arguments(parser):
    """Add what every inference script takes: data, weights, output."""
    add_data_arguments(parser)
    parser.add_argument('--snapshot_dir', type=pathlib.Path, help='folder that holds model-<max_iteration - 1>.pth')
    parser.add_argument('--checkpoint', type=pathlib.Path, metavar='FILE', help='weights to use instead of that file')
    parser.add_argument('--save_dir', type=pathlib.Path, required=True, help='folder for the results')
    parser.add_argument('--overwrite', action='store_true',
                        help='make every result again; by default those that stand in --save_dir and were made with '
                             'the same arguments from the same files are left')


def add_clustering_arguments(parser, required=False):
    """Add the options of k-means."""
    parser.add_argument('--kmeans_num_clusters', type=cluster_grid, required=required, metavar='H,W',
                        help='initial clusters along y and x')
    parser.add_argument('--label_divisor', type=int, default=2048, metavar='N',
                        help="accepted for the release's command lines; segment ids need no divisor here")


def add_memory_argument(parser):
    """Add the folder of prototypes."""
    parser.add_argument('--semantic_memory_dir', type=pathlib.Path,
                        help='folder of the prototypes (.npz) to retrieve from')


def add_crf_arguments(parser):
    """Add the parameters of DenseCRF and its number of worker processes."""
    for field in dataclasses.fields(CrfParameters):
        parser.add_argument(f'--crf_{field.name}', type=_iterations if field.type is int else _positive,
                            default=field.default, metavar='N')
    add_worker_argument(parser, 'processes that run CRF beside the network; 0 runs it in between')


def add_worker_argument(parser, text):
    """Add `--num_workers`, by default the number of processors; `text` says what they do."""
    parser.add_argument('--num_workers', type=_count, default=_processors(), metavar='N',
                        help=f'{text} (default: %(default)s)')


def crf_parameters(args):
    """Return the CrfParameters that the options give."""
    return CrfParameters(**{field.name: getattr(args, f'crf_{field.name}')
                            for field in dataclasses.fields(CrfParameters)})


def require(args, reason, *names):
    """Raise SpmlError unless every named option was given."""
    missing = [f'--{name}' for name in names if getattr(args, name) is None]
    if missing:
        raise SpmlError(f'{reason} needs {" and ".join(missing)}')


def cluster_grid(text):
    """Parse `H,W` into two positive ints (for `--kmeans_num_clusters`)."""
    try:
        height, width = (int(part) for part in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form H,W, for example 12,12') from None
    if height < 1 or width < 1 or height * width > MAX_CLUSTERS:
        raise argparse.ArgumentTypeError(
            f'{text!r}: both numbers must be at least 1, their product at most {MAX_CLUSTERS}')
    return height, width


def share(text):
    """Parse a number above 0 and at most 1."""
    value = _positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0 and at most 1')
    return value


def run(main):
    """Call `main()` and leave with its status; a user's mistake is one line on standard error and status 2.

    SIGTERM ends a script as Ctrl-C does.
    """
    try:
        with _sigterm_as_interrupt():
            status = main()
    except SpmlError as error:
        _complain(error)
        status = error.exit_status
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
    sys.exit(status or 0)


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


def _positive(text):
    """Parse a finite number greater than 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number greater than 0')
    return value


def _iterations(text):
    """Parse a whole number greater than 0."""
    if _count(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number greater than 0')
    return int(text)


def _count(text):
    """Parse a whole number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 0 on')
    return int(text)


def _processors():
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def one_line(message):
    """Return a message as one line that any terminal shows as it is: it may quote what a file holds."""
    return ''.join(letter if letter.isprintable() else '?' for letter in ' '.join(str(message).split()))


def _complain(message):
    print(f'error: {one_line(message)}', file=sys.stderr)
