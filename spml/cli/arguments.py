"""What every command line shares: how help looks, and the common options."""
import argparse
import math
import os
import pathlib
import textwrap

from spml.errors import SpmlError


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
