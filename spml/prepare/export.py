"""A folder of photos with label maps or shapes, to be corrected by hand and given to prepare_custom.py.

What it holds, as far as it is asked for:

    photos/NAME.jpg     the photos, upright, in names that differ
    masks/NAME.png      label maps: class ids
    labelme/NAME.json   polygons of LabelMe
    coco.json           polygons of COCO; coco_rle.json: run lengths
    classes.txt         the class list

A region is what is connected by sides in one class. Polygons have no holes: an outline is filled, and what lies in a
hole is a region that is drawn later. So the regions are drawn from the largest filled one to the smallest, and one that
is there already, as background is where nothing was drawn, needs no outline.
"""
import base64
import filecmp
import os
import pathlib
import shlex
import tempfile
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from spml.errors import ConfigError, DataError
from spml.names import VOID
from spml.prepare import labelme
from spml.prepare.class_list import read_class_list
from spml.prepare.photos import UPRIGHT, place_photo
from spml.utils.formats import encoded, write_json, write_png, write_text

MASKS, LABELME, COCO, COCO_RLE = FORMATS = ('masks', 'labelme', 'coco', 'coco_rle')
_PHOTOS, _CLASSES = 'photos', 'classes.txt'
_FILES = {COCO: 'coco.json', COCO_RLE: 'coco_rle.json'}
_LABELME_VERSION = '5.5.0'  # of the form of its files


def existing(folder, formats, names):
    """Return the paths of what would be written over: labels of `names`, or a JSON of COCO, which may be corrected."""
    folder, paths = pathlib.Path(folder), []
    for form in formats:
        ending = {MASKS: 'png', LABELME: 'json'}.get(form)
        paths += [folder / form / f'{name}.{ending}' for name in names] if ending else [folder / _FILES[form]]
    return [path for path in paths if path.exists()]


def photo_place(folder, name, photo):
    """Return where a photo is placed under `name`."""
    return pathlib.Path(folder) / _PHOTOS / f'{name}{photo.suffix.lower()}'


def may_be_placed(photo, place):
    """Return whether nothing is at a place yet, or this very photo, as `Export` puts it there."""
    if not place.exists() or place.samefile(photo):
        return True
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / place.name
        place_photo(photo, copy, UPRIGHT)
        return filecmp.cmp(copy, place, shallow=False)


