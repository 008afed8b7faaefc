"""How well CAMs fit what else is known of their images.

Whether their keys are class ids - 1, as SEAM writes them, or class ids; and how well tag labels fit the truth of a list
for several background thresholds.
"""
import logging

import numpy as np
from tqdm import tqdm

from spml.data.cam_labels import background_power, cam_path
from spml.data.lists import located, read_list
from spml.data.readers import read_cam, read_label
from spml.errors import DataError
from spml.evaluation.miou import iou_from_confusion
from spml.utils.maps import evenly

logger = logging.getLogger(__name__)

_LOOKED_AT = 64  # files
# Background thresholds that a sweep tries, and how many images it looks at, spread over the list.
SWEEP = np.round(np.arange(0.05, 0.8, 0.05), 2)
_MOST_IMAGES = 500


def check_keys(folder, files, known, what, by_class=False):
    """Compare the keys of some CAM files, from all over a folder, with what else is known of their images.

    Args:
        folder: their folder, for messages.
        files: dict from the name of each image to its file.
        known: function from names to a dict from some of these to the set of foreground classes that the image shows.
        what: what these classes are, for messages.
        by_class: whether keys are said to be class ids, 0 being background, instead of class - 1.

    DataError: read in the other way, the keys fit better. A key of 0 in every file is warned of, where nothing tells.
    """
    names = sorted(files)
    keys = {name: set(read_cam(files[name])) for name in (names[index] for index in evenly(len(names), _LOOKED_AT))}
    keys = {name: found for name, found in keys.items() if found}
    classes = known(list(keys))
    fits, exact = {}, {}
    for way in (False, True):
        read = {name: {key + (not way) for key in found} - {0} for name, found in keys.items()}
        overlaps = [len(read[name] & shown) / len(read[name] | shown) for name, shown in classes.items()
                    if read[name] | shown]
        fits[way], exact[way] = sum(overlaps), overlaps.count(1)
    other = not by_class
    # CAMs may have a class more or less than is known: neither way fits everywhere.
    if 2 * fits[other] > len(classes) and (
            fits[other] > 2 * fits[by_class] or exact[other] > exact[by_class] == 0):
        raise DataError(f'{folder}: its keys fit the {what} if they are {_way(other)}, and not if they are '
                        f'{_way(by_class)} ({len(classes)} files looked at); give --cam_keys '
                        + ('class' if other else 'class-1'))
    if keys and not by_class and all(0 in found for found in keys.values()) and fits[False] <= fits[True]:
        logger.warning('WARNING: %s: every file looked at has the key 0, so every image would show the class 1; give '
                       '--cam_keys class if that is the background and the others are class ids', folder)


def _way(by_class):
    return 'class ids' if by_class else 'class ids - 1'


def sweep(rule, cam_dir, data_dir, gt_list):
    """Return the rows of a threshold sweep against the truth of a list: (threshold, alpha, mean IoU in 0..1).

    Of the `cam.Rule`, the classes and the keys of CAMs count. A pixel whose largest CAM is below the
    threshold is background, which is what tag labels with `alpha` say; or unlabelled where there is no background.
    DataError: no image of the list has CAMs, or a file is bad.
    """
    num_classes = rule.num_classes
    entries = [entry for entry in read_list(gt_list, data_dir, (2, 3), num_classes=num_classes)
               if entry.semantic is not None and cam_path(cam_dir, entry).is_file()]
    if not entries:
        raise DataError(f'{gt_list}: {cam_dir} holds CAMs of none of its images; check --cam_dir')
    counts = np.zeros((len(SWEEP) + 1, num_classes, num_classes + 1), np.int64)
    for index in tqdm(evenly(len(entries), _MOST_IMAGES), desc='threshold sweep', unit='image', dynamic_ncols=True):
        entry = entries[index]
        with located(entry):
            truth = read_label(entry.semantic)
        cams = rule.read(cam_path(cam_dir, entry), truth.shape)
        counts += _counts(cams, truth, num_classes, int(rule.background))
    # Entry k of the sums: the pixels that reach at least k thresholds, and keep the class of their largest CAM at each.
    reached = counts[::-1].cumsum(axis=0)[::-1]
    rows = []
    for index, threshold in enumerate(SWEEP, start=1):
        matrix = reached[index].copy()
        matrix[:, 0 if rule.background else -1] += (counts.sum(axis=0) - reached[index]).sum(axis=1)
        rows.append((float(threshold), float(background_power(threshold)), float(iou_from_confusion(matrix).mean())))
    return rows


def describe_sweep(rows):
    """Return the table of a sweep, its best row marked, as text."""
    best = max(iou for _, _, iou in rows)
    lines = [f'{threshold:9.2f}  {alpha:6.2f}  {100 * iou:10.2f}{"  best" * (iou == best)}'
             for threshold, alpha, iou in rows]
    return '\n'.join(['threshold   alpha  mean IoU %', *lines])


def _counts(cams, truth, num_classes, first):
    """Return (thresholds + 1, C, C + 1) int64: pixels by thresholds that their CAM reaches, by truth, by its class."""
    keys = sorted(cams)
    stack = np.stack([cams[key] for key in keys]) if keys else np.zeros((1, *truth.shape), np.float32)
    # Without a map nothing reaches a threshold.
    label = np.array([key + first for key in keys] or [0])[stack.argmax(axis=0)]
    scored = truth < num_classes
    reached = np.searchsorted(SWEEP.astype(np.float32), stack.max(axis=0)[scored], side='right')
    cells = (reached * num_classes + truth[scored]) * (num_classes + 1) + label[scored]
    shape = len(SWEEP) + 1, num_classes, num_classes + 1
    return np.bincount(cells, minlength=np.prod(shape)).reshape(shape)
