r"""Read everything that a training or an inference would read, and report what is wrong or suspicious.

python pyscripts/data/check_data.py --data_dir DATA --data_list DATA/lists/train_scribble.txt --num_classes 21 \
        --val_list DATA/lists/val.txt --fix unlabelled=255:254

Exit status 1 when anything is found (with --lenient: only what a run would stop at). With --fix, corrected copies of
the labels and their list are written under --save_dir and checked in place of the labels as they are.
"""
import pathlib

from spml.cli import arguments
from spml.cli.arguments import add_class_arguments, resolve_classes
from spml.data.check import check_and_print, parse_fix
from spml.program import execute


def main():
    """Parse, check, print."""
    parser = arguments.script_parser(__doc__)
    arguments.add_data_arguments(parser)
    add_class_arguments(parser)
    parser.add_argument('--val_list', type=pathlib.Path, metavar='FILE',
                        help='list of the images that are to be kept out of this one')
    parser.add_argument('--fix', metavar='unlabelled=OLD:NEW',
                        help='write copies of the labels in which the value OLD is NEW, for example '
                             'unlabelled=255:254; class=OLD:NEW where NEW is a class')
    parser.add_argument('--save_dir', type=pathlib.Path, metavar='DIR',
                        help='folder for findings.txt and corrected labels '
                             "(default: snapshots/data_check/<the list's name>)")
    parser.add_argument('--lenient', action='store_true',
                        help='exit status 0 when things are suspicious, but not wrong')
    arguments.add_workers_argument(parser, 'threads that read files')
    args = parser.parse_args()
    classes = resolve_classes(args)
    config = arguments.named_config(args)
    allow_absolute = config.dataset.allow_absolute_paths if config else True
    checked = check_and_print(
        args.data_list, args.data_dir, classes.number, classes.names,
        args.save_dir or pathlib.Path('snapshots/data_check') / args.data_list.stem, args.num_workers, args.val_list,
        parse_fix(args.fix, classes.number) if args.fix else None, allow_absolute)
    return int(checked.is_wrong or (bool(checked.findings) and not args.lenient))


if __name__ == '__main__':
    execute(main)
