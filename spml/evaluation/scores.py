"""Scoring: the pairs of prediction and truth, and scores as a table for people and as a dictionary for JSON.

The images scored are the predictions found; the truth has the same name in its own folder, or is the label that a list
file gives to the image. Tables and dictionary keep the classes' order; the latter holds fractions in 0..1, the table
shows per cent.
"""
import argparse
import logging
import pathlib
from multiprocessing.pool import ThreadPool

from tqdm import tqdm

from spml.cli import arguments
from spml.data.lists import read_list
from spml.data.readers import check_size, read_label
from spml.errors import DataError
from spml.program import check_name
from spml.utils.formats import read_json

logger = logging.getLogger(__name__)


def build_parser(doc):
    """Return a parser with the options of every script that scores; `doc` is the script's docstring."""
    parser = arguments.script_parser(doc)
    parser.add_argument('--pred_dir', type=pathlib.Path, required=True, metavar='DIR',
                        help='predictions: 8-bit PNGs of class ids, searched in sub-folders too')
    parser.add_argument('--gt_dir', type=pathlib.Path, required=True, metavar='DIR',
                        help='ground truth: PNGs of the same names')
    parser.add_argument('--gt_list', type=pathlib.Path, default=None, metavar='FILE',
                        help='list file whose labels are the truth, its paths taken from --gt_dir; predictions that it '
                             'does not name are left out')
    arguments.add_class_arguments(parser)
    parser.add_argument('--string_replace', type=_replacement, default=('', ''), metavar='A,B',
                        help='replace A by B in the path of the truth (and of the instances)')
    parser.add_argument('--json', type=pathlib.Path, default=None, metavar='FILE', help='also write the scores here')
    parser.add_argument('--num_workers', type=int, default=4, metavar='N', help='threads that read images')
    return parser


def find_pairs(pred_dir, gt_dir, inst_dir=None, string_replace=('', ''), gt_list=None):
    """Return (prediction, truth), or (prediction, truth, instances), of every prediction: paths, sorted.

    Predictions are all `*.png` below `pred_dir`; below `gt_dir` and, if given, `inst_dir`, the same path is the truth
    and the instances. Of `string_replace`, (a, b), every a in a full path of these is replaced by b, unless it is
    empty. `gt_list` may be a list file, its paths relative to `gt_dir`, whose label for an image is the truth;
    predictions of images that it does not name are left out, with a warning. DataError: a folder or a file is missing,
    there are no predictions, or two of one image of `gt_list`.
    """
    pred_dir = pathlib.Path(pred_dir)
    if not pred_dir.is_dir():
        raise DataError(f'{pred_dir}: no such folder; give the folder of the predictions as --pred_dir')
    predictions = sorted(check_name(path) for path in pred_dir.rglob('[!.]*.png') if path.is_file())
    if not predictions:
        raise DataError(f'{pred_dir}: holds no *.png; run the inference first or give another --pred_dir')
    truths = {}
    if gt_list:
        truths = {entry.name: entry.semantic for entry in read_list(gt_list, gt_dir, fields=(2, 3))
                  if entry.semantic is not None}
        found, predictions = predictions, [path for path in predictions if path.stem in truths]
        seen = {}
        for path in predictions:
            if seen.setdefault(path.stem, path) is not path:
                raise DataError(f'{path}: a prediction of the image of {seen[path.stem]}, too; give the folder of one '
                                'of both as --pred_dir')
        if not predictions:
            raise DataError(f'{gt_list}: holds none of the images in {pred_dir}; give their list as --gt_list')
        if len(predictions) < len(found):
            logger.warning('%s: no truth for %d of %d predictions, which are left out', gt_list,
                           len(found) - len(predictions), len(found))
    rows = []
    for prediction in predictions:
        name = prediction.relative_to(pred_dir)
        others = [truths.get(prediction.stem, pathlib.Path(gt_dir) / name)]
        if inst_dir is not None:
            others.append(pathlib.Path(inst_dir) / name)
        old, new = string_replace
        others = [pathlib.Path(str(other).replace(old, new)) if old else other for other in others]
        for other in others:
            if not other.is_file():
                raise DataError(f'{other}: no such file, needed for the prediction {prediction}; '
                                'check the folder and --string_replace')
        rows.append((prediction, *others))
    return rows


