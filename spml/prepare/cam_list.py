"""Label maps from class activation maps for the images of a list, which need not be VOC's, and how well they fit truth.

`prepare.cam` does the same for the data root of VOC, where labels get the names that the release gives them.
"""
import functools
import pathlib
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from spml.data.cam_labels import (
    BACKGROUND_POWER,
    BOX_THRESHOLD,
    TAG_THRESHOLD,
    TopScores,
    background_power,
    box_scores,
    tag_scores,
)
from spml.data.lists import check_files, format_list, read_list
from spml.data.readers import check_size, image_size, read_cam, read_label
from spml.errors import DataError
from spml.evaluation.miou import iou_from_confusion
from spml.names import UNLABELLED, VOID
from spml.prepare.boxes import Boxes, read_boxes
from spml.prepare.class_list import ClassList
from spml.prepare.notes import warn
from spml.prepare.runner import make, results, summary
from spml.recipe import FileDigests
from spml.utils.formats import write_png, write_text
from spml.utils.sampling import evenly

# Background thresholds that a sweep tries, and how many images it looks at, spread over the list.
SWEEP = np.round(np.arange(0.05, 0.8, 0.05), 2)
_MOST_IMAGES = 500
# Kinds of labels that CAMs add to; others say more than CAMs do. None: the list does not say.
_KINDS = (None, 'box', 'tag')


class Rule(NamedTuple):
    """How labels are made of CAMs, see `cam_labels`; images that `boxes` names get box labels, others tag labels."""

    num_classes: int
    alpha: float = BACKGROUND_POWER
    threshold: float = TAG_THRESHOLD
    normalised: bool = False
    boxes: dict = {}  # noqa: RUF012 (never written to) from image name to its `boxes.Boxes`
    box_threshold: float = BOX_THRESHOLD
    classes: ClassList | None = None  # in which the boxes' classes are looked up
    background: bool = True  # whether class 0 is the background
    complete: bool = True  # whether all outside an image's boxes is background, or only what its CAMs call so
    keep: bool = False  # pixels that the list's own label map gives a class, or void, keep it


class Item(NamedTuple):
    """What one image's label is made of: paths (`own` None: no label map to keep) and boxes (None: tags alone)."""

    name: str
    image: pathlib.Path
    cam: pathlib.Path
    own: pathlib.Path | None
    boxes: Boxes | None

    @property
    def sources(self):
        """Files, and what JSON can hold."""
        return [self.image, self.cam, *([self.own] if self.own else []), *([self.boxes.content] if self.boxes else [])]


def label_list(cam_dir, data_dir, data_list, save_dir, rule, list_out=None, num_workers=0, overwrite=False):
    """Write `semantic_gray/<name>.png` under `save_dir` for the images of a list, and the list with these labels.

    Images whose kind in the list is mask, scribble or point keep their own label.

    Raises:
        DataError: an image has no CAMs, or a file is bad.
    """
    entries, folder = _entries(data_list, data_dir, rule.num_classes), pathlib.Path(save_dir) / 'semantic_gray'
    items = {entry.name: Item(entry.name, entry.image, cam_path(cam_dir, entry), entry.semantic if rule.keep else None,
                              rule.boxes.get(entry.name)) for entry in entries if entry.kind in _KINDS}
    if not items:
        raise DataError(f'{data_list}: all images have masks, scribbles or points; no label is made of CAMs')
    listing = list_out and format_list(
        list_out, entries, lambda entry: (folder / f'{entry.name}.png').resolve() if entry.name in items
        else entry.semantic)
    # What is the same for all images.
    rule = rule._replace(boxes={})
    options = {**rule._asdict(), 'classes': rule.classes and rule.classes.names}
    found = results(folder, options, lambda name: [folder / f'{name}.png'],
                    lambda name: items[name].sources, FileDigests())
    made = make(functools.partial(_write, folder, rule), items, [(found, items)], num_workers, 'labels from CAMs',
                overwrite)
    warn([note for notes in made.values() for note in notes])
    summary('label maps', folder, len(made), len(items))
    boxed = sum(item.boxes is not None for item in items.values())
    print(f'{boxed} images with boxes, {len(items) - boxed} with tags alone, {len(entries) - len(items)} keep their '
          'own label')
    for line in unlabelled(items.values(), rule):
        print(line)
    if list_out:
        write_text(list_out, listing)


