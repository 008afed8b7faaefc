"""Over-segmentation of an image from its pixels alone: what a contour detector supplies otherwise.

Superpixels by k-means over smoothed colour, texture energy and position are split into connected regions, which then
merge along Ward's criterion, so that the regions are few, connected and follow changes of colour and of texture.
`merge_neighbours` merges by any other criterion, too.
"""
import heapq

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

_SUPERPIXELS = 140
_ITERATIONS = 5
_AT_ONCE = 1 << 16  # points whose distances to all superpixels are in memory together
_POSITION_WEIGHT = 0.5  # against the colour and texture features, which have unit deviation together


def over_segmentation(image, smoothing=2.5, fewest=12, most=60, merge_cost=120.0):
    """Split an image (H, W, 3) uint8 RGB into 4-connected regions, (H, W) uint8 ids 0..n-1.

    The defaults are those of the built-in data. `smoothing` is that of the features, in pixels. There are `fewest` to
    `most` regions, at most 255, or fewer in an image without so many superpixels; in between, neighbours merge up to
    the Ward cost `merge_cost`, in pixels times squared distance of features.
    """
    features = _features(image, smoothing)
    regions = _connected(_superpixels(features))
    return _merge(regions, features, fewest, most, merge_cost).astype(np.uint8)


def _features(image, smoothing):
    """Return (H, W, 8) float32: colour, and the energy of the lightness at two scales and two directions."""
    def smooth(plane):
        return cv2.GaussianBlur(plane, (0, 0), smoothing)

    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    colour = smooth(lab)
    lightness = cv2.GaussianBlur(lab[..., 0], (0, 0), 0.7)
    energies = []
    for step in (1, 3):
        difference = np.zeros(2 * step + 1, np.float32)
        difference[[0, -1]] = -1, 1
        for kernel in (difference[None], difference[:, None]):
            slope = cv2.filter2D(lightness, -1, kernel)
            energies.append(np.sqrt(smooth(slope * slope)))
    stack = np.dstack([colour, *energies, smooth(np.abs(lab[..., 0] - colour[..., 0]))])
    stack -= stack.mean((0, 1))
    return stack / (stack.std((0, 1)) + 1.0) / np.sqrt(stack.shape[2])


def _superpixels(features):
    """Return (H, W) cluster ids by k-means over features and positions, started on a regular grid."""
    height, width, _ = features.shape
    cell = np.sqrt(height * width / _SUPERPIXELS)
    y, x = np.mgrid[:height, :width].astype(np.float32) * (_POSITION_WEIGHT / cell)
    points = np.dstack([features, y, x])
    coarse = np.ascontiguousarray(points[::2, ::2])
    rows, columns = max(1, round(height / cell)), max(1, round(width / cell))
    row_ids = np.arange(coarse.shape[0]) * rows // coarse.shape[0]
    column_ids = np.arange(coarse.shape[1]) * columns // coarse.shape[1]
    ids = (row_ids[:, None] * columns + column_ids).ravel()
    coarse = coarse.reshape(-1, points.shape[2])
    for _ in range(_ITERATIONS):
        centres = _means(coarse, np.unique(ids, return_inverse=True)[1])
        ids = _nearest(coarse, centres)
    return _nearest(points.reshape(-1, points.shape[2]), centres).reshape(height, width)


def _means(points, ids):
    """Return the mean (K, F) of the `points` (N, F) of each of the consecutive `ids` (N,)."""
    counts = np.bincount(ids)
    sums = [np.bincount(ids, column) for column in points.T]
    return (np.stack(sums, 1) / counts[:, None]).astype(np.float32)


def _nearest(points, centres):
    """Return for each of `points` (N, F) the index of the closest of `centres` (K, F)."""
    squares = (centres * centres).sum(1)
    return np.concatenate([np.argmin(squares - 2 * points[start:start + _AT_ONCE] @ centres.T, 1)
                           for start in range(0, len(points), _AT_ONCE)])


