"""Weak labels of the built-in data set, derived from a scene's truth the way annotators or a classifier would.

Scribbles and points are strokes inside each visible object and the background; class activation maps (CAM) are coarse,
noisy and centred on a part of each object. Nothing here is void: what is not annotated is `UNLABELLED`.
"""
import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from spml.names import UNLABELLED, VOID

_STEP = 3  # pixels between the nodes that a stroke may pass
_APART = 31  # pixels, width of the band around background's first stroke that its second keeps out of
_MARGIN = 2  # pixels that a stroke keeps from its object's border where there is room


def strokes(rng, instance):
    """Return a list of (instance id, path (N, 2) float64 of x, y one pixel apart), one per object, two for background.

    `instance` is the (H, W) uint8 instance truth with 255 as void. A path runs along the middle of its object.
    """
    result = []
    for identity in np.unique(instance[instance != VOID]):
        mask = instance == identity
        path = _stroke(rng, _roomy(mask))
        result.append((int(identity), path))
        rest = mask & ~_draw(path, mask.shape, _APART)
        if identity == 0 and rest.any():
            result.append((0, _stroke(rng, _roomy(rest))))
    return result


def draw_strokes(paths, instance, classes, fraction, dilation):
    """Draw the middle `fraction` of every path `dilation` pixels wide; return labels (H, W) uint8.

    `paths` is what `strokes` returns and `classes` the class ids of instances 1..n. A fraction of 0 draws the middle
    point. Pixels beyond a path's own object stay unlabelled, but every object gets at least one labelled pixel.
    """
    labels = np.full(instance.shape, UNLABELLED, np.uint8)
    table = [0, *classes]
    for identity, path in paths:
        mask = instance == identity
        keep = max(1, round(fraction * len(path)))
        first = (len(path) - keep) // 2
        drawn = _draw(path[first:first + keep], mask.shape, dilation) & mask
        if not drawn.any():
            drawn = _draw(_innermost(mask)[None], mask.shape, dilation) & mask
        labels[drawn] = table[identity]
    return labels


def class_activations(rng, visible, classes):
    """Return the CAM dict `{class - 1: (H, W) float32 in 0..1}` of the foreground classes of an image.

    `visible` is the (H, W) uint8 map of instances without void, `classes` their class ids. A map is made at an eighth
    of the size, as a network's is: bright on a part of each object, dim on the rest, with noise and leaks outside.
    """
    height, width = visible.shape
    small = (max(2, width // 8), max(2, height // 8))
    scores = {}
    for label in sorted(set(classes)):
        heat = 0.3 * np.abs(cv2.GaussianBlur(rng.standard_normal(small[::-1]), (0, 0), 1.2))
        for identity in np.flatnonzero(np.array(classes) == label) + 1:
            mask = visible == identity
            heat += rng.uniform(0.7, 1.0) * cv2.resize(_part_heat(rng, mask), small, interpolation=cv2.INTER_AREA)
        if rng.random() < 0.4:
            heat += rng.uniform(0.2, 0.5) * _spot(small, rng.uniform((0, 0), small), 0.1 * np.hypot(*small))
        full = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), 0, None)
        scores[label - 1] = (full / full.max()).astype(np.float32)
    return scores


def object_boxes(visible, classes):
    """Return the list of (class, (left, top, right, bottom)) of the objects, right and bottom excluded.

    `visible` is the (H, W) uint8 map of instances without void, `classes` their class ids.
    """
    boxes = []
    for identity, label in enumerate(classes, 1):
        rows, columns = np.nonzero(visible == identity)
        boxes.append((label, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))
    return boxes


def _part_heat(rng, mask):
    """Return (H, W) float64 heat of one object: a bright blurred part off its centre over a dim blurred whole."""
    rows, columns = np.nonzero(mask)
    pick = rng.integers(len(rows))
    radius = np.sqrt(len(rows))
    centre = np.array([columns.mean(), rows.mean()])
    part = (centre + np.array([columns[pick], rows[pick]])) / 2 + rng.normal(0, 0.08 * radius, 2)
    spot = _spot(mask.shape[::-1], part, rng.uniform(0.2, 0.31) * radius)
    whole = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 4.0)
    return spot * (0.4 + 0.6 * whole) + rng.uniform(0.0, 0.08) * whole


