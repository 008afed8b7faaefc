"""Scribbles and points of VOC's training images as their annotators publish them, to label maps.

ScribbleSup: an XML of polylines for each image; shortened ones keep their middle, and of no length they are points.
"What's the point": one JSON with the points that annotators clicked on the objects of every image.
"""
import functools
import itertools
import json
import math

import numpy as np

from spml.data import voc_layout as layout
from spml.data.readers import check_size
from spml.errors import DataError
from spml.prepare.shapes import draw_strokes, middle
from spml.prepare.voc12 import NUM_CLASSES
from spml.prepare.voc_xml import class_table, read_scribbles
from spml.prepare.weak_labels import Labels, annotation_files, write_labels
from spml.utils.formats import read_json

_SLACK = 2  # pixels that a click may lie outside its image; it is moved to the edge
_POINT_FORM = '{"cls": 0..20, "x": column, "y": row}'


def prepare_scribbles(folder, out, width, radius, aliases, num_workers, overwrite=False):
    """Draw the scribbles of ScribbleSup's `folder/<image name>.xml` at 100, 80, 50, 30 and 0 % of their length.

    `out` is the data root that prepare_voc12.py wrote, `width` that of lines and `radius` that of points (0 %), in
    pixels; `aliases` are pairs (tag, class name) for tags that are not VOC's class names.
    """
    labels, cuts = [], []
    for kind, (_, fraction, _) in layout.STROKES.items():
        half = radius if fraction == 0 else width / 2
        labels.append(_labels(kind, half, fraction))
        cuts.append((fraction, half))
    draw = functools.partial(_draw_scribbles, class_table(aliases), cuts)
    write_labels(out, labels, annotation_files(folder, '.xml'), draw, num_workers, 'scribbles',
                 {'aliases': sorted(map(list, aliases))}, overwrite)


def prepare_clicks(path, out, radius, num_workers, overwrite=False):
    """Draw the clicked points of "What's the point" as discs of `radius` pixels; other arguments as above."""
    folder = f'VOC2012/scribble/clicks_{2 * radius:g}'
    labels = [Labels('click' if radius == 3 else f'click_{2 * radius:g}', folder)]
    write_labels(out, labels, read_clicks(path), functools.partial(_draw_clicks, path, radius), num_workers, 'clicks',
                 overwrite=overwrite)


def read_clicks(path):
    """Read the JSON of "What's the point" as a dict from image name to a list of (class id, x, y).

    It is a dict from the image name to a list of points, or to one such list for each annotator; a point is a dict
    with the class number `cls` (1..20; 0 is taken for background), `x` and `y` in pixels, and others (`rank`, ...) that
    do not matter here. Images without a point are left out. DataError, which names the image: the file is missing,
    damaged, or of another form.
    """
    content = read_json(path, 'fetch the file again')
    if not isinstance(content, dict):
        raise DataError(f'{path}: holds a {type(content).__name__}, but must be {{image name: [points]}}')
    clicks = {}
    for name, points in content.items():
        where = f'{path}: image {name}'
        if not isinstance(points, list):
            raise DataError(f'{where}: expected a list of points, each {_POINT_FORM}')
        if points and all(isinstance(group, list) for group in points):
            points = list(itertools.chain.from_iterable(points))
        if points:
            clicks[name] = [_check_point(where, point) for point in points]
    return clicks


def _check_point(where, point):
    numbers = [point.get(key) for key in ('cls', 'x', 'y')] if isinstance(point, dict) else []
    good = len(numbers) == 3 and all(type(value) in (int, float) and math.isfinite(value) for value in numbers)
    if not good or numbers[0] not in range(NUM_CLASSES):
        raise DataError(f'{where}: the point {json.dumps(point)[:200]} is not of the form {_POINT_FORM}')
    return int(numbers[0]), numbers[1], numbers[2]


def _labels(kind, half, fraction):
    """Return the Labels of a kind of `layout.STROKES`, under other names where the width is not the usual."""
    width = f'{2 * half:g}'
    suffix = '' if fraction == 1 else f'_{fraction}'
    folder = f'VOC2012/scribble/dilate_{width}{suffix}'
    if folder != layout.STROKES[kind][0]:
        kind = f'{kind.partition("_")[0]}_dilate_{width}{suffix}'
    return Labels(kind, folder)


def _draw_scribbles(classes, cuts, path, size):
    """Return the map of each (share of the length, radius) in `cuts`, and that nothing is odd."""
    scribbles, stated = read_scribbles(path, classes)
    if stated is not None:
        check_size(path, stated, 'the image', size, 'use the original image')
    inside = [(label, _inside(points, size)) for label, points in scribbles]
    return [draw_strokes([(label, middle(points, fraction)) for label, points in inside], size, radius)
            for fraction, radius in cuts], []


def _draw_clicks(path, radius, points, size):
    dots = []
    for label, *point in points:
        centre = np.rint([point])
        kept = _inside(centre, size)
        if np.abs(kept - centre).max() > _SLACK:
            raise DataError(f'{path}: the point x = {point[0]}, y = {point[1]} lies outside its image of '
                            f'{size[1]}x{size[0]} pixels (width x height); are x and y swapped?')
        dots.append((label, kept))
    return [draw_strokes(dots, size, radius)], []


def _inside(points, size):
    """Move points (N, 2) of x, y outside an image of (height, width) to its edge."""
    return np.clip(points, 0, np.array(size[::-1], float) - 1)
