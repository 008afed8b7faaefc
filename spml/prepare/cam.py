"""Class activation maps, as SEAM stores them, to the tag labels and the box labels of VOC's training images."""
import functools
import logging
import pathlib
from typing import NamedTuple

import numpy as np

from spml.data import voc_layout as layout
from spml.data.cam_labels import BACKGROUND_POWER, box_labels, tag_labels
from spml.data.lists import read_list
from spml.data.readers import entry_tags, read_cam, read_label
from spml.errors import DataError
from spml.prepare.voc12 import NUM_CLASSES
from spml.prepare.voc_xml import class_table, read_boxes
from spml.prepare.weak_labels import Labels, annotation_files, write_labels
from spml.utils.atomic import atomic_path
from spml.utils.files import place_file

logger = logging.getLogger(__name__)

_LOOKED_AT = 64  # files


class Cams(NamedTuple):
    """A folder of `<name>.npy`; `by_class`: their keys are class ids, 0 being background, instead of class - 1."""

    folder: pathlib.Path
    by_class: bool = False

    @property
    def options(self):
        """What changes the labels besides the folders' names; the usual is left out."""
        return {'keys': 'class'} if self.by_class else {}


def prepare_tags(cams, out, alpha, threshold, normalised, num_workers, overwrite=False):
    """Write labels that need nothing but the classes of each image: `cam_labels.tag_labels` of the `Cams`.

    The CAMs are linked to the place where the pipeline of image tags takes them from for its random walk. `out` is the
    data root that prepare_voc12.py wrote. DataError: their keys fit the images' labels in another way than it is said,
    where there are such.
    """
    folder = f'VOC2012/cam/seam_a{alpha:g}_th{threshold:g}{"_sum1" if normalised else ""}'
    labels = _labels('tag', layout.TAGS, folder)
    draw = functools.partial(_draw_tags, cams.by_class, alpha, threshold, normalised)
    files = annotation_files(cams.folder, '.npy')
    check_keys(cams, files, functools.partial(_known_tags, pathlib.Path(out)), 'tags of the images')
    for name in write_labels(out, [labels], files, draw, num_workers, 'CAMs', cams.options, overwrite):
        path = pathlib.Path(out) / layout.ACTIVATIONS / f'{name}.npy'
        if cams.by_class:  # as whatever reads them there expects them
            with atomic_path(path) as temporary, open(temporary, 'wb') as stream:
                np.save(stream, read_cam(files[name], NUM_CLASSES, by_class=True))
        else:
            place_file(files[name], path)


def prepare_boxes(cams, annotations, out, threshold, num_workers, overwrite=False):
    """Write labels from CAMs and the boxes of VOC's XML `annotations` (`cam_labels.box_labels`); others as above."""
    files, boxes = annotation_files(cams.folder, '.npy'), annotation_files(annotations, '.xml')
    without = sorted(set(files) - set(boxes))
    if without:
        raise DataError(f'{pathlib.Path(annotations) / without[0]}.xml: no such file, though there are CAMs of that '
                        f'image; {len(without)} of {len(files)} have none; let --boxes be VOC2012/Annotations')
    table = class_table()
    check_keys(cams, files, lambda names: {name: {label for label, _ in read_boxes(boxes[name], table)}
                                           for name in names}, 'classes of the boxes')
    # The background's power is not used; the folder has the name that the release gives it.
    folder = f'VOC2012/cam/seambox_a{BACKGROUND_POWER}_th{threshold:g}'
    labels = _labels('box', layout.BOXES, folder)
    sources = {name: (path, boxes[name]) for name, path in files.items()}
    write_labels(out, [labels], sources, functools.partial(_draw_boxes, cams.by_class, threshold), num_workers,
                 'CAMs and boxes', cams.options, overwrite)


def check_keys(cams, files, known, what):
    """Compare the keys of some CAM files, from all over a folder, with what else is known of their images.

    Args:
        cams, files: `Cams`, and the dict from the name of each image to its file.
        known: function from names to a dict from some of these to the set of foreground classes that the image shows.
        what: what these classes are, for messages.

    DataError: read in the other way, the keys fit better. A key of 0 in every file is warned of, where nothing tells.
    """
    names = sorted(files)[::-(-len(files) // _LOOKED_AT) or 1]
    keys = {name: set(read_cam(files[name])) for name in names}
    keys = {name: found for name, found in keys.items() if found}
    classes = known(list(keys))
    fits, exact = {}, {}
    for by_class in (False, True):
        read = {name: {key + (not by_class) for key in found} - {0} for name, found in keys.items()}
        overlaps = [len(read[name] & shown) / len(read[name] | shown) for name, shown in classes.items()
                    if read[name] | shown]
        fits[by_class], exact[by_class] = sum(overlaps), overlaps.count(1)
    mine, other = cams.by_class, not cams.by_class
    # CAMs may have a class more or less than is known: neither way fits everywhere.
    if 2 * fits[other] > len(classes) and (fits[other] > 2 * fits[mine] or exact[other] > exact[mine] == 0):
        raise DataError(f'{cams.folder}: its keys fit the {what} if they are {_way(other)}, and not if they are '
                        f'{_way(mine)} ({len(classes)} files looked at); give --cam_keys '
                        + ('class' if other else 'class-1'))
    if keys and not cams.by_class and all(0 in found for found in keys.values()) and fits[False] <= fits[True]:
        logger.warning('WARNING: %s: every file looked at has the key 0, so every image would show the class 1; give '
                       '--cam_keys class if that is the background and the others are class ids', cams.folder)


def _way(by_class):
    return 'class ids' if by_class else 'class ids - 1'


def _known_tags(out, names):
    """Return what the truth of images says, or their own tags, of those whose labels are there."""
    path, wanted = out / 'lists' / 'train_full.txt', set(names)
    entries = [entry for entry in read_list(path, out) if entry.name in wanted] if path.is_file() else []
    shown = {}
    for entry in entries:
        if entry.semantic is not None and entry.semantic.is_file():
            tags = entry_tags(entry, read_label(entry.semantic), NUM_CLASSES)
            shown[entry.name] = set(np.flatnonzero(tags[1:]) + 1)
    return shown


def _labels(kind, usual, folder):
    """Return the Labels of a kind; with unusual options the list has a different name."""
    return Labels(kind if folder == usual else f'{kind}_{pathlib.PurePath(folder).name}', folder)


def _draw_tags(by_class, alpha, threshold, normalised, path, size):
    return [tag_labels(read_cam(path, NUM_CLASSES, size, by_class), size, alpha, threshold, normalised)]


def _draw_boxes(by_class, threshold, paths, size):
    cam_path, xml_path = paths
    boxes = read_boxes(xml_path, class_table(), size)
    for _, (_, _, right, bottom) in boxes:
        if right > size[1] or bottom > size[0]:
            raise DataError(f'{xml_path}: a box reaches to x = {right}, y = {bottom}, but the image has '
                            f'{size[1]}x{size[0]} pixels (width x height); use the original files')
    return [box_labels(read_cam(cam_path, NUM_CLASSES, size, by_class), boxes, size, threshold)]