def _connected(ids):
    """Split the ids of an (H, W) map into 4-connected regions; return consecutive ids (H, W)."""
    index = np.arange(ids.size).reshape(ids.shape)
    right, down = ids[:, 1:] == ids[:, :-1], ids[1:] == ids[:-1]
    start = np.concatenate([index[:, :-1][right], index[:-1][down]])
    end = np.concatenate([index[:, 1:][right], index[1:][down]])
    graph = coo_matrix((np.ones(len(start), bool), (start, end)), (ids.size, ids.size))
    return connected_components(graph, directed=False)[1].reshape(ids.shape)


def _merge(regions, features, fewest, most, merge_cost):
    """Merge neighbouring regions, the cheapest first, down to `most` and on to `fewest` while it costs little."""
    flat = regions.ravel()
    count = int(flat.max()) + 1
    means = _means(features.reshape(flat.size, -1), flat).astype(np.float64)
    sizes = np.bincount(flat).astype(np.float64)
    neighbours = [set() for _ in range(count)]
    for a, b in np.unique(neighbouring_pixels(regions), axis=1).T.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)

    def ward(region, others):
        distance = ((means[others] - means[region]) ** 2).sum(1)
        return (sizes[others] * sizes[region] / (sizes[others] + sizes[region]) * distance).tolist()

    def join(keep, gone):
        means[keep] = (sizes[keep] * means[keep] + sizes[gone] * means[gone]) / (sizes[keep] + sizes[gone])
        sizes[keep] += sizes[gone]

    return merge_neighbours(neighbours, ward, join, lambda cost, left: left > fewest and (
        cost <= merge_cost or left > most))[regions]


def merge_neighbours(neighbours, costs, join, goes_on):
    """Merge neighbouring regions in the order of their costs; return the consecutive ids (n,) of what they end in.

    Args:
        neighbours: list of the sets of the ids of each region's neighbours, ids 0..n-1; is used up.
        costs: function from a region and a list of its neighbours to the list of the costs of merging it with each.
        join: function that is told that the first of two regions takes in the second, after which costs may change.
        goes_on: function from the cost of the cheapest pair and the number of regions left to whether it is merged.
    """
    count = left = len(neighbours)
    version = [0] * count  # of a region: rises as it grows, so that its older costs are recognised
    parents = np.arange(count)

    def entries(region, others):
        """Return (cost, lower id, higher id, versions of both) of merging `region` with each of `others`."""
        return [(cost, *((region, other) if region < other else (other, region)), version[region] + version[other])
                for cost, other in zip(costs(region, others), others, strict=True)]

    heap = [entry for region in range(count)
            for entry in entries(region, [other for other in neighbours[region] if other > region])]
    heapq.heapify(heap)
    while heap:
        cost, keep, gone, age = heapq.heappop(heap)
        if age != version[keep] + version[gone] or gone not in neighbours[keep]:
            continue
        if not goes_on(cost, left):
            break
        join(keep, gone)
        version[keep] += 1
        for other in neighbours[gone]:
            neighbours[other].discard(gone)
            neighbours[other].add(keep)
        neighbours[keep] |= neighbours[gone]
        neighbours[keep] -= {keep, gone}
        neighbours[gone] = set()
        for entry in entries(keep, sorted(neighbours[keep])):
            heapq.heappush(heap, entry)
        parents[gone] = keep
        left -= 1
    while (parents[parents] != parents).any():
        parents = parents[parents]
    return np.unique(parents, return_inverse=True)[1]


def neighbouring_pixels(regions):
    """Return the ids (2, N) on both sides of every border between two 4-neighbours of a map (H, W), lower ids first."""
    pairs = np.concatenate([np.stack([regions[:, :-1].ravel(), regions[:, 1:].ravel()]),
                            np.stack([regions[:-1].ravel(), regions[1:].ravel()])], axis=1)
    return np.sort(pairs[:, pairs[0] != pairs[1]], axis=0)
