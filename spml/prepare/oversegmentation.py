"""Over-segmentation of the images of a list, from contour maps or from the images alone, and how good it is."""
import dataclasses
import functools
import logging
import math
import pathlib

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

from spml.cli import arguments
from spml.data.decoding import decoding
from spml.data.lists import check_files, check_unique, located, read_list
from spml.data.readers import check_same_size, check_size, read_entry, read_label
from spml.errors import DataError, SpmlError
from spml.names import VOID
from spml.prepare.owt_ucm import MAX_REGIONS, regions_from_contours, require_higra
from spml.prepare.runner import make, results, run_items, summary
from spml.prepare.weights import HED, PLACE
from spml.recipe import FileDigests
from spml.scenes.regions import over_segmentation
from spml.utils.files import weights_path
from spml.utils.formats import write_png
from spml.utils.maps import boundary, nearest_resize

logger = logging.getLogger(__name__)

THRESHOLD, CONTOUR_THRESHOLD = 0.3, 0.1  # defaults without and with a contour map
# Without contours: chosen on photographs of 481 x 321, see misc/BENCHMARKS.md. The built-in data has its own.
_SMOOTHING = 1.5
_COST_PER_PIXEL = 1 / 250
_MOST_PIXELS = 1 << 20
_ROUNDING = 1e-3  # by which a float map may leave 0..1
# Data sets draw void as a band of some pixels around objects: the boundary is then its middle line. In the middle of
# larger void areas, which hide whole objects, nobody knows where a boundary runs.
_VOID_BAND = 5


def add_arguments(parser):
    """Add the options of the over-segmentation."""
    parser.add_argument('--contours', metavar='DIR', type=lambda text: (
        weights_path(pathlib.Path('snapshots', PLACE)) if text == HED else pathlib.Path(text)),
                        help='contour maps, bright on dark: NAME.png (8-bit grey) or NAME.npy (floats in 0..1); or '
                             f'the word {HED}: have the detector HED find them, best for photos, with the weights that '
                             f'fetch_weights.py --files {HED} puts in place (a .pth file: with those)')
    parser.add_argument('--threshold', type=arguments.share, metavar='T',
                        help='how strong a contour must be to split regions, up to 1 (default: '
                             f'{CONTOUR_THRESHOLD} with contour maps, {THRESHOLD} without)')
    parser.add_argument('--max_regions', type=int, choices=range(1, MAX_REGIONS + 1), default=MAX_REGIONS, metavar='N',
                        help='an image with more regions has its threshold raised (default and limit: %(default)s)')


def oversegment(image, contours=None, threshold=None, max_regions=MAX_REGIONS):
    """Split an image (H, W, 3) uint8 RGB into regions, (H, W) uint8 ids 0..n-1, each of one 4-connected region.

    Args:
        contours: (H, W) float contour map in 0..1, high on contours, or a function that makes one of an image; None
            looks at the image's colour and texture.
        threshold: 0..1, how strong a contour splits regions; None is the default. Without a map, neighbours merge up
            to a Ward cost that grows with its square.
        max_regions: 1..255; where an image would have more regions, its threshold rises.

    What has more than a million pixels is scaled down to that, and the regions are scaled up.
    """
    if threshold is None:
        threshold = THRESHOLD if contours is None else CONTOUR_THRESHOLD
    size = image.shape[:2]
    scale = (_MOST_PIXELS / (size[0] * size[1])) ** 0.5
    smaller = [max(1, int(scale * side)) for side in size[::-1]]
    if scale < 1 and (contours is None or callable(contours)):
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    if callable(contours):
        return nearest_resize(regions_from_contours(contours(image), threshold, max_regions), size)
    if contours is not None:
        if scale < 1:
            # A contour of a pixel keeps its strength.
            reach = math.ceil(1 / scale)
            contours = cv2.resize(cv2.dilate(np.asarray(contours, np.float32), np.ones((reach, reach))), smaller,
                                  interpolation=cv2.INTER_AREA)
        return nearest_resize(regions_from_contours(contours, threshold, max_regions), size)
    cost = _COST_PER_PIXEL * threshold ** 2 * image.shape[0] * image.shape[1]
    return nearest_resize(over_segmentation(image, _SMOOTHING, 1, max_regions, cost), size)


def oversegment_list(data_dir, data_list, save_dir, contours_from, threshold, max_regions, num_workers, overwrite):
    """Write `save_dir/<image name>.png`, the regions of each image of a list, except those made from it already.

    Args:
        data_dir, data_list: the list and the folder its paths start from; of its labels none is read.
        save_dir, num_workers, overwrite: folder, and as in `runner.make`.
        contours_from: folder of `<image name>.png` or `.npy` for `read_contours`, a `.pth` file of HED's weights, or
            None.
        threshold, max_regions: as in `oversegment`.

    Returns the list's entries without labels, each image once. DataError: a file is missing or unfit, or contour maps
    lie in `save_dir`. SpmlError:
    `save_dir` holds regions made with other options, or there is no higra, which contours need, or no such weights.
    """
    if contours_from:
        require_higra()
        if contours_from.resolve() == pathlib.Path(save_dir).resolve():
            raise DataError(f'{contours_from}: regions are written to the same folder; keep the maps in another')
    if threshold is None:
        threshold = CONTOUR_THRESHOLD if contours_from else THRESHOLD
    by_hed = contours_from is not None and contours_from.suffix == '.pth'
    if by_hed and not contours_from.is_file():
        raise SpmlError(f'--contours {HED}: {contours_from} is not there; fetch it with python '
                        f'pyscripts/data/fetch_weights.py --files {HED}')
    # A training list may repeat an image; the first counts.
    listed = {entry.image: entry for entry in reversed(read_list(data_list, data_dir, unique_names=False))}
    entries = [dataclasses.replace(entry, semantic=None, regions=None) for entry in reversed(listed.values())]
    check_unique(entries)
    check_files(entries)
    for entry in listed.values():
        place = (pathlib.Path(save_dir) / f'{entry.name}.png').resolve()
        for path in filter(None, (entry.image, entry.semantic)):
            if path.resolve() == place:
                raise DataError(f'{path}: regions are written to the same place, over it; give another --save_dir')
    items = {entry.name: (entry, contours_from if by_hed else contours_from and _contour_path(contours_from, entry))
             for entry in entries}
    options = {'contours': HED if by_hed else contours_from and str(contours_from.resolve()),
               'threshold': threshold, 'max_regions': max_regions}
    folder = results(save_dir, options, lambda name: [save_dir / f'{name}.png'],
                     lambda name: [items[name][0].image, *([items[name][1]] if contours_from else [])], FileDigests())
    made = make(functools.partial(_write_regions, save_dir, threshold, max_regions), items, [(folder, items)],
                num_workers, 'over-segmentation', overwrite)
    summary('over-segmentations', save_dir, len(made), len(entries))
    return entries


