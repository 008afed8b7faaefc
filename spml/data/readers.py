"""Reading images, label maps, CAMs and prototypes from files, each checked before it is used.

Labels are only taken as the 8-bit single-channel PNG they must be: converting anything else silently would turn class
ids into something plausible and wrong. `spml.data.decoding` gets the pixels out of the bytes.
"""
import contextlib
import io
import pickle
import reprlib

import numpy as np
from PIL import Image

from spml.data.decoding import (
    MAX_BYTES,
    check_pixels,
    decode_image,
    decoding,
    orientation,
    png_header,
    png_pixels,
    read_bytes,
    rgb_pixels,
    unread_content,
    upright_size,
    warn_of_damage,
)
from spml.data.lists import located
from spml.data.safe_pickle import load_object
from spml.errors import DataError, WrongEncodingError, first_line
from spml.names import UNLABELLED
from spml.utils.archives import check_arrays
from spml.utils.maps import tags_of
from spml.visualization.palette import class_colours, ids_of_colours

# CAMs are scaled to 0..1; rounding may leave that by this much.
_CAM_TOLERANCE = 1e-3
_CAM_FORM = 'a .npy dict {class - 1: H x W}'
_NOT_LABELLED = np.full((1, 1), UNLABELLED, np.uint8)


def read_image(path, on_damage=warn_of_damage):
    """Read a JPEG or PNG as (H, W, 3) uint8 RGB; grey becomes RGB.

    Pixels are turned upright where the file has an EXIF orientation, as `spml.data.decoding` says. `on_damage` is
    called with a line of text where the decoder had to guess a part of the pixels. DataError: the file is missing,
    damaged, truncated, too large, of 16 bits, or neither JPEG nor PNG.
    """
    return decode_image(path, read_bytes(path), on_damage)


def image_pixels(image, name='image'):
    """Return a PIL image or an array as (H, W, 3) uint8 RGB; DataError for what `read_image` refuses as a file.

    A PIL image is turned upright; one that Pillow has opened but not read yet is decoded like a file. `name` is what
    errors call it.
    """
    if isinstance(image, Image.Image):
        content = unread_content(image)
        return rgb_pixels(name, image) if content is None else decode_image(name, content, warn_of_damage)
    pixels = np.empty(0, object)
    with contextlib.suppress(ValueError):  # lists of several lengths
        pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise WrongEncodingError(f'{name}: {pixels.dtype} of shape {pixels.shape}, but pixels must be uint8 (H, W, 3) '
                                 'RGB in 0..255; convert them, or give the path of the file')
    check_pixels(name, pixels.shape[1::-1])
    return pixels


def read_label(path):
    """Read a label map, an 8-bit single-channel PNG, as (H, W) uint8; its values are kept as they are.

    DataError: the file is missing, damaged, too large, or any other kind of image.
    """
    content = read_bytes(path)
    depth, colour, size = png_header(path, content)
    if (depth, colour) != (8, 'grey'):
        way_out = 'write the class ids as bytes, one channel'
        if colour == 'palette':
            way_out = ('get the class ids with `python -c "import numpy as np; from PIL import Image; '
                       'Image.fromarray(np.asarray(Image.open(\'IN.png\'))).save(\'OUT.png\')"`')
        raise WrongEncodingError(
            f'{path}: a {depth}-bit {colour} PNG, but a label must be an 8-bit single-channel PNG; {way_out}')
    check_pixels(path, size)
    return png_pixels(path, content)


def read_colour_label(path):
    """Read a label map as data sets publish it, an 8-bit PNG of ids or of VOC's colours, as (H, W) uint8 ids.

    Colours, a palette's or RGB, say the id by VOC's colour map; void's light colour is 255. DataError: the file is
    missing, damaged, too large, of another kind, or holds a colour of no id.
    """
    content = read_bytes(path)
    depth, colour, size = png_header(path, content)
    if (depth, colour) == (8, 'grey'):
        return read_label(path)
    if colour not in ('palette', 'RGB') or depth > 8:
        raise DataError(f'{path}: a {depth}-bit {colour} PNG; '
                        'a label must be a palette, RGB or 8-bit single-channel PNG')
    check_pixels(path, size)
    colours = png_pixels(path, content, 'RGB')
    ids = ids_of_colours(colours, {colour: index for index, colour in enumerate(class_colours(256))})
    if ids.min() < 0:
        row, column = np.argwhere(ids < 0)[0]
        raise DataError(f'{path}: the pixel at x = {column}, y = {row} has the colour '
                        f'{tuple(colours[row, column].tolist())}, which VOC does not have; use the original file')
    return ids.astype(np.uint8)


