r"""Read everything that a training or an inference would read, and report what is wrong or suspicious.

python pyscripts/data/check_data.py --data_dir DATA --data_list DATA/lists/train_scribble.txt --num_classes 21 \
        [--val_list DATA/lists/val.txt] [--fix unlabelled=255:254]

Exit status 1 when anything is found (with --lenient: only what a run would stop at). With --fix, corrected copies of
the labels and their list are written under --save_dir and checked in place of the labels as they are.
"""
import argparse
import pathlib

from spml import cli
from spml.config import load_config
from spml.data.check import parse_fix
from spml.data.check_report import check_and_report
from spml.evaluation.benchmark import class_count, resolve_class_names


def _parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_data_arguments(parser)
    parser.add_argument('--num_classes', type=class_count, metavar='C',
                        help='classes, background included (default: what --cfg_path says)')
    parser.add_argument('--cfg_path', type=pathlib.Path, metavar='FILE',
                        help='YAML configuration; gives the number and the names of the classes')
    parser.add_argument('--set', action='extend', nargs='+', default=[], metavar='SECTION.KEY=VALUE', dest='overrides',
                        help='override a key of the configuration')
    parser.add_argument('--class_names', type=lambda text: text.split(','), metavar='NAME,NAME,...',
                        help='C names for the report (default: those of --cfg_path, or the class ids)')
    parser.add_argument('--val_list', type=pathlib.Path, metavar='FILE',
                        help='list of the images that are to be kept out of this one')
    parser.add_argument('--fix', metavar='unlabelled=OLD:NEW',
                        help='write copies of the labels in which the value OLD is NEW, for example unlabelled=255:254')
    parser.add_argument('--save_dir', type=pathlib.Path, metavar='DIR',
                        help='folder for findings.txt, class_balance.png and corrected labels '
                             "(default: snapshots/data_check/<the list's name>)")
    parser.add_argument('--lenient', action='store_true',
                        help='exit status 0 when things are suspicious, but not wrong')
    cli.add_worker_argument(parser, 'threads that read files')
    return parser


def main():
    """Parse, check, report."""
    parser = _parser()
    args = parser.parse_args()
    dataset = load_config(args.cfg_path, args.overrides).dataset if args.cfg_path else None
    num_classes = args.num_classes or (dataset and dataset.num_classes)
    if num_classes is None:
        parser.error('give --num_classes, or --cfg_path of the training')
    names = args.class_names or (dataset.class_names if dataset and dataset.num_classes == num_classes else None)
    report = check_and_report(
        args.data_list, args.data_dir, num_classes, resolve_class_names(names, num_classes),
        args.save_dir or pathlib.Path('snapshots/data_check') / args.data_list.stem, args.num_workers, args.val_list,
        parse_fix(args.fix, num_classes) if args.fix else None,
        dataset.allow_absolute_paths if dataset else True)
    return int(report.is_wrong or (bool(report.findings) and not args.lenient))


if __name__ == '__main__':
    cli.run(main)