def read_same_size(paths):
    """Return the label maps of one image, a list of (H, W) uint8; DataError if one differs in size from the first."""
    labels = [read_label(path) for path in paths]
    for path, label in zip(paths, labels, strict=True):
        check_size(path, label.shape, f'the prediction {paths[0]}', labels[0].shape,
                   'predictions must have the size of their truth')
    return labels


def map_images(function, rows, num_workers=4):
    """Yield `function(row)` in order for every row, computed by threads, under a progress bar."""
    with ThreadPool(max(num_workers, 1)) as pool:
        yield from tqdm(pool.imap(function, rows), total=len(rows), desc='score', unit='image', dynamic_ncols=True)


def _replacement(text):
    parts = text.split(',')
    # `,` replaces nothing with nothing: a harmless default that scripts pass.
    if len(parts) != 2 or (parts[1] and not parts[0]):
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form A,B, for example _image,_label')
    return tuple(parts)


def score_summary(iou, class_names, num_images, absent=(), **extra):
    """Return a dictionary that JSON can hold: `mean_iou`, `extra`, `iou` by class, `absent_classes` and `num_images`.

    Args:
        iou, class_names: (C,) floats in 0..1, and C strings.
        num_images: how many images were scored.
        absent: indices of classes that occur neither in truth nor in prediction (they score 0).
        extra: further entries, such as `pixel_accuracy` (a fraction), `num_instances`, or `confusion` (C rows of true
            classes, C + 1 columns of predictions, see `miou`).
    """
    return {
        'mean_iou': float(sum(iou) / len(iou)),
        **extra,
        'iou': {name: float(value) for name, value in zip(class_names, iou, strict=True)},
        'absent_classes': [class_names[index] for index in absent],
        'num_images': int(num_images),
    }


def read_score(path):
    """Return the dictionary of scores in a JSON file; raises DataError unless it holds a `mean_iou`."""
    score = read_json(path, 'run the stage that writes it again')
    try:
        return {**score, 'mean_iou': float(score['mean_iou'])}
    except (ValueError, KeyError, TypeError):
        raise DataError(f'{path}: holds no "mean_iou"; run the stage that writes it again') from None


def format_table(summary):
    """Return the table of a `score_summary` as text: a line for each class, then the mean and the rest."""
    footer = [('mean IoU', f'{100 * summary["mean_iou"]:7.2f}')]
    if 'pixel_accuracy' in summary:
        footer.append(('pixel accuracy', f'{100 * summary["pixel_accuracy"]:7.2f}'))
    footer.append(('images', f'{summary["num_images"]:4d}'))
    width = max(len(name) for name in [*summary['iou'], *(name for name, _ in footer)])
    instances = summary.get('num_instances')
    rule = '-' * (width + 9 + (11 if instances else 0))

    lines = [f'{"class":<{width}}  {"IoU %":>7}' + (f'  {"instances":>9}' if instances else ''), rule]
    for name, value in summary['iou'].items():
        line = f'{name:<{width}}  {100 * value:7.2f}' + (f'  {instances[name]:9d}' if instances else '')
        lines.append(line + ('  (absent, counts as 0)' if name in summary['absent_classes'] else ''))
    lines.append(rule)
    lines.extend(f'{name:<{width}}  {text}' for name, text in footer)
    return '\n'.join(lines)


def format_summary(scores):
    """Return the table of a run's mean IoUs as text, and above it the last score by class.

    `scores` is a list of (title, path of the JSON of scores), in order; DataError if a file is missing or damaged.
    """
    found = [(title, read_score(path)) for title, path in scores]
    title, last = found[-1]
    blocks = [_rows('mean IoU', [(title, score['mean_iou'], False) for title, score in found])]
    if last.get('iou'):
        absent = last.get('absent_classes', ())
        blocks.insert(0, _rows(f'IoU: {title}', [(name, value, name in absent)
                                                 for name, value in last['iou'].items()]))
    return '\n\n'.join(blocks)


def _rows(header, rows):
    width = max(len(header), *(len(title) for title, _, _ in rows))
    lines = [f'{title:{width}s}  {100 * value:6.2f}' + ('  (absent, counts as 0)' if absent else '')
             for title, value, absent in rows]
    return '\n'.join([f'{header:{width}s}       %', *lines])
