"""The options that say how many classes there are, what they are called and which colours they have."""
from typing import NamedTuple

from spml.cli import arguments
from spml.errors import ConfigError


def add_class_arguments(parser):
    """Add `--num_classes` and `--class_names`, and the configuration that says what they leave open."""
    parser.add_argument('--num_classes', type=arguments.number(int, lambda value: 1 <= value <= 255, 'in 1..255'),
                        metavar='C',
                        help='label values of C and above are no classes (default: what --cfg_path says)')
    parser.add_argument('--class_names', type=lambda text: text.split(','), metavar='NAME,NAME,...',
                        help='C names (default: what --cfg_path says, else the class ids)')
    arguments.add_config_arguments(parser, 'YAML configuration whose number, names and colours of classes count')
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
    config = arguments.named_config(args)
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
