r"""Draw some training and validation images with their labels and predictions as one picture.

python pyscripts/results/contact_sheet.py --data_dir data --train_list train.txt --full_list train_full.txt \
    --pseudo_dir pseudo/semantic_gray --val_list val.txt --pred_dir out/semantic_gray --num_classes 21 \
    --out sheet.png

A column whose folder or list is left out stays empty.
"""
import pathlib

import numpy as np

from spml.cli import arguments
from spml.cli.classes import add_class_arguments, resolve_classes
from spml.data.lists import read_list
from spml.data.readers import read_image, read_label
from spml.errors import ConfigError, DataError
from spml.program import execute
from spml.visualization.contact_sheet import Row, contact_sheet

HEADERS = ('image', 'weak label', 'pseudo label', 'prediction', 'truth')


def main(argv=None):
    """Parse the options, read the chosen images, write the picture."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--data_dir', type=pathlib.Path, required=True, help='folder that listed paths start from')
    parser.add_argument('--train_list', type=pathlib.Path, metavar='FILE', help='training list with the weak labels')
    parser.add_argument('--full_list', type=pathlib.Path, metavar='FILE', help='list of training images with the truth')
    parser.add_argument('--val_list', type=pathlib.Path, metavar='FILE', help='validation list with the truth, or test')
    parser.add_argument('--pseudo_dir', type=pathlib.Path, metavar='DIR', help='pseudo labels of the training images')
    parser.add_argument('--pred_dir', type=pathlib.Path, metavar='DIR', help='predictions, of either list')
    add_class_arguments(parser)
    parser.add_argument('--num_images', type=int, default=4, metavar='N', help='images of each list, evenly spaced')
    parser.add_argument('--out', type=pathlib.Path, required=True, metavar='FILE.png', help='the picture')
    args = parser.parse_args(argv)
    if not (args.train_list or args.val_list):
        raise ConfigError('--train_list, --val_list: give at least one of them')
    classes = resolve_classes(args, default_number=21)
    for folder in (args.pseudo_dir, args.pred_dir):
        if folder is not None and not folder.is_dir():
            raise DataError(f'{folder}: no such folder; leave its option out to leave its column empty')
    truth = _labels(args.full_list, args) | _labels(args.val_list, args)
    rows = []
    for part, list_path in (('train', args.train_list), ('val', args.val_list)):
        if list_path is not None:
            entries = read_list(list_path, args.data_dir, unique_names=False)
            rows.extend(read_row(entry, part, truth, args) for entry in choose(entries, args.num_images))
    contact_sheet(rows, HEADERS, args.out, classes.names, classes.color_map)
    print(f'contact sheet: {args.out}')


def choose(entries, count):
    """Return `count` of the entries, or all if there are fewer, evenly spaced from the first to the last."""
    indices = np.linspace(0, len(entries) - 1, min(max(count, 1), len(entries))).round().astype(int)
    return [entries[index] for index in indices]


def read_row(entry, part, truth, args):
    """Read what there is of one image; the label of a validation list is its truth, so it isn't shown as a weak one."""
    weak = read_label(entry.semantic) if part == 'train' and entry.semantic is not None else None
    pseudo = _read_if_there(args.pseudo_dir, entry.name) if part == 'train' else None
    labels = (weak, pseudo, _read_if_there(args.pred_dir, entry.name),
              read_label(truth[entry.name]) if entry.name in truth else None)
    return Row(f'{part}: {entry.name}', read_image(entry.image), labels)


def _labels(list_path, args):
    if list_path is None:
        return {}
    entries = read_list(list_path, args.data_dir, unique_names=False)
    return {entry.name: entry.semantic for entry in entries if entry.semantic is not None}


def _read_if_there(folder, name):
    path = folder / f'{name}.png' if folder is not None else None
    return read_label(path) if path is not None and path.is_file() else None


if __name__ == '__main__':
    execute(main)
