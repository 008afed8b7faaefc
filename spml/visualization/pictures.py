"""Pictures of label maps, with a legend of their classes below.

An overlay shows a prediction on its image. A contact sheet shows what happened to some images: a row for each, a column
for each kind of map; what an image does not have stays an empty grey cell, and what none has gets no column.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from spml.utils.formats import write_png
from spml.utils.maps import boundary
from spml.visualization.legend import GAP, TEXT_HEIGHT, Legend, shown_names, write_line
from spml.visualization.palette import class_colours, colourise, legend_entries

_BACKGROUND = (255, 255, 255)
# Below this width, names of classes would not fit.
_LEAST_WIDTH = 240
_EMPTY = (228, 228, 228)


def class_shares(label):
    """Return [(class id, share of the pixels)] of a (H, W) uint8 label map, the largest share first."""
    counts = np.bincount(label.ravel(), minlength=256)
    return [(int(index), float(counts[index] / label.size)) for index in np.argsort(-counts, kind='stable')
            if counts[index]]


def blend(image, label, opacity=0.5, color_map=None, background=True):
    """Lay a label map (H, W) uint8 over its image (H, W, 3) uint8 RGB, which is what is returned.

    Background, class 0, stays clear, so that the image can be seen, unless it is a class like the others (`background`
    is false); every other class is blended in with `opacity` (0..1) and has an opaque outline. `color_map` is as in
    `colourise`.
    """
    weight = np.where(boundary(label), 1.0, opacity) * (label >= int(background))
    mixed = image * (1 - weight[..., None]) + colourise(label, color_map=color_map) * weight[..., None]
    return mixed.round().astype(np.uint8)


def overlay(image, label, class_names, opacity=0.5, color_map=None, background=True):
    """Return `blend`, in the same arguments, with a legend of the classes that occur and their shares below it.

    It is (H', W', 3) uint8 RGB, at least as large as the image, which is at the top left.
    """
    height, width = label.shape
    colours = class_colours(len(class_names), color_map)
    names = shown_names(class_names)
    entries = [(colours[index], f'{names[index]} {100 * share:.1f}%')
               for index, share in class_shares(label)]
    legend = Legend(entries, max(width, _LEAST_WIDTH))
    picture = Image.new('RGB', (max(width, _LEAST_WIDTH), height + GAP + legend.height), _BACKGROUND)
    picture.paste(Image.fromarray(blend(image, label, opacity, color_map, background)), (0, 0))
    legend.draw(ImageDraw.Draw(picture), height + GAP)
    return np.asarray(picture)


class Row(NamedTuple):
    """One image of the sheet."""

    caption: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: list  # one (h, w) uint8 label map, or None, for each further column


def contact_sheet(rows, headers, path, class_names, color_map=None, cell_width=200):
    """Draw `Row`s, each with `len(headers) - 1` labels, and write them as one PNG.

    A label whose size differs is stretched to its image, which keeps its aspect ratio at `cell_width` pixels. Headers
    are captions of columns, the image's first; `class_names` are C names for the legend, and label values C..254 are
    drawn as unlabelled; `color_map` is as in `colourise`.
    """
    kept = [index for index in range(len(headers) - 1) if any(row.labels[index] is not None for row in rows)]
    headers = [headers[0], *(headers[index + 1] for index in kept)]
    rows = [row._replace(labels=[row.labels[index] for index in kept]) for row in rows]
    width = GAP + len(headers) * (cell_width + GAP)
    heights = [max(round(cell_width * row.image.shape[0] / row.image.shape[1]), 1) for row in rows]
    legend = Legend(legend_entries(shown_names(class_names), color_map), width)
    table_height = TEXT_HEIGHT + sum(height + TEXT_HEIGHT + GAP for height in heights)

    sheet = Image.new('RGB', (width, table_height + legend.height + GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, header in enumerate(headers):
        write_line(draw, (GAP + column * (cell_width + GAP), 3), header, cell_width)
    top = TEXT_HEIGHT
    for row, height in zip(rows, heights, strict=True):
        cells = _cells(row, (cell_width, height), len(class_names), color_map)
        for column, cell in zip(range(len(headers)), cells, strict=True):
            sheet.paste(cell, (GAP + column * (cell_width + GAP), top))
        write_line(draw, (GAP, top + height + 2), row.caption, width - 2 * GAP)
        top += height + TEXT_HEIGHT + GAP
    legend.draw(draw, top)
    write_png(path, np.asarray(sheet))


def _cells(row, size, num_classes, color_map):
    yield Image.fromarray(row.image).resize(size, Image.Resampling.BICUBIC)
    for label in row.labels:
        if label is None:
            yield Image.new('RGB', size, _EMPTY)
        else:
            yield Image.fromarray(colourise(label, num_classes, color_map)).resize(size, Image.Resampling.NEAREST)