def print_figures(entries, save_dir, truth_dir, num_workers):
    """Print how many regions the entries' images have and, against `truth_dir/<image name>.png`, the boundary recall.

    DataError: a file is missing or unfit; of the truth, only all of it.
    """
    measures = run_items(functools.partial(_measure, save_dir, truth_dir), entries, num_workers, 'figures')
    counts = [count for count, _ in measures]
    print(f'regions: {np.mean(counts):.1f} an image, from {min(counts)} to {max(counts)}')
    if truth_dir is None:
        return
    found = [recall for _, recall in measures if recall is not None]
    if not found:
        raise DataError(f'{truth_dir}: holds the truth of none of the images, such as {entries[0].name}.png; give '
                        'another --truth_dir')
    if len(found) < len(entries):
        logger.warning('%s: no truth for %d of %d images, which are left out', truth_dir, len(entries) - len(found),
                       len(entries))
    near, total = np.sum(found, axis=0)
    print(f'boundary recall: {100 * near / max(total, 1):.1f} % of {total} boundary pixels of the truth, at 2 pixels')


def read_contours(path):
    """Read a contour map, bright on dark, as (H, W) float64 in 0..1.

    It is an 8-bit single-channel PNG, or a `.npy` of floats in 0..1, (H, W) apart from axes of length 1, of which
    nothing is unpickled. DataError: the file is missing, damaged, of another kind, or dark where the contours are.
    """
    if path.suffix == '.npy':
        contours = _read_float_map(path)
    else:
        with decoding(path, 'PNG'), Image.open(path, formats=('PNG',)) as image:
            if image.mode != 'L':
                raise DataError(f'{path}: a PNG of mode {image.mode}; a contour map must be an 8-bit single-channel '
                                'PNG, or a .npy of floats in 0..1')
            contours = np.asarray(image) / 255
    if contours.size and contours.mean() > 0.5:
        raise DataError(f'{path}: more than half of it is contour; contours must be bright on dark: invert the map')
    return contours


def _read_float_map(path):
    with decoding(path, '.npy array'):
        # Mapped: a header that lies about the size is found out before memory is taken for it.
        contours = np.load(path, mmap_mode='r', allow_pickle=False)
    shape = [side for side in contours.shape if side != 1] if contours.ndim > 2 else contours.shape
    if contours.dtype.kind != 'f' or len(shape) != 2:
        raise DataError(f'{path}: {contours.dtype} {contours.shape}; a contour map must be floats (H, W) in 0..1, or '
                        'an 8-bit PNG')
    contours = np.array(contours, np.float64).reshape(shape)
    if not np.isfinite(contours).all() or contours.min() < -_ROUNDING or contours.max() > 1 + _ROUNDING:
        raise DataError(f'{path}: has values outside 0..1; divide all maps by what their values cannot exceed')
    return contours.clip(0, 1)


def _contour_path(contours_dir, entry):
    paths = [contours_dir / f'{entry.name}{ending}' for ending in ('.png', '.npy')]
    for path in paths:
        if path.is_file():
            return path
    raise DataError(f'{paths[0]}: neither this contour map nor a .npy for the image of {entry.place}; check --contours')


def _write_regions(save_dir, threshold, max_regions, item):
    entry, contour_path = item
    image, _, _ = read_entry(entry, with_semantic=False, with_regions=False)
    contours = None
    if contour_path is not None and contour_path.suffix == '.pth':
        from spml.prepare.hed import contour_map, load_hed  # torch, which no other way to regions needs
        contours = functools.partial(contour_map, load_hed(contour_path))
    elif contour_path is not None:
        with located(entry):
            contours = read_contours(contour_path)
            check_same_size(entry, image, contours, contour_path)
    write_png(save_dir / f'{entry.name}.png', oversegment(image, contours, threshold, max_regions))


def _measure(save_dir, truth_dir, entry):
    """Return the number of regions of an image, and its (found, all) boundary pixels or None without truth."""
    regions = read_label(save_dir / f'{entry.name}.png')
    recall, path = None, truth_dir and truth_dir / f'{entry.name}.png'
    if path and path.is_file():
        truth = read_label(path)
        check_size(path, truth.shape, f'the image of {entry.place}', regions.shape, 'give its own truth as --truth_dir')
        recall = boundary_recall(regions, truth)
    return len(np.unique(regions)), recall


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