class Export:
    """Writes the label maps of photos one by one; `close` writes what holds those of all.

    Args:
        folder, formats: where to write, and what, of `FORMATS`.
        class_names: C strings.
        color_map: C colours [R, G, B], or None.
        has_background: whether the first class is what shapes leave open; without one, every pixel is in a shape.
        tolerance: pixels by which polygons may leave the outline, to have fewer points; 0: the very pixels.

    A class list that is there is kept, for somebody may have added classes to it. ConfigError: the names cannot be
    those of a class list. DataError: that which is there has others.
    """

    def __init__(self, folder, formats, class_names, color_map=None, has_background=True, tolerance=0):
        self.folder, self.formats, self.names = pathlib.Path(folder), formats, class_names
        self.has_background, self.tolerance = has_background, tolerance
        self._rest = 0 if has_background else VOID
        self._coco = {name: [] for name in _FILES if name in formats}
        path = self.folder / _CLASSES
        colours = [' '.join(map(str, colour)) for colour in color_map or [()] * len(class_names)]
        if path.exists():
            self._classes = read_class_list(path)
            if list(self._classes.names)[:len(class_names)] != list(class_names):
                raise DataError(f'{path}: begins with other classes than those of the run, {", ".join(class_names)}; '
                                'give another --save_dir')
            return
        write_text(path, ''.join(f'{" ".join(line).rstrip()}\n' for line in zip(class_names, colours, strict=True)))
        try:
            self._classes = read_class_list(path)
        except DataError as error:
            path.unlink()
            raise ConfigError(f'dataset.class_names cannot be those of a class list: {error}') from None
        if list(self._classes.names) != list(class_names):
            path.unlink()
            raise ConfigError(f'dataset.class_names: {path} would be read as {", ".join(self._classes.names)}; change '
                              'the names')

    def add(self, name, photo, labels):
        """Write what is known of a photo, a path, under `name`; `labels` is (H, W) uint8 class ids, upright."""
        placed = photo_place(self.folder, name, photo)
        place_photo(photo, placed, UPRIGHT)
        if MASKS in self.formats:
            write_png(self.folder / MASKS / f'{name}.png', labels)
        with_polygons = {LABELME, COCO} & set(self.formats)
        regions = regions_to_draw(labels, self._rest) if with_polygons else []
        if LABELME in self.formats:
            shapes = [labelme_shape(region, self.names[region.value], self.tolerance) for region in regions]
            write_json(self.folder / LABELME / f'{name}.json', {
                'version': _LABELME_VERSION, 'flags': {}, 'shapes': shapes,
                'imagePath': os.path.join(os.pardir, _PHOTOS, placed.name), 'imageData': None,
                'imageHeight': labels.shape[0], 'imageWidth': labels.shape[1]})
        if COCO in self.formats:
            self._coco[COCO].append((placed.name, labels.shape, [
                (region.value, coco_polygon(region, self.tolerance)) for region in regions]))
        if COCO_RLE in self.formats:
            self._coco[COCO_RLE].append((placed.name, labels.shape, [
                (region.value, coco_runs(region, labels.shape))
                for region in connected_regions(labels) if region.value != self._rest]))

    def close(self):
        """Write the files of COCO."""
        for form, photos in self._coco.items():
            annotations = [{'image_id': number, 'category_id': value + 1, **record}
                           for number, (_, _, found) in enumerate(photos, 1) for value, record in found]
            write_json(self.folder / _FILES[form], {
                'images': [{'id': number, 'file_name': name, 'height': size[0], 'width': size[1]}
                           for number, (name, size, _) in enumerate(photos, 1)],
                'categories': [{'id': index + 1, 'name': name} for index, name in enumerate(self.names)],
                'annotations': [{'id': number, **record} for number, record in enumerate(annotations, 1)]})

    def way_back(self):
        """Return for each format the words with which prepare_custom.py takes what was written."""
        background = []
        try:
            if self._classes.has_background() != self.has_background:
                background = ['--background', 'none']
        except ConfigError:
            background = ['--background', 'first' if self.has_background else 'none']
        return [shlex.join(['--images', str(self.folder / _PHOTOS), f'--{form.removesuffix("_rle")}',
                            str(self.folder / _FILES.get(form, form)), '--classes', str(self.folder / _CLASSES),
                            *background, *([] if self.has_background or form == MASKS else ['--rest', 'void'])])
                for form in self.formats]


class Region(NamedTuple):
    """A connected region: its label value, the x and y of its bounding box's corner, and two masks of the box's size.

    `mask` is (h, w) bool, `filled` the same with its holes filled.
    """

    value: int
    left: int
    top: int
    mask: np.ndarray
    filled: np.ndarray

    @property
    def corner(self):
        """The x and y of its bounding box's upper left corner, as an array."""
        return np.array([self.left, self.top])

    @property
    def box(self):
        """The indices of the bounding box in the label map."""
        height, width = self.mask.shape
        return np.s_[self.top:self.top + height, self.left:self.left + width]


def connected_regions(labels):
    """Return the `Region`s of an (H, W) uint8 label map, the largest filled one first."""
    found = []
    for value in np.unique(labels).tolist():
        number, parts, boxes, _ = cv2.connectedComponentsWithStats((labels == value).astype(np.uint8), connectivity=4)
        for index in range(1, number):
            left, top, width, height = boxes[index, :4].tolist()
            mask = parts[top:top + height, left:left + width] == index
            found.append(Region(value, left, top, mask, ndimage.binary_fill_holes(mask)))
    return sorted(found, key=lambda region: region.filled.sum(), reverse=True)


