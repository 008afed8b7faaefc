"""Class activation maps, as SEAM stores them, to the tag labels and the box labels of a data root's training images."""
import functools
import logging
import pathlib
from typing import NamedTuple

import numpy as np

from spml.data import voc_layout as layout
from spml.data.cam_labels import BACKGROUND_POWER, TopScores, box_labels, box_scores, tag_labels, tag_scores
from spml.data.lists import read_list
from spml.data.readers import read_cam
from spml.data.tags import read_tags
from spml.errors import DataError
from spml.prepare.boxes import FORMATS, Boxes, find_boxes, read_boxes
from spml.prepare.class_list import ClassList
from spml.prepare.custom_sources import image_name
from spml.prepare.weak_labels import Labels, annotation_files, train_images, write_labels
from spml.utils.files import place_file
from spml.utils.formats import write_npy
from spml.utils.sampling import evenly

logger = logging.getLogger(__name__)

_LOOKED_AT = 64  # files


class Cams(NamedTuple):
    """A folder of `<name>.npy` and what they are of.

    `by_class`: their keys are class ids, 0 being background, instead of class - 1. `background`: whether class 0 is
    that; where it is a class like the others, keys are class ids.
    """

    folder: pathlib.Path
    classes: ClassList
    by_class: bool = False
    background: bool = True

    @property
    def options(self):
        """What changes the labels besides the folders' names; the usual is left out."""
        return {**({'keys': 'class'} if self.by_class else {}), **({} if self.background else {'background': False})}

    def read(self, path, size=None):
        """Return the CAM dict in a file, of an image of `size` (H, W), as `read_cam` does."""
        return read_cam(path, len(self.classes.names), size, self.by_class, self.background)


def prepare_tags(cams, out, alpha, threshold, normalised, num_workers, overwrite=False, data_list=None):
    """Write labels that need nothing but the classes of each image: `cam_labels.tag_labels` of the `Cams`.

    The CAMs are linked to the place where the pipeline of image tags takes them from for its random walk. `out` is the
    data root that prepare_voc12.py or prepare_custom.py wrote, `data_list` the images, if not `train_images`.
    DataError: their keys fit the images' labels in another way than it is said, where there are such.
    """
    folder = f'VOC2012/cam/seam_a{alpha:g}_th{threshold:g}{"_sum1" if normalised else ""}'
    labels = _labels('tag', layout.TAGS, folder)
    draw = functools.partial(_draw_tags, cams, alpha, threshold, normalised)
    files = annotation_files(cams.folder, '.npy')
    known = functools.partial(_known_tags, cams, out, data_list or train_images(out))
    check_keys(cams, files, known, 'tags of the images')
    for name in write_labels(out, [labels], files, draw, num_workers, 'CAMs', cams.options, overwrite, data_list):
        path = pathlib.Path(out) / layout.ACTIVATIONS / f'{name}.npy'
        if cams.by_class:  # as whatever reads them there expects them
            write_npy(path, cams.read(files[name]))
        else:
            place_file(files[name], path)

    def scores(_, maps, size):
        return tag_scores(maps, size, alpha, normalised, cams.background)[1]

    _print_unlabelled(cams, files, scores, threshold)


def prepare_boxes(cams, boxes, out, threshold, num_workers, overwrite=False, data_list=None):
    """Write labels from CAMs and boxes in any form of `boxes.find_boxes` (`cam_labels.box_labels`); others as above."""
    files = annotation_files(cams.folder, '.npy')
    found = {image_name(name): one for name, one in find_boxes(boxes, cams.classes, cams.background).items()}
    without = sorted(set(files) - set(found))
    if without:
        raise DataError(f'{boxes}: holds no boxes of {without[0]}, though there are CAMs of that image; {len(without)} '
                        f"of {len(files)} have none; let --boxes be VOC2012/Annotations, or your own images'")
    # Files are known by their content, and tell their format by their ending; the rest is what JSON can hold.
    sources = {name: (path, found[name].content if isinstance(found[name].content, pathlib.Path) else list(found[name]))
               for name, path in files.items()}
    check_keys(cams, files, functools.partial(_known_boxes, cams, files, found), 'classes of the boxes')
    # The background's power is not used; the folder has the name that the release gives it.
    folder = f'VOC2012/cam/seambox_a{BACKGROUND_POWER}_th{threshold:g}'
    labels = _labels('box', layout.BOXES, folder)
    write_labels(out, [labels], sources, functools.partial(_draw_boxes, cams, threshold), num_workers,
                 'CAMs and boxes', cams.options, overwrite, data_list)

    def scores(name, maps, size):
        boxes = read_boxes(found[name], size, cams.classes, None, [], cams.background)
        return box_scores(maps, boxes, size, cams.background)[1]

    _print_unlabelled(cams, files, scores, threshold)


def check_keys(cams, files, known, what):
    """Compare the keys of some CAM files, from all over a folder, with what else is known of their images.

    Args:
        cams, files: `Cams`, and the dict from the name of each image to its file.
        known: function from names to a dict from some of these to the set of foreground classes that the image shows.
        what: what these classes are, for messages.

    DataError: read in the other way, the keys fit better. A key of 0 in every file is warned of, where nothing tells.
    """
    names = _some(files)
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


def _known_tags(cams, out, data_list, names):
    """Return what their label maps, where these are there, and their tags say of images."""
    wanted = set(names)
    entries = [entry for entry in read_list(data_list, out) if entry.name in wanted]
    there = [entry for entry in entries
             if entry.is_unlabelled or (entry.semantic is not None and entry.semantic.is_file())]
    shown = {entry.name: set(np.flatnonzero(tags[1:len(cams.classes.names)]) + 1)
             for entry, tags in zip(there, read_tags(there), strict=True)}
    return {name: found for name, found in shown.items() if found}


def _known_boxes(cams, files, found, names):
    shown = {}
    for name in names:
        size = next(iter(read_cam(files[name]).values())).shape
        boxes = read_boxes(found[name], size, cams.classes, None, [], cams.background)
        shown[name] = {label for label, _ in boxes}
    return shown


def _print_unlabelled(cams, files, scores, threshold):
    """Say how many pixels of the labels are unlabelled, and at which thresholds more were; of some files, if many."""
    top = TopScores()
    for name in _some(files):
        maps = cams.read(files[name])
        if maps:  # else all is background
            top.add(scores(name, maps, next(iter(maps.values())).shape))
    print(top.describe(threshold))


def _some(files):
    """Return the names of the files to look at, all of them if they are few."""
    names = sorted(files)
    return [names[index] for index in evenly(len(names), _LOOKED_AT)]


def _labels(kind, usual, folder):
    """Return the Labels of a kind; with unusual options the list has a different name."""
    return Labels(kind if folder == usual else f'{kind}_{pathlib.PurePath(folder).name}', folder)


def _draw_tags(cams, alpha, threshold, normalised, path, size):
    return [tag_labels(cams.read(path, size), size, alpha, threshold, normalised, cams.background)], []


def _draw_boxes(cams, threshold, source, size):
    path, given = source
    boxes, odd = Boxes(*given) if isinstance(given, list) else Boxes(FORMATS[given.suffix.lower()], given), []
    found = read_boxes(boxes, size, cams.classes, None, odd, cams.background)
    return [box_labels(cams.read(path, size), found, size, threshold, cams.background)], odd
