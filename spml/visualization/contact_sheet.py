"""One picture that shows what happened to some images: a row for each, a column for each kind of map.

Labels are drawn in the class colours, with a legend below; what an image does not have stays an empty grey cell, and
what none has gets no column.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from spml.utils.formats import write_png
from spml.visualization.fonts import shown_names
from spml.visualization.legend import GAP, TEXT_HEIGHT, Legend, write_line
from spml.visualization.palette import colourise, legend_entries

_BACKGROUND = (255, 255, 255)
_EMPTY = (228, 228, 228)


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
