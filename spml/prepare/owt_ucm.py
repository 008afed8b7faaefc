"""Regions of an image by the oriented watershed transform and the ultrametric contour map (OWT-UCM).

Arbelaez, Maire, Fowlkes, Malik, "Contour Detection and Hierarchical Image Segmentation", PAMI 2011. The watershed of a
contour map gives many small regions. An arc between two of them is as strong as the map on it, less where the map's
contour runs across the arc instead of along it; removing the weakest arc again and again makes a hierarchy of regions.
The library higra does both; here are what it needs, the orientation of a map, and the cut through the hierarchy.
"""
import cv2
import numpy as np

from spml.errors import SpmlError

MAX_REGIONS = 255  # ids 0..254

_PLATEAU_SIGMA = 0.7  # pixels; the levels of an 8-bit map make plateaus, on which a watershed runs anywhere
_GRADIENT_SIGMA, _TENSOR_SIGMA = 1.5, 2.0  # pixels, of the structure tensor
_MIN_SHARE = 2e-4  # of the image; smaller regions, such as rungs between two close contours, join a neighbour


def require_higra():
    """Return the module higra, or raise an SpmlError that says how to install it."""
    try:
        import higra
    except ImportError:
        raise SpmlError("over-segmentation needs higra: pip install -e '.[data]', or pip install higra") from None
    return higra


def regions_from_contours(contours, threshold, max_regions=MAX_REGIONS):
    """Cut an image into regions along a contour map: (H, W) uint8 ids 0..n-1, each of one 4-connected region.

    Args:
        contours: (H, W) float in 0..1, high on contours, as detectors give it: thin or thick, smooth or in 255 steps.
        threshold: 0..1; two regions are separate where the contour between them is stronger than this on average.
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
    tree, altitudes = higra.mean_pb_hierarchy(graph, on_edges(strength), edge_orientations=angles)
    if tree.num_leaves() == 1:  # what follows would crash
        return one
    tree, altitudes = higra.filter_small_nodes_from_tree(tree, altitudes, round(_MIN_SHARE * strength.size))
    cuts = higra.HorizontalCutExplorer(tree, altitudes)
    cut = cuts.horizontal_cut_from_altitude(threshold)
    if len(cut.nodes()) > max_regions:
        cut = cuts.horizontal_cut_from_num_regions(max_regions, at_least=False)
    labels = cut.labelisation_leaves(tree)
    return np.unique(labels, return_inverse=True)[1].reshape(strength.shape).astype(np.uint8)
