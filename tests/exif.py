"""Photos that are stored turned, by the text of the EXIF standard."""
import numpy as np
from PIL import Image

# For each value of the tag: the sides of the upright picture at which the stored row 0 and the stored column 0 are.
SIDES = {1: ('top', 'left'), 2: ('top', 'right'), 3: ('bottom', 'right'), 4: ('bottom', 'left'), 5: ('left', 'top'),
         6: ('right', 'top'), 7: ('right', 'bottom'), 8: ('left', 'bottom')}


def stored(picture, value):
    """Return the pixels that a file with this orientation stores of an upright picture (H, W, ...), one by one."""
    height, width = picture.shape[:2]
    row_side, column_side = SIDES[value]
    rows, columns = (height, width) if row_side in ('top', 'bottom') else (width, height)
    result = np.empty((rows, columns, *picture.shape[2:]), picture.dtype)
    for row in range(rows):
        for column in range(columns):
            place = {'top': ('y', row), 'bottom': ('y', height - 1 - row), 'left': ('x', row),
                     'right': ('x', width - 1 - row)}[row_side]
            other = {'top': ('y', column), 'bottom': ('y', height - 1 - column), 'left': ('x', column),
                     'right': ('x', width - 1 - column)}[column_side]
            at = dict([place, other])
            result[row, column] = picture[at['y'], at['x']]
    return result


def save_turned(path, picture, value, **options):
    """Save an upright picture, uint8 (H, W, 3) or (H, W), as a file that stores it turned, with the tag."""
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(stored(picture, value)).save(path, exif=exif, **options)
    return path
