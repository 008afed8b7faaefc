r"""Draw some training and validation images with their labels and predictions as one picture.

python pyscripts/results/contact_sheet.py --data_dir data --train_list train.txt --full_list train_full.txt \
    --pseudo_dir pseudo/semantic_gray --val_list val.txt --pred_dir out/semantic_gray --num_classes 21 \
    --out sheet.png

A column whose folder or list is left out is not there.
"""
import pathlib

from spml.cli import arguments
from spml.cli.arguments import add_class_arguments, resolve_classes
from spml.data.lists import read_list
from spml.data.readers import read_image, read_label
from spml.errors import ConfigError, DataError
from spml.program import execute
from spml.utils.maps import evenly
from spml.visualization.pictures import Row, contact_sheet

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
            raise DataError(f'{folder}: no such folder; leave its option out to leave its column out')
    lists = {part: read_list(path, args.data_dir, unique_names=False)
             for part, path in (('train', args.train_list), ('val', args.val_list)) if path is not None}
    truths = {'train': _labels(args.full_list, args), 'val': _labels(args.val_list, args)}
    images = {entry.name: entry.image.resolve() for entry in lists.get('val', ())}
    rows = []
    for part, entries in lists.items():
        for index in evenly(len(entries), max(args.num_images, 1)):
            # Of two images of one name the prediction is that of the validation image.
            image = entries[index].image.resolve()
            is_predicted = images.get(entries[index].name, image) == image
            rows.append(read_row(entries[index], part, truths[part], args.pred_dir if is_predicted else None, args))
    if args.pseudo_dir and 'train' in lists and not any(row.labels[1] is not None for row in rows):
        print(f'note: {args.pseudo_dir} holds no map of the training images shown; its PNGs lie in semantic_gray')
    contact_sheet(rows, HEADERS, args.out, classes.names, classes.color_map)
    print(f'contact sheet: {args.out}')


def read_row(entry, part, truth, pred_dir, args):
    """Read what there is of one image; the label of a validation list is its truth, so it isn't shown as a weak one."""
    pseudo, pred = (folder / f'{entry.name}.png' if folder else None for folder in (args.pseudo_dir, pred_dir))
    is_train = part == 'train'
    paths = (entry.semantic if is_train else None, pseudo if is_train and pseudo and pseudo.is_file() else None,
             pred if pred and pred.is_file() else None, truth.get(entry.name))
    return Row(f'{part}: {entry.name}', read_image(entry.image), [path and read_label(path) for path in paths])


def _labels(list_path, args):
    if list_path is None:
        return {}
    entries = read_list(list_path, args.data_dir, unique_names=False)
    return {entry.name: entry.semantic for entry in entries if entry.semantic is not None}


if __name__ == '__main__':
    execute(main)
