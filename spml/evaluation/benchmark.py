"""What the benchmark command lines share: their options, finding each prediction's truth, and going through the images.

The images scored are the predictions found; the truth bears the same name under its own folder, or is the label that a
list file gives to the image.
"""
import argparse
import logging
import pathlib
from multiprocessing.pool import ThreadPool
from typing import NamedTuple

from tqdm import tqdm

from spml import cli
from spml.config import load_config
from spml.data.lists import read_list
from spml.data.readers import read_label
from spml.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


def build_benchmark_parser(doc):
    """Return a parser with the options of every benchmark; `doc` is the script's docstring."""
    parser = cli.script_parser(doc)
    parser.add_argument('--pred_dir', type=pathlib.Path, required=True, metavar='DIR',
                        help='predictions: 8-bit PNGs of class ids, searched in sub-folders too')
    parser.add_argument('--gt_dir', type=pathlib.Path, required=True, metavar='DIR',
                        help='ground truth: PNGs of the same names')
    parser.add_argument('--gt_list', type=pathlib.Path, default=None, metavar='FILE',
                        help='list file whose labels are the truth, its paths taken from --gt_dir; predictions that it '
                             'does not name are left out')
    add_class_arguments(parser)
    parser.add_argument('--string_replace', type=_replacement, default=('', ''), metavar='A,B',
                        help='replace A by B in the path of the truth (and of the instances)')
    parser.add_argument('--json', type=pathlib.Path, default=None, metavar='FILE', help='also write the scores here')
    parser.add_argument('--num_workers', type=int, default=4, metavar='N', help='threads that read images')
    return parser


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


def find_images(pred_dir, gt_dir, inst_dir=None, string_replace=('', ''), gt_list=None):
    """Pair every prediction with its truth, and with its instances where asked.

    Args:
        pred_dir: folder of `*.png`, searched recursively.
        gt_dir: folder in which the same relative path is the truth.
        inst_dir: None, or the same for the instances.
        string_replace: (a, b); every a in a full path of truth and instances is replaced by b. An empty a replaces
            nothing.
        gt_list: None, or a list file, its paths relative to `gt_dir`, whose label for an image is the truth.
            Predictions of images that it does not name are left out, with a warning.

    Returns:
        list of tuples of paths `(prediction, truth)` or `(prediction, truth, instances)`, sorted by prediction.

    Raises:
        DataError: a folder or a file is missing, or there is no prediction.
    """
    pred_dir = pathlib.Path(pred_dir)
    if not pred_dir.is_dir():
        raise DataError(f'{pred_dir}: no such folder; give the folder of the predictions as --pred_dir')
    predictions = sorted(path for path in pred_dir.rglob('[!.]*.png') if path.is_file())
    if not predictions:
        raise DataError(f'{pred_dir}: holds no *.png; run the inference first or give another --pred_dir')
    truths = _listed_truths(gt_list, gt_dir, pred_dir, predictions) if gt_list else {}
    rows = []
    for prediction in predictions:
        if gt_list and prediction.stem not in truths:
            continue
        name = prediction.relative_to(pred_dir)
        others = [truths.get(prediction.stem, pathlib.Path(gt_dir) / name)]
        if inst_dir is not None:
            others.append(pathlib.Path(inst_dir) / name)
        others = [_replace(other, string_replace) for other in others]
        for other in others:
            if not other.is_file():
                raise DataError(f'{other}: no such file, wanted for the prediction {prediction}; '
                                'check the folder and --string_replace')
        rows.append((prediction, *others))
    return rows


def _listed_truths(gt_list, gt_dir, pred_dir, predictions):
    """Return the label's path for each image name of a list; raise DataError if it names none of the predictions."""
    truths = {entry.name: entry.semantic for entry in read_list(gt_list, gt_dir, fields=(2, 3))}
    absent = sum(prediction.stem not in truths for prediction in predictions)
    if absent == len(predictions):
        raise DataError(f'{gt_list}: names none of the images in {pred_dir}; give their own list as --gt_list')
    if absent:
        logger.warning('%s: no truth for %d of %d predictions, which are left out', gt_list, absent, len(predictions))
    return truths


def read_same_size(paths):
    """Read the label maps of one image.

    Returns:
        list of (H, W) uint8 arrays.

    Raises:
        DataError: a file cannot be read or differs in size from the first.
    """
    labels = [read_label(path) for path in paths]
    for path, label in zip(paths, labels, strict=True):
        if label.shape != labels[0].shape:
            raise DataError(f'{path}: {_size(label)}, but the prediction {paths[0]} is {_size(labels[0])}; '
                            'predictions must have the size of their truth')
    return labels


def map_images(function, rows, num_workers=4):
    """Yield `function(row)` in order for every row, computed by threads, under a progress bar."""
    with ThreadPool(max(num_workers, 1)) as pool:
        yield from tqdm(pool.imap(function, rows), total=len(rows), desc='score', unit='image', dynamic_ncols=True)


def _replace(path, string_replace):
    old, new = string_replace
    return pathlib.Path(str(path).replace(old, new)) if old else path


def _size(label):
    return f'{label.shape[1]}x{label.shape[0]}'


def _replacement(text):
    parts = text.split(',')
    # `,` replaces nothing by nothing: a harmless default that scripts pass.
    if len(parts) != 2 or (parts[1] and not parts[0]):
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form A,B, for example _image,_label')
    return tuple(parts)
