"""Scores as a table for people and as a dictionary for JSON.

Both keep the classes' order. The dictionary holds fractions in 0..1, the table shows per cent.
"""
from spml.errors import DataError
from spml.utils.formats import read_json


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
