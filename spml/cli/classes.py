"""The options that say how many classes there are, what they are called and which colours they have."""
import argparse
import pathlib
from typing import NamedTuple

from spml.config import load_config
from spml.errors import ConfigError


def add_class_arguments(parser):
    """Add `--num_classes` and `--class_names`, and the configuration that says what they leave open."""
    parser.add_argument('--num_classes', type=class_count, metavar='C',
                        help='label values of C and above are no classes (default: what --cfg_path says)')
    parser.add_argument('--class_names', type=lambda text: text.split(','), metavar='NAME,NAME,...',
                        help='C names (default: what --cfg_path says, else the class ids)')
    parser.add_argument('--cfg_path', type=pathlib.Path, metavar='FILE',
                        help='YAML configuration whose number, names and colours of classes count')
    parser.add_argument('--set', action='extend', nargs='+', default=[], metavar='SECTION.KEY=VALUE', dest='overrides',
                        help='override a key of the configuration')
    parser.add_argument('--device', help='accepted like by every script; nothing here depends on it')


class Classes(NamedTuple):
    """The classes of a command line: their number, their C names, and (C, 3) colours or None for PASCAL VOC's."""

    number: int
    names: list
    color_map: list | None


def resolve_classes(args, default_number=None):
    """Return the `Classes` that the options of `add_class_arguments` give; what is given beside `--cfg_path` wins.

    Names and colours of a configuration with another number of classes than `--num_classes` do not count.

    Raises:
        ConfigError: nothing says how many classes there are, the configuration cannot be read, or there is not one
            name for each class.
    """
    configured = load_config(args.cfg_path, args.overrides).dataset if args.cfg_path else None
    number = args.num_classes or (configured.num_classes if configured else default_number)
    if number is None:
        raise ConfigError('--num_classes: give the number of classes, or the configuration that holds it as --cfg_path')
    if configured and configured.num_classes == number:
        return Classes(number, resolve_class_names(args.class_names or configured.class_names, number),
                       configured.color_map)
    return Classes(number, resolve_class_names(args.class_names, number), None)


def class_count(text):
    """Parse a number of classes, 1..255, for argparse."""
    count = int(text)
    if not 1 <= count <= 255:
        raise argparse.ArgumentTypeError(f'{text} is not in 1..255')
    return count


def resolve_class_names(names, num_classes):
    """Return the C names given, or the ids `'0'..'C-1'` for None.

    Raises:
        ConfigError: there are not C different ones.
    """
    if names is None:
        return [str(index) for index in range(num_classes)]
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise ConfigError(f'--class_names has {len(set(names))} different names; give one for each of the '
                          f'{num_classes} classes of --num_classes')
    return names
