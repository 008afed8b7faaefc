"""Boundary recall: how much of the truth's boundaries an over-segmentation also has."""
from scipy.ndimage import distance_transform_edt

from spml.names import VOID
from spml.utils.maps import boundary

# Data sets draw void as a band of some pixels around objects: the boundary is then its middle line. In the middle of
# larger void areas, which hide whole objects, nobody knows where a boundary runs.
_VOID_BAND = 5


def boundary_recall(regions, truth, tolerance=2):
    """Count the boundary pixels of the truth that lie near a boundary of the regions, and all: (found, all), two ints.

    A boundary pixel has one of another label above, below, left or right of it. Before that, void pixels take the
    label of the nearest other pixel; what is more than 5 pixels inside of void is not counted. Near means at a
    Euclidean distance of `tolerance` pixels or less. Both are (H, W) ints, 255 is void; ValueError if they differ in
    shape.
    """
    if regions.shape != truth.shape:
        raise ValueError(f'regions of shape {regions.shape} against truth of shape {truth.shape}')
    wanted, void = boundary(truth), truth == VOID
    if void.all():
        return 0, 0
    if void.any():
        depth, (rows, columns) = distance_transform_edt(void, return_indices=True)
        wanted = boundary(truth[rows, columns]) & (depth <= _VOID_BAND)
    there = boundary(regions)
    near = distance_transform_edt(~there) <= tolerance if there.any() else there
    return int((wanted & near).sum()), int(wanted.sum())

