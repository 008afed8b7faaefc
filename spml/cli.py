"""What every command line shares: the common options, and errors as one line with exit status 2."""
import argparse
import errno
import os
import pathlib
import sys

from spml.errors import SpmlError


def build_parser(description):
    """Return a parser with the options that every script reading a configuration takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cfg_path', type=pathlib.Path, required=True, metavar='FILE', help='YAML configuration')
    parser.add_argument('--set', action='extend', nargs='+', default=[], metavar='SECTION.KEY=VALUE', dest='overrides',
                        help='override a key of the configuration, for example train.base_lr=0.01')
    parser.add_argument('--device', default=None, help='cuda, cuda:1, cpu ... (default: cuda when there is one, else cpu)')
    return parser


def add_data_arguments(parser):
    """Add `--data_dir` and `--data_list`."""
    parser.add_argument('--data_dir', type=pathlib.Path, required=True, help='folder that the paths in the list start from')
    parser.add_argument('--data_list', type=pathlib.Path, required=True, metavar='FILE',
                        help='list file: `image semantic instance`, `image semantic` or `image` on each line')


def cluster_grid(text):
    """Parse `H,W` into two positive ints (for `--kmeans_num_clusters`)."""
    try:
        height, width = (int(part) for part in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form H,W, for example 12,12') from None
    if height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: both numbers must be at least 1')
    return height, width


def run(main):
    """Call `main()` and leave with its status; a user's mistake is one line on standard error and status 2."""
    try:
        status = main()
    except SpmlError as error:
        status = _complain(error)
    except KeyboardInterrupt:
        print('\ninterrupted; what was complete is kept, run the same command again to go on', file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # The reader (`| head`) went away: that is no error. Keep the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        if error.errno not in _ENVIRONMENT_ERRORS:
            raise
        status = _complain(f'{error.filename or "write"}: {error.strerror}; {_ENVIRONMENT_ERRORS[error.errno]}')
    sys.exit(status or 0)


_ENVIRONMENT_ERRORS = {
    errno.ENOENT: 'check the path',
    errno.EACCES: 'check the permissions',
    errno.EPERM: 'check the permissions',
    errno.EROFS: 'choose a folder that can be written',
    errno.ENOSPC: 'free some space and run the same command again',
    errno.EDQUOT: 'free some space and run the same command again',
    errno.ENOTDIR: 'check the path',
    errno.EISDIR: 'give a file, not a folder',
    errno.EEXIST: 'a file stands where a folder is needed',
    errno.EIO: 'check the disk',
}


def _complain(message):
    print(f'error: {" ".join(str(message).split())}', file=sys.stderr)
    return 2
