"""Regions of an image by the oriented watershed transform of a contour map, and merging.

The transform: Arbelaez, Maire, Fowlkes, Malik, "Contour Detection and Hierarchical Image Segmentation", PAMI 2011. The
watershed of a contour map gives many small basins. An arc between two of them is as strong as the map on it, less where
the map's contour runs across the arc instead of along it. The library higra does that.

Neighbours then merge in the order of what the arc between them is worth: its strength, times the square root of the
smaller one's share of the image up to a twentieth. The paper's hierarchy goes by strength alone. But a detector's
contours are thick, so that slivers beside them have the strongest arcs of all, and use up the number of regions; and
what is lost with an arc is no more than the smaller region.
"""
import math

import cv2
import numpy as np

from spml.errors import require_module
from spml.scenes.regions import merge_neighbours, neighbouring_pixels

MAX_REGIONS = 255  # ids 0..254

_PLATEAU_SIGMA = 0.7  # pixels; the levels of an 8-bit map make plateaus, on which a watershed runs anywhere
_GRADIENT_SIGMA, _TENSOR_SIGMA = 1.5, 2.0  # pixels, of the structure tensor
_MIN_SHARE = 2e-4  # of the image; smaller regions, such as rungs between two close contours, join a neighbour
_FULL_SHARE = 1 / 20  # of the image, from which on a region's arcs count in full


def require_higra():
    """Return the module higra, or raise an SpmlError that says how to install it."""
    return require_module('higra', "over-segmentation needs higra: pip install -e '.[data]', or pip install higra")


def regions_from_contours(contours, threshold, max_regions=MAX_REGIONS):
    """Cut an image into regions along a contour map: (H, W) uint8 ids 0..n-1, each of one 4-connected region.

    Args:
        contours: (H, W) float in 0..1, high on contours, as detectors give it: thin or thick, smooth or in 255 steps.
        threshold: 0..1; two regions are separate where the contour between them is stronger than this on average. Of a
            region below a twentieth of the image, the contour has to be stronger.
        max_regions: 1..255; where an image would have more regions, its threshold rises.
    """
    smooth = cv2.GaussianBlur(np.asarray(contours, np.float64), (0, 0), _PLATEAU_SIGMA)
    slopes = cv2.GaussianBlur(smooth, (0, 0), _GRADIENT_SIGMA)
    y, x = cv2.Sobel(slopes, cv2.CV_64F, 0, 1), cv2.Sobel(slopes, cv2.CV_64F, 1, 0)
    # Both flanks of a contour slope along its normal: the tensor of their slopes says which way that is.
    tensor = (cv2.GaussianBlur(part, (0, 0), _TENSOR_SIGMA) for part in (y * y, x * y, x * x))
    return cut_regions(smooth, direction(*tensor), threshold, max_regions)


def direction(yy, xy, xx):
    """Return the angle (H, W) of tensors' largest eigenvectors, from x towards y (down) in [0, pi)."""
    return np.mod(np.arctan2(2 * xy, xx - yy) / 2, np.pi)


def cut_regions(strength, orientation, threshold, max_regions=MAX_REGIONS):
    """Return the regions as above, of a strength >= 0 and the angle of the contour's normal at each pixel."""
    higra = require_higra()
    one = np.zeros(strength.shape, np.uint8)
    if strength.size == 1:  # no edge, which higra wants
        return one
    graph = higra.get_4_adjacency_graph(strength.shape)

    def on_edges(values):
        return higra.weight_graph(graph, np.ascontiguousarray(values, np.float64), higra.WeightFunction.mean)

    # Angles wrap at pi, so what is averaged over the two pixels of an edge is the unit vector of twice the angle.
    angles = np.mod(np.arctan2(on_edges(np.sin(2 * orientation)), on_edges(np.cos(2 * orientation))) / 2, np.pi)
    adjacency, arcs = higra.oriented_watershed(graph, on_edges(strength), strength.shape, angles)
    if adjacency.num_vertices() == 1:
        return one
    basins = higra.CptRegionAdjacencyGraph.construct(adjacency)['vertex_map'].reshape(strength.shape)
    merged = _merge(basins, np.stack(adjacency.edge_list()), arcs, threshold, max_regions)
    return merged[basins].astype(np.uint8)


def _merge(basins, pairs, arcs, threshold, max_regions):
    """Return the region of each basin: neighbours merge, those whose arc matters least first, as the module says.

    Args:
        basins: (H, W) ids 0..n-1.
        pairs: (2, A) ids of the basins on both sides of each arc.
        arcs: (A,) mean strength of each.
    """
    sizes = np.bincount(basins.ravel()).tolist()
    smallest, full = _MIN_SHARE * basins.size, _FULL_SHARE * basins.size
    borders, lengths = np.unique(neighbouring_pixels(basins), axis=1, return_counts=True)
    length = dict(zip(map(tuple, borders.T.tolist()), lengths.tolist(), strict=True))
    sums = [{} for _ in sizes]  # for each neighbour of a region, the arc's strength summed over its length, and that
    for pair, strength in zip(np.sort(pairs, axis=0).T.tolist(), arcs.tolist(), strict=True):
        a, b = pair
        if a != b:
            sums[a][b] = sums[b][a] = strength * length[a, b], length[a, b]

    def costs(region, others):
        found = []
        for other in others:
            total, steps = sums[region][other]
            area = min(sizes[region], sizes[other])
            cost = total / steps * math.sqrt(min(1, area / full))
            found.append(cost if area >= smallest else cost - 1)  # below any threshold
        return found

    def join(keep, gone):
        sizes[keep] += sizes[gone]
        del sums[keep][gone], sums[gone][keep]
        for other, (total, steps) in sums[gone].items():
            before = sums[keep].get(other, (0.0, 0))
            sums[keep][other] = sums[other][keep] = before[0] + total, before[1] + steps
            del sums[other][gone]

    return merge_neighbours([set(row) for row in sums], costs, join,
                            lambda cost, left: cost <= threshold or left > max_regions)