def image_size(path, as_stored=False):
    """Return the (height, width) of a JPEG or PNG as `read_image` returns it, or of its pixels as they are stored.

    DataError: the header cannot be read.
    """
    with decoding(path, 'JPEG or PNG image'), Image.open(path, formats=('JPEG', 'PNG')) as image:
        return image.size[::-1] if as_stored else upright_size(image)


def stored_orientation(path):
    """Return the EXIF orientation that a JPEG or PNG is stored with, 1 to 8; DataError: its header cannot be read."""
    with decoding(path, 'JPEG or PNG image'), Image.open(path, formats=('JPEG', 'PNG')) as image:
        return orientation(image)


def check_same_size(entry, image, label, path):
    """Raise DataError, naming both files and sizes, unless `label` (H, W) of `path` has the size of `image`."""
    check_size(path, label.shape, f'its image {entry.image}', image.shape, 'they must be the same')


def check_size(path, found, whose, expected, way_out):
    """Raise DataError unless two shapes (H, W, ...) have one size: that of a file and that of what `whose` names."""
    if tuple(found[:2]) != tuple(expected[:2]):
        raise DataError(f'{path}: {found[1]}x{found[0]} pixels (width x height), but {whose} has '
                        f'{expected[1]}x{expected[0]}; {way_out}')


def read_entry(entry, with_semantic=True, with_regions=True, on_damage=warn_of_damage):
    """Read a list entry's image (H, W, 3) uint8 RGB, semantic label (H, W) uint8 and regions (H, W) uint8.

    A label that is not wanted or that the entry does not have is None; where it says that no pixel is labelled, the
    semantic label is UNLABELLED everywhere. `on_damage` as in `read_image`. DataError, which starts with the list's
    `FILE:LINE`: a file is bad or a label's size differs from its image's.
    """
    with located(entry):
        image = read_image(entry.image, on_damage)
        labels = []
        for wanted, path in ((with_semantic, entry.semantic), (with_regions, entry.regions)):
            label = read_label(path) if wanted and path is not None else None
            if label is not None:
                check_same_size(entry, image, label, path)
            labels.append(label)
    semantic, regions = labels
    if with_semantic and entry.is_unlabelled:
        semantic = np.full(image.shape[:2], UNLABELLED, np.uint8)
    return image, semantic, regions


def entry_tags(entry, label, number=256):
    """Return (number,) bool, the tags of a list entry: the values of its (H, W) uint8 label and its fourth field."""
    tags = tags_of(label, number)
    tags[list(entry.tags)] = True
    return tags


def read_cam(path, num_classes=None, size=None, by_class=False, background=True):
    """Read class activation maps as SEAM stores them: a pickled `.npy` dict from class - 1 to a map. None of it is run.

    Args:
        path: the `.npy` file.
        num_classes: the number of classes including the background; if given, larger ids are refused.
        size: (H, W) of the image; if given, other maps are refused.
        by_class: the keys of the file are class ids, and what it has of 0 is that of the background and left out.
        background: whether class 0 is the background, which has no map. Where it is a class like the others, keys are
            class ids.

    Returns a dict from class - 1 (int; the class itself where there is no background) to (H, W) float32 in 0..1, all of
    one size; empty for an image without objects. DataError: the file is missing or damaged, holds anything but such a
    dict, or tries to run code.
    """
    try:
        cams = load_object(read_bytes(path))
    except pickle.UnpicklingError as error:
        raise DataError(f'{path}: not a CAM file: {first_line(error)}; it must be {_CAM_FORM}') from None
    if not isinstance(cams, dict):
        raise DataError(f'{path}: holds a {type(cams).__name__}, but a CAM file must be {_CAM_FORM}')
    start = 0 if by_class or not background else 1  # the class of the key 0
    result, limit = {}, (254 if num_classes is None else num_classes - 1) + 1 - start
    for key, cam in cams.items():
        if isinstance(key, (bool, np.bool_)) or not isinstance(key, (int, np.integer)) or not 0 <= key < limit:
            # Shortened: a small file can hold a key whose full text would fill the memory.
            raise DataError(f'{path}: the key {reprlib.repr(key)} is not a class{" - 1" * start} between 0 and '
                            f'{limit - 1}')
        index = int(key) + start - int(background)
        result[index] = _check_cam(path, key, cam)
        if size is not None and cam.shape != tuple(size):
            raise DataError(f'{path}: class {key + start} is {cam.shape[0]}x{cam.shape[1]}, its image '
                            f'{size[0]}x{size[1]}; both have to be of one size')
    result.pop(-1, None)
    shapes = {cam.shape for cam in result.values()}
    if len(shapes) > 1:
        raise DataError(f'{path}: the maps differ in size: {sorted(shapes)}')
    return result


