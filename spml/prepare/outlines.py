"""Label maps as shapes that can be corrected by hand: the outlines and the run lengths of their connected regions.

A region is what is connected by sides in one class. Polygons have no holes: an outline is filled, and what lies in a
hole is a region that is drawn later. So the regions are drawn from the largest filled one to the smallest, and one that
is there already, as background is where nothing was drawn, needs no outline.
"""
import base64
import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from spml.prepare import labelme


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
    content = io.BytesIO()
    Image.fromarray(region.filled.astype(np.uint8) * 255).save(content, format='PNG')
    return _shape(name, 'mask', corners, base64.b64encode(content.getvalue()).decode())


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
