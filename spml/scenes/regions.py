"""Over-segmentation of an image from its pixels alone: what a contour detector supplies for real data.

Superpixels by k-means over smoothed colour, texture energy and position are split into connected regions, which then
merge along Ward's criterion, so that the regions are few, connected and follow changes of colour and of texture.
"""
import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

_SUPERPIXELS = 140
_ITERATIONS = 5
_POSITION_WEIGHT = 0.5  # against the colour and texture features, which have unit deviation together
_MIN_REGIONS, _MAX_REGIONS = 20, 60
_MERGE_COST = 30.0  # Ward cost, in pixels times squared feature distance, up to which regions merge


def over_segmentation(image):
    """Split an (H, W, 3) uint8 RGB image into connected regions; return their ids (H, W) uint8, 0..n-1 with n <= 255.

    Only the image is looked at. Typically 20 to 60 regions come out.
    """
    features = _features(image)
    regions = _connected(_superpixels(features))
    return _merge(regions, features).astype(np.uint8)


def _features(image):
    """Return (H, W, 8) float32: colour, and the energy of the lightness at two scales and two directions."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    colour = cv2.GaussianBlur(lab, (0, 0), 2.5)
    lightness = cv2.GaussianBlur(lab[..., 0], (0, 0), 0.7)
    energies = []
    for step in (1, 3):
        difference = np.zeros(2 * step + 1, np.float32)
        difference[[0, -1]] = -1, 1
        for kernel in (difference[None], difference[:, None]):
            slope = cv2.filter2D(lightness, -1, kernel)
            energies.append(np.sqrt(cv2.GaussianBlur(slope * slope, (0, 0), 2.5)))
    stack = np.dstack([colour, *energies, cv2.GaussianBlur(np.abs(lab[..., 0] - colour[..., 0]), (0, 0), 2.5)])
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
    return np.argmin((centres * centres).sum(1) - 2 * points @ centres.T, 1)


def _connected(ids):
    """Split the ids of an (H, W) map into 4-connected regions; return consecutive ids (H, W)."""
    index = np.arange(ids.size).reshape(ids.shape)
    right, down = ids[:, 1:] == ids[:, :-1], ids[1:] == ids[:-1]
    start = np.concatenate([index[:, :-1][right], index[:-1][down]])
    end = np.concatenate([index[:, 1:][right], index[1:][down]])
    graph = coo_matrix((np.ones(len(start), bool), (start, end)), (ids.size, ids.size))
    return connected_components(graph, directed=False)[1].reshape(ids.shape)


def _merge(regions, features):
    """Merge neighbouring regions, the cheapest first, down to `_MAX_REGIONS` and on while it costs little."""
    flat = regions.ravel()
    count = int(flat.max()) + 1
    means = _means(features.reshape(flat.size, -1), flat).astype(np.float64)
    sizes = np.bincount(flat).astype(np.float64)
    touching = np.zeros((count, count), bool)
    for one, other in ((regions[:, 1:], regions[:, :-1]), (regions[1:], regions[:-1])):
        touching[one, other] = touching[other, one] = True
    np.fill_diagonal(touching, False)
    costs = np.full((count, count), np.inf)
    for region in range(count):
        _update_costs(costs, region, means, sizes, touching)
    owner = np.arange(count)
    for left in range(count, _MIN_REGIONS, -1):
        keep, gone = np.unravel_index(np.argmin(costs), costs.shape)
        if costs[keep, gone] > _MERGE_COST and left <= _MAX_REGIONS:
            break
        means[keep] = (sizes[keep] * means[keep] + sizes[gone] * means[gone]) / (sizes[keep] + sizes[gone])
        sizes[keep] += sizes[gone]
        touching[keep] |= touching[gone]
        touching[keep, keep] = False
        touching[:, keep] = touching[keep]
        touching[gone] = touching[:, gone] = False
        costs[gone] = costs[:, gone] = np.inf
        _update_costs(costs, keep, means, sizes, touching)
        owner[owner == gone] = keep
    return np.unique(owner, return_inverse=True)[1][regions]


def _update_costs(costs, region, means, sizes, touching):
    """Recompute in place the Ward costs of merging `region` with each of its neighbours."""
    distance = ((means - means[region]) ** 2).sum(1)
    row = np.where(touching[region], sizes * sizes[region] / (sizes + sizes[region]) * distance, np.inf)
    costs[region] = costs[:, region] = row