def regions_to_draw(labels, rest):
    """Return the `Region`s, in this order, whose `filled` masks give a label map where all was `rest` before."""
    canvas, chosen = np.full(labels.shape, rest, np.uint8), []
    for region in connected_regions(labels):
        seen = canvas[region.box]
        if (seen[region.mask] != region.value).any():
            seen[region.filled] = region.value
            chosen.append(region)
    return chosen


def along_edges(region, tolerance=0):
    """Return the outline of a filled region as (N, 2) ints x, y of corners of pixels, as polygons of COCO are filled.

    Points that are as near as `tolerance` pixels to the line without them are left out.
    """
    # In an image of twice the size, the last pixel of a region, 2x + 1, is not that of the next region, 2x + 2. Both
    # stand for the edge between them: half of what follows them, rounded down.
    doubled = region.filled.repeat(2, axis=0).repeat(2, axis=1)
    points = (_contour(doubled) + 1) // 2
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    return _simplified(points, tolerance) + region.corner


def through_pixels(region, tolerance=0):
    """Return the outline of a filled region as (N, 2) ints x, y of its outermost pixels, as LabelMe fills polygons."""
    return _simplified(_contour(region.filled), tolerance) + region.corner


def coco_polygon(region, tolerance=0):
    """Return the record of an annotation of COCO, without its ids: a polygon around a filled region."""
    return _annotation(region, [along_edges(region, tolerance).ravel().tolist()], region.filled)


def coco_runs(region, size):
    """Return the record of an annotation of COCO, without its ids: a region of an image of (H, W) as run lengths."""
    return _annotation(region, {'size': list(size), 'counts': run_lengths(region, size)}, region.mask)


def run_lengths(region, size):
    """Return the run lengths of a region down the columns of an image of (H, W), what is outside first."""
    changes = np.diff(np.pad(region.mask.T, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    columns, rows = np.nonzero(changes)
    places = (region.left + columns) * size[0] + region.top + rows
    # What ends at the foot of a column and begins at the head of the next is one run.
    places, times = np.unique(places, return_counts=True)
    return np.diff(places[times == 1], prepend=0, append=size[0] * size[1]).tolist()


def labelme_shape(region, name, tolerance=0):
    """Return a filled region as a shape of LabelMe with the label `name`.

    It is a polygon; or a mask, where a polygon would not give the very pixels (without a `tolerance`) or any.
    """
    points = through_pixels(region, tolerance)
    if len(points) > 2:
        inside = (points - region.corner).astype(np.float64)
        drawn, empty = labelme.area(labelme.Shape('', name, 'polygon', inside, {}), region.filled.shape)
        if not empty and (tolerance or np.array_equal(drawn, region.filled)):
            return _shape(name, 'polygon', points.tolist(), None)
    height, width = region.filled.shape
    corners = [[region.left, region.top], [region.left + width - 1, region.top + height - 1]]
    content = encoded(Image.fromarray(region.filled.astype(np.uint8) * 255))
    return _shape(name, 'mask', corners, base64.b64encode(content).decode())


def _shape(name, form, points, mask):
    return {'label': name, 'points': points, 'group_id': None, 'description': '', 'shape_type': form, 'flags': {},
            'mask': mask}


def _annotation(region, segmentation, mask):
    height, width = mask.shape
    return {'segmentation': segmentation, 'area': int(mask.sum()), 'bbox': [region.left, region.top, width, height],
            'iscrowd': 0}


def _contour(mask):
    """Return the outermost pixels of a filled mask, (N, 2) x, y, without those on a line between their neighbours."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return contours[0].reshape(-1, 2).astype(np.int64)


def _simplified(points, tolerance):
    if not tolerance:
        return points
    fewer = cv2.approxPolyDP(points.astype(np.int32)[:, None], tolerance, True).reshape(-1, 2)
    return fewer.astype(np.int64) if len(fewer) > 2 else points
