"""A picture of a prediction: the image with its classes laid over it in colour, and a legend of them below."""
import numpy as np
from PIL import Image, ImageDraw

from spml.utils.maps import boundary
from spml.visualization.fonts import shown_names
from spml.visualization.legend import GAP, Legend
from spml.visualization.palette import class_colours, colourise

_BACKGROUND = (255, 255, 255)
# Below this width, names of classes would not fit.
_LEAST_WIDTH = 240


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
