"""One picture that shows what happened to some images: a row for each, a column for each kind of map.

Labels are drawn in the class colours, with a legend below; what an image does not have stays an empty grey cell.
"""
import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from spml.utils.io import write_png
from spml.visualization.palette import UNLABELLED_COLOUR, VOID_COLOUR, colourise, voc_colour_map
from spml.visualization.text import TEXT_COLOUR, TEXT_HEIGHT, text_width, write_line

_GAP = 6
_SWATCH = 12
_BACKGROUND = (255, 255, 255)
_EMPTY = (228, 228, 228)


@dataclasses.dataclass(frozen=True)
class Row:
    """One image of the sheet."""

    caption: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: tuple  # one (h, w) uint8 label map, or None, for each further column


def contact_sheet(rows, headers, path, num_classes, class_names=None, cell_width=200):
    """Draw the rows and write them as one PNG.

    Args:
        rows: `Row`s, each with `len(headers) - 1` labels. A label whose size differs is stretched to its image.
        headers: column captions, the image's first.
        path: the PNG to write.
        num_classes: C; label values C..254 are drawn as unlabelled.
        class_names: C names for the legend (default: the ids).
        cell_width: pixels; an image keeps its aspect ratio.

    Raises:
        ValueError: a row has another number of labels than there are columns.
    """
    for row in rows:
        if len(row.labels) != len(headers) - 1:
            raise ValueError(f'{row.caption}: {len(row.labels)} labels for {len(headers) - 1} columns')
    width = _GAP + len(headers) * (cell_width + _GAP)
    heights = [max(round(cell_width * row.image.shape[0] / row.image.shape[1]), 1) for row in rows]
    legend = _place_legend(_legend_entries(num_classes, class_names), width)
    table_height = TEXT_HEIGHT + sum(height + TEXT_HEIGHT + _GAP for height in heights)
    legend_height = max(y for _, y, _, _ in legend) + TEXT_HEIGHT

    sheet = Image.new('RGB', (width, table_height + legend_height + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, header in enumerate(headers):
        write_line(draw, (_GAP + column * (cell_width + _GAP), 3), header, cell_width)
    top = TEXT_HEIGHT
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(_cells(row, (cell_width, height), num_classes)):
            sheet.paste(cell, (_GAP + column * (cell_width + _GAP), top))
        write_line(draw, (_GAP, top + height + 2), row.caption, width - 2 * _GAP)
        top += height + TEXT_HEIGHT + _GAP
    for x, y, colour, name in legend:
        draw.rectangle((x, top + y + 3, x + _SWATCH, top + y + 3 + _SWATCH), fill=colour, outline=TEXT_COLOUR)
        write_line(draw, (x + _SWATCH + 5, top + y + 2), name)
    write_png(path, np.asarray(sheet))


def _cells(row, size, num_classes):
    yield Image.fromarray(row.image).resize(size, Image.Resampling.BICUBIC)
    for label in row.labels:
        if label is None:
            yield Image.new('RGB', size, _EMPTY)
        else:
            yield Image.fromarray(colourise(label, num_classes)).resize(size, Image.Resampling.NEAREST)


def _legend_entries(num_classes, class_names):
    names = class_names or [f'class {index}' for index in range(num_classes)]
    entries = list(zip(map(tuple, voc_colour_map(num_classes).tolist()), names, strict=True))
    return [*entries, (UNLABELLED_COLOUR, 'unlabelled'), (VOID_COLOUR, 'void')]


def _place_legend(entries, width):
    """Return (x, y, colour, name) for each entry, set in lines like text; y starts at 0."""
    placed, x, y = [], _GAP, 0
    for colour, name in entries:
        needed = _SWATCH + 5 + text_width(name) + 14
        if x > _GAP and x + needed > width:
            x, y = _GAP, y + TEXT_HEIGHT
        placed.append((x, y, colour, name))
        x += needed
    return placed