def _spot(size, centre, sigma):
    """Return a (height, width) Gaussian of peak 1 at `centre` (x, y) for `size` (width, height)."""
    x, y = np.arange(size[0]), np.arange(size[1])
    return np.exp(-0.5 * ((x[None] - centre[0]) ** 2 + (y[:, None] - centre[1]) ** 2) / sigma ** 2)


def _roomy(mask):
    """Return the mask without a margin, or the mask itself where nothing would remain."""
    inner = _depth(mask) > _MARGIN
    return inner if inner.any() else mask


def _depth(mask):
    """Return the (H, W) float32 distance of each pixel of a mask to the nearest one outside it or the image's edge."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]


def _innermost(mask):
    """Return the (2,) x, y of the mask's pixel farthest from its border."""
    row, column = np.unravel_index(np.argmax(_depth(mask)), mask.shape)
    return np.array([column, row], np.float64)


def _draw(path, shape, thickness):
    """Return the (H, W) bool map of a path (N, 2) drawn `thickness` pixels wide."""
    canvas = np.zeros(shape, np.uint8)
    points = np.rint(path).astype(np.int32)
    cv2.polylines(canvas, [np.concatenate([points, points[-1:]])], False, 1, thickness)
    return canvas.astype(bool)


def _stroke(rng, mask):
    """Return a path (N, 2) of x, y through the mask: between two far ends, preferring the middle, a bit shaky."""
    depth = _depth(mask)
    grid = depth[_STEP // 2::_STEP, _STEP // 2::_STEP]
    if not (grid > 0).any():
        return _innermost(mask)[None]
    graph, index = _graph(rng, grid)
    start = index[np.unravel_index(np.argmax(grid * rng.uniform(0.3, 1, grid.shape)), grid.shape)]
    away = dijkstra(graph, directed=False, indices=start)
    end = np.argmax(np.where(np.isfinite(away), away, -1))
    away, before = dijkstra(graph, directed=False, indices=end, return_predecessors=True)
    node = np.argmax(np.where(np.isfinite(away), away, -1))
    chain = [node]
    while node != end:
        node = before[node]
        chain.append(node)
    rows, columns = np.nonzero(grid > 0)
    points = np.stack([columns[chain], rows[chain]], 1) * _STEP + _STEP // 2
    return _resample(points.astype(np.float64))


def _graph(rng, grid):
    """Return the sparse 8-neighbour graph of the positive cells of `grid`, and the map (h, w) of cells to nodes.

    An edge costs its length, more near the border, times a random factor.
    """
    index = np.cumsum(grid > 0).reshape(grid.shape) - 1
    starts, ends, costs = [], [], []
    height, width = grid.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = np.s_[:height - dy, max(0, -dx):width - max(0, dx)]
        there = np.s_[dy:, max(0, dx):width + min(0, dx)]
        both = (grid[here] > 0) & (grid[there] > 0)
        starts.append(index[here][both])
        ends.append(index[there][both])
        price = np.hypot(dy, dx) * (1 + 6 / (grid[here][both] + grid[there][both]))
        costs.append(price * rng.uniform(0.6, 1.4, len(price)))
    nodes = int(index.max()) + 1
    edges = (np.concatenate(starts), np.concatenate(ends))
    return coo_matrix((np.concatenate(costs), edges), (nodes, nodes)).tocsr(), index


def _resample(points):
    """Smooth a path (N, 2) and return it with points one pixel apart along its length."""
    if len(points) > 2:
        padded = np.concatenate([points[:1], points, points[-1:]])
        points = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    ticks = np.linspace(0, along[-1], max(1, int(along[-1])))
    return np.stack([np.interp(ticks, along, column) for column in points.T], 1)