def read_prototypes(path, dim=None):
    """Read the prototypes of one image, as `prototype.py` writes them: (S, D) float32, and labels (S,) int64 in 0..255.

    `dim` is the D they must have, if given. DataError: the file is missing or damaged, or its arrays are absent,
    misshapen, or of another D.
    """
    content = io.BytesIO(read_bytes(path))
    with decoding(path, 'file of prototypes'):
        check_arrays(content, MAX_BYTES)
        with np.load(content, allow_pickle=False) as arrays:
            prototype, label = (arrays.get(name) for name in ('prototype', 'prototype_label'))
    if not (isinstance(prototype, np.ndarray) and isinstance(label, np.ndarray)):
        raise DataError(f'{path}: has no array `prototype` or `prototype_label`; write it with prototype.py')
    if prototype.ndim != 2 or label.shape != prototype.shape[:1] or prototype.dtype.kind != 'f' or (
            label.dtype.kind not in 'iu'):
        raise DataError(f'{path}: prototype {prototype.dtype} {prototype.shape} and prototype_label {label.dtype} '
                        f'{label.shape} must be float (S, D) and integer (S,)')
    if dim is not None and prototype.shape[1] != dim:
        raise DataError(f'{path}: prototypes with D = {prototype.shape[1]}, but the network has D = {dim}; compute the '
                        f'prototypes with this network')
    with np.errstate(over='ignore'):  # what float32 cannot hold becomes infinite, and is refused next
        prototype = prototype.astype(np.float32)
    if not np.isfinite(prototype).all():
        raise DataError(f'{path}: prototypes that are not finite; compute them again')
    if label.size and not 0 <= label.min() <= label.max() <= 255:
        raise DataError(f'{path}: prototype labels outside 0..255; compute them again')
    return prototype, label.astype(np.int64)


def _check_cam(path, key, cam):
    if not isinstance(cam, np.ndarray) or cam.ndim != 2 or cam.dtype.kind != 'f' or cam.size == 0:
        found = f'{cam.dtype} {cam.shape}' if isinstance(cam, np.ndarray) else type(cam).__name__
        raise DataError(f'{path}: the map of key {key} is {found}, but it must be a float array (H, W)')
    if not np.isfinite(cam).all() or cam.min() < -_CAM_TOLERANCE or cam.max() > 1 + _CAM_TOLERANCE:
        raise DataError(f'{path}: the map of key {key} has values outside 0..1; divide each map by its maximum')
    return cam.astype(np.float32)


def read_tags(entries):
    """Return (N, 256) bool, the tags of N list entries; DataError, with the list's `FILE:LINE`, for a bad label."""
    rows = []
    for entry in entries:
        with located(entry):
            rows.append(entry_tags(entry, _NOT_LABELLED if entry.semantic is None else read_label(entry.semantic)))
    return np.array(rows)


def sharing_pairs(tags):
    """Return which share, in 0..1, of the pairs of N images have a tag in common, from (N, T) bool; 0 without pairs."""
    sets, counts = np.unique(tags, axis=0, return_counts=True)
    # Products of 0/1 rows count common members exactly in float32.
    meets = sets.astype(np.float32) @ sets.T.astype(np.float32) > 0
    with_itself = (counts * meets.diagonal()).sum()
    ordered = counts @ meets @ counts - with_itself
    return float(ordered / max(1, len(tags) * (len(tags) - 1)))


def describe_tags(counts, num_images, names):
    """Return in one or two lines how many images have each tag, from (K,) ints and the K names, and which none has."""
    absent = [name for name, count in zip(names, counts, strict=True) if not count]
    text = f'{num_images} images with {counts.sum()} tags of {np.count_nonzero(counts)} classes'
    return f'{text}\nno image has the tag {", ".join(absent)}: no map will be learned of that' if absent else text
