"""Merging regions of an image with their neighbours, the cheapest pair first."""
import heapq

import numpy as np


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
