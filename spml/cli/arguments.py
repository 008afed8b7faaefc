"""What every command line shares: how help looks, the common options, and those of the classes and their colours."""
import argparse
import math
import pathlib
import textwrap
from typing import NamedTuple

from spml.config import load_config
from spml.errors import ConfigError, SpmlError
from spml.utils.workers import processors


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that states for every option whether it is required or what its default is."""

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
    """Return a parser whose help is a script's docstring; paragraphs that begin with `python` end it as examples."""
    paragraphs = doc.strip('\n').split('\n\n')
    examples = [text for text in paragraphs if text.lstrip().startswith('python ')]
    purpose = '\n\n'.join(textwrap.dedent(text) for text in paragraphs if text not in examples)
    example = '\n\n'.join(textwrap.indent(textwrap.dedent(text), '  ') for text in examples)
    return argparse.ArgumentParser(description=purpose, epilog=f'example:\n{example}' if examples else None,
                                   formatter_class=_HelpFormatter)


def build_parser(doc, cfg_default=None):
    """Return a parser for a script that reads a configuration: by default `cfg_default`, in words; None: required."""
    parser = script_parser(doc)
    add_config_arguments(parser, 'YAML configuration' + (f' (default: {cfg_default})' if cfg_default else ''),
                         required=cfg_default is None)
    parser.add_argument('--device', default=None,
                        help='cuda, cuda:1, cpu ... (default: cuda when there is one, else cpu)')
    return parser


def add_config_arguments(parser, purpose, required=False):
    """Add `--cfg_path` and `--set`; `purpose` says what the configuration is for."""
    parser.add_argument('--cfg_path', type=pathlib.Path, required=required, metavar='FILE', help=purpose)
    parser.add_argument('--set', action='extend', nargs='+', default=[], metavar='SECTION.KEY=VALUE', dest='overrides',
                        help='override a key of the configuration, for example train.base_lr=0.01')


def parse(parser, argv=None):
    """Return the arguments of a command line, and the checked configuration that they name."""
    args = parser.parse_args(argv)
    return args, named_config(args)


def named_config(args):
    """Return the checked configuration that `--cfg_path` and `--set` give, or None without `--cfg_path`."""
    return load_config(args.cfg_path, args.overrides) if args.cfg_path else None


def add_process_argument(parser, default):
    """Add `--num_processes`; `default` says what happens without it."""
    parser.add_argument('--num_processes', type=at_least_one, default=None, metavar='N',
                        help=f'processes to start, on CUDA one on each GPU (default: {default}); torchrun works too')


def add_preparation_arguments(parser, out='data root to write'):
    """Add `--out`, `--overwrite` and `--num_workers`; `out` says what the first is."""
    parser.add_argument('--out', type=pathlib.Path, required=True, metavar='DATAROOT', help=out)
    add_overwrite_argument(parser)
    add_workers_argument(parser)


def add_overwrite_argument(parser):
    """Add `--overwrite`."""
    parser.add_argument('--overwrite', action='store_true',
                        help='make everything again, also what was made with other options')


def add_data_arguments(parser):
    """Add `--data_dir` and `--data_list`."""
    parser.add_argument('--data_dir', type=pathlib.Path, required=True,
                        help='folder that the paths in the list start from')
    parser.add_argument('--data_list', type=pathlib.Path, required=True, metavar='FILE',
                        help='list file: `image semantic instance`, `image semantic` or `image` on each line')


def add_workers_argument(parser, purpose='processes that share the work; 0 works in this one'):
    """Add `--num_workers`, by default the number of processors; `purpose` says what they do."""
    parser.add_argument('--num_workers', type=count, default=processors(), metavar='N', help=purpose)


def require(args, reason, *names):
    """Raise SpmlError unless every named option was given."""
    missing = [f'--{name}' for name in names if getattr(args, name) is None]
    if missing:
        raise SpmlError(f'{reason} needs {" and ".join(missing)}')


def number(convert, allowed, expects):
    """Return a function that parses an option's number by `convert` and refuses it unless `allowed(number)`."""
    def parse_number(text):
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not allowed(value):
            raise argparse.ArgumentTypeError(f'{text!r} must be {expects}')
        return value
    return parse_number


share = number(float, lambda value: 0 < value <= 1, 'a number above 0 and at most 1')
positive = number(float, lambda value: 0 < value < math.inf, 'a number greater than 0')
at_least_one = number(int, lambda value: value >= 1, 'a positive integer')
bound = number(float, lambda value: 0 <= value <= 1, 'a number from 0 to 1')
tolerance = number(float, lambda value: 0 <= value <= 100, 'a number of pixels from 0 to 100')
pixels = number(float, lambda value: 1 <= value <= 100, 'a number of pixels from 1 to 100')
count = number(int, lambda value: value >= 0, 'a non-negative integer')


def add_class_arguments(parser):
    """Add `--num_classes` and `--class_names`, and the configuration that says what they leave open."""
    parser.add_argument('--num_classes', type=number(int, lambda value: 1 <= value <= 255, 'in 1..255'),
                        metavar='C',
                        help='label values of C and above are not classes (default: what --cfg_path says)')
    parser.add_argument('--class_names', type=lambda text: text.split(','), metavar='NAME,NAME,...',
                        help='C names (default: what --cfg_path says, else the class ids)')
    add_config_arguments(parser, 'YAML configuration whose number, names and colours of classes count')
    parser.add_argument('--device', help='accepted by every script; nothing here depends on it')


class Classes(NamedTuple):
    """The classes of a command line: their number, their C names, and (C, 3) colours or None for PASCAL VOC's.

    `background` says whether class 0 is the background, as it is unless a configuration says otherwise.
    """

    number: int
    names: list
    color_map: list | None
    background: bool = True


def resolve_classes(args, default_number=None):
    """Return the `Classes` that the options of `add_class_arguments` give; an option overrides `--cfg_path`.

    Names and colours of a configuration with another number of classes than `--num_classes` do not count. ConfigError
    if nothing says how many classes there are, or there are more or fewer names.
    """
    config = named_config(args)
    configured = config.dataset if config else None
    number = args.num_classes or (configured.num_classes if configured else default_number)
    if number is None:
        raise ConfigError('--num_classes: give the number of classes, or the configuration that holds it as --cfg_path')
    known = configured if configured and configured.num_classes == number else None
    names = args.class_names or (known.class_names if known else [str(index) for index in range(number)])
    if not len(names) == len(set(names)) == number:
        raise ConfigError(f'--class_names has {len(set(names))} different names; give one for each of the {number} '
                          'classes of --num_classes')
    return Classes(number, names, known.color_map if known else None, known.background if known else True)
