"""The images a page shows: the best, the worst and some others, each with its labels and predictions side by side."""
import base64
from typing import NamedTuple

import numpy as np
from PIL import Image

from spml.data.lists import located, read_list
from spml.data.readers import check_same_size, read_image, read_label
from spml.errors import DataError
from spml.evaluation.miou import confusion, iou_from_confusion, unions
from spml.evaluation.scores import map_images
from spml.utils.formats import encoded
from spml.visualization.palette import colourise
from spml.visualization.pictures import class_shares

# Pixels of the longer side on the page.
_LONGEST = 320


class Cell(NamedTuple):
    """One picture of a row."""

    caption: str  # what it shows
    source: str | None  # data URI
    text: str


class Row(NamedTuple):
    """One image: a heading and its cells."""

    heading: str
    cells: list


def scored_images(entries, truths, folder, num_classes):
    """Score each image whose prediction `folder/<image name>.png` and truth are there; `truths`: name to path.

    Returns a list of (entry, mean IoU over the classes that occur in truth or prediction), the best first.
    """
    def score(entry):
        pred, truth = read_label(folder / f'{entry.name}.png'), read_label(truths[entry.name])
        if pred.shape != truth.shape:
            raise DataError(f'{truths[entry.name]}: not of the size of {folder / entry.name}.png')
        matrix = confusion(pred, truth, num_classes)
        occurs = unions(matrix) > 0
        return float(iou_from_confusion(matrix)[occurs].mean()) if occurs.any() else None

    entries = [entry for entry in entries if entry.name in truths and (folder / f'{entry.name}.png').is_file()]
    scores = map_images(score, entries)
    found = [(entry, value) for entry, value in zip(entries, scores, strict=True) if value is not None]
    return sorted(found, key=lambda pair: (-pair[1], pair[0].name))


def choose(scored, count):
    """Return (best, worst, random): `count` each of what `scored_images` returned, or fewer, none of them twice."""
    best, rest = scored[:count], scored[count:]
    worst, rest = rest[max(len(rest) - count, 0):][::-1], rest[:max(len(rest) - count, 0)]
    # Seeded: the same run gives the same page.
    chosen = np.sort(np.random.default_rng(0).permutation(len(rest))[:count])
    return best, worst, [rest[index] for index in chosen]


def read_truths(list_path, data_dir):
    """Return a dict from the image names of a list to the paths of their labels that are there."""
    if list_path is None:
        return {}
    return {entry.name: entry.semantic for entry in read_list(list_path, data_dir, unique_names=False)
            if entry.semantic is not None and entry.semantic.is_file()}


def make_row(heading, entry, labels, class_names, color_map=None):
    """Return the Row of an image; `labels` is a list of (caption, (H, W) uint8 label map, or its path, or None).

    Values of C and above are shown as unlabelled or void.
    """
    with located(entry):
        image = read_image(entry.image)
        photograph = _data_uri(_shrink(image, Image.Resampling.BICUBIC), 'jpeg', quality=85)
        cells = [Cell('image', photograph, f'photograph {entry.name}')]
        for caption, label in labels:
            if label is None or (not isinstance(label, np.ndarray) and not label.is_file()):
                cells.append(Cell(caption, None, f'{caption} of {entry.name}: none'))
                continue
            if not isinstance(label, np.ndarray):
                path, label = label, read_label(label)
                check_same_size(entry, image, label, path)
            text = f'{caption} of {entry.name}: {describe(label, class_names)}'
            picture = _shrink(colourise(label, len(class_names), color_map), Image.Resampling.NEAREST)
            # Few colours: a palette makes the file a third.
            cells.append(Cell(caption, _data_uri(picture.quantize(256, dither=Image.Dither.NONE), 'png'), text))
    return Row(heading, cells)


def describe(label, class_names):
    """Return in words what a (H, W) uint8 label map holds: `cat 20 %, dog 5 %, unlabelled 75 %`."""
    shares = {}
    for index, share in class_shares(label):
        name = class_names[index] if index < len(class_names) else 'void' if index == 255 else 'unlabelled'
        shares[name] = shares.get(name, 0) + share
    return ', '.join(f'{name} {100 * share:.0f} %' for name, share in shares.items())


def _shrink(pixels, resampling):
    image = Image.fromarray(pixels)
    scale = min(1, _LONGEST / max(image.size))
    return image if scale == 1 else image.resize([max(1, round(side * scale)) for side in image.size], resampling)


def _data_uri(image, form, **options):
    return f'data:image/{form};base64,{base64.b64encode(encoded(image, form, **options)).decode()}'