def unlabelled(items, rule):
    """Yield a line on how many pixels are unlabelled, of the items with boxes and of those without.

    Of many images, some are looked at, spread over all of them.
    """
    for boxed, threshold, option in ((True, rule.box_threshold, '--box_threshold'),
                                     (False, rule.threshold, '--threshold')):
        some, top = [item for item in items if (item.boxes is not None) == boxed], TopScores()
        for index in evenly(len(some), _MOST_IMAGES):
            top.add(_scores(some[index], rule, [])[1])
        if some:
            yield top.describe(threshold, option)


def sweep(cam_dir, data_dir, gt_list, num_classes, background=True):
    """Return the rows of a threshold sweep against the truth of a list: (threshold, alpha, mean IoU in 0..1).

    A pixel whose largest CAM is below the threshold is background, which is what tag labels with `alpha` say; or
    unlabelled where there is no background.

    Raises:
        DataError: no image of the list has CAMs, or a file is bad.
    """
    entries = [entry for entry in _entries(gt_list, data_dir, num_classes)
               if entry.semantic is not None and cam_path(cam_dir, entry, must_exist=False).is_file()]
    if not entries:
        raise DataError(f'{gt_list}: {cam_dir} holds CAMs of none of its images; check --cam_dir')
    counts = np.zeros((len(SWEEP) + 1, num_classes, num_classes + 1), np.int64)
    for index in tqdm(evenly(len(entries), _MOST_IMAGES), desc='threshold sweep', unit='image', dynamic_ncols=True):
        entry = entries[index]
        truth = read_label(entry.semantic)
        cams = read_cam(cam_path(cam_dir, entry), num_classes, truth.shape, background=background)
        counts += _counts(cams, truth, num_classes, int(background))
    # Entry k of the sums: the pixels that reach at least k thresholds, and keep the class of their largest CAM at each.
    reached = counts[::-1].cumsum(axis=0)[::-1]
    rows = []
    for index, threshold in enumerate(SWEEP, start=1):
        matrix = reached[index].copy()
        matrix[:, 0 if background else -1] += (counts.sum(axis=0) - reached[index]).sum(axis=1)
        rows.append((float(threshold), float(background_power(threshold)), float(iou_from_confusion(matrix).mean())))
    return rows


def describe_sweep(rows):
    """Return the table of a sweep, its best row marked, as text."""
    best = max(iou for _, _, iou in rows)
    lines = [f'{threshold:9.2f}  {alpha:6.2f}  {100 * iou:10.2f}{"  best" * (iou == best)}'
             for threshold, alpha, iou in rows]
    return '\n'.join(['threshold   alpha  mean IoU %', *lines])


def cam_path(cam_dir, entry, must_exist=True):
    """Return the path of an image's CAMs; DataError where there are none, unless that may be."""
    path = pathlib.Path(cam_dir) / f'{entry.name}.npy'
    if must_exist and not path.is_file():
        raise DataError(f'{path}: no CAMs for the image of {entry.place}; check --cam_dir')
    return path


def _entries(data_list, data_dir, num_classes):
    entries = read_list(data_list, data_dir, (2, 3), num_classes=num_classes)
    check_files(entries)
    return entries


def _write(folder, rule, item):
    """Write the label of an item and return what is odd in its boxes."""
    notes = []
    label, top = _scores(item, rule, notes)
    label[top < (rule.threshold if item.boxes is None else rule.box_threshold)] = UNLABELLED
    if item.own is not None:
        before = read_label(item.own)
        check_size(item.own, before.shape, f'its image {item.image}', label.shape, 'they must be the same')
        known = (before < rule.num_classes) | (before == VOID)
        label[known] = before[known]
    write_png(folder / f'{item.name}.png', label)
    return notes


def _scores(item, rule, notes):
    """Return the class and the score of each pixel, as `cam_labels` has them, of an item."""
    size = image_size(item.image)
    cams = read_cam(item.cam, rule.num_classes, size, background=rule.background)
    if item.boxes is None:
        return tag_scores(cams, size, rule.alpha, rule.normalised, rule.background)
    boxes = read_boxes(item.boxes, size, rule.classes, None, notes, rule.background)
    label, score = box_scores(cams, boxes, size, rule.background)
    if not rule.complete:
        # Background is where the CAMs find none of the classes: without any of it, training would never see background.
        outside, by_cam = np.isinf(score), np.full(size, UNLABELLED, np.uint8)
        if cams and rule.background:
            by_cam, top = tag_scores(cams, size, rule.alpha, rule.normalised)
            by_cam[(by_cam != 0) | (top < rule.threshold)] = UNLABELLED
        label[outside] = by_cam[outside]
    return label, score


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
