"""A picture of how often each class occurs: its share of the labelled pixels, and in how many images it stands."""
import numpy as np
from PIL import Image, ImageDraw

from spml.utils.formats import write_png
from spml.visualization.palette import voc_colour_map
from spml.visualization.text import TEXT_COLOUR, TEXT_HEIGHT, text_width, write_line

_GAP = 8
_BAR = 260
_NUMBER = 70
_BACKGROUND = (255, 255, 255)
_TRACK = (236, 236, 236)


def class_balance(pixels, images, num_images, class_names, path):
    """Draw a row of two bars for each class and write them as one PNG.

    Args:
        pixels: (C,) ints, labelled pixels of each class.
        images: (C,) ints, images that hold each class.
        num_images: of all labels read.
        class_names: C names.
        path: the PNG to write.
    """
    name_width = max(text_width(name) for name in (*class_names, 'class'))
    columns = [_GAP, 2 * _GAP + name_width]
    columns.append(columns[1] + _BAR + _NUMBER + _GAP)
    size = columns[2] + _BAR + _NUMBER + _GAP, TEXT_HEIGHT * (len(class_names) + 1) + 2 * _GAP
    picture = Image.new('RGB', size, _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for x, header in zip(columns, ('class', 'share of the labelled pixels', f'images of {num_images}'), strict=True):
        write_line(draw, (x, _GAP), header)
    total = max(1, int(np.sum(pixels)))
    for row, (name, colour) in enumerate(zip(class_names, voc_colour_map(len(class_names)).tolist(), strict=True)):
        y = _GAP + TEXT_HEIGHT * (row + 1)
        write_line(draw, (columns[0], y), name)
        share = pixels[row] / total
        _bar(draw, columns[1], y, share, tuple(colour), f'{100 * share:.2f} %')
        _bar(draw, columns[2], y, images[row] / max(1, num_images), tuple(colour), str(images[row]))
    write_png(path, np.asarray(picture))


def _bar(draw, x, y, share, colour, number):
    """Draw a bar of which `share` is filled, and a number beside it."""
    top, bottom = y + 3, y + TEXT_HEIGHT - 4
    draw.rectangle((x, top, x + _BAR, bottom), fill=_TRACK)
    if share > 0:
        draw.rectangle((x, top, x + max(2, round(share * _BAR)), bottom), fill=colour, outline=TEXT_COLOUR)
    write_line(draw, (x + _BAR + 6, y), number)
