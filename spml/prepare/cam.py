"""Label maps from class activation maps, by one `Rule`: for a data root's training images, or for those of any list.

In a data root, labels are tag labels, or box labels of all images, and their folders and lists have the names that the
release gives them. In a list, images with boxes get box labels, and others, as those whose kind is tag, tag labels; the
list is written anew.
"""
import functools
import pathlib
from typing import NamedTuple

import numpy as np

from spml.data import cam_labels
from spml.data import voc_layout as layout
from spml.data.lists import check_files, check_maps, check_output, format_list, read_list
from spml.data.readers import check_size, image_size, read_cam, read_label, read_tags
from spml.errors import DataError
from spml.names import UNLABELLED, VOID
from spml.prepare import labelme
from spml.prepare.boxes import FORMATS, Boxes, find_boxes, read_boxes
from spml.prepare.cam_fit import check_keys
from spml.prepare.class_list import ClassList
from spml.prepare.custom_sources import by_image
from spml.prepare.notes import warn
from spml.prepare.runner import make, results, summary
from spml.prepare.weak_labels import Labels, annotation_files, train_images, write_labels
from spml.recipe import FileDigests
from spml.utils.files import place_file
from spml.utils.formats import write_npy, write_png, write_text
from spml.utils.maps import evenly

_MOST_IMAGES = 500  # that are looked at to say how much is unlabelled
# Kinds of labels that CAMs add to; others say more than CAMs do. None: the list does not say.
_KINDS = (None, 'box', 'tag')


class Rule(NamedTuple):
    """How labels are made of CAMs, see `cam_labels`; images that `boxes` names get box labels, others tag labels."""

    num_classes: int
    alpha: float = cam_labels.BACKGROUND_POWER
    threshold: float = cam_labels.TAG_THRESHOLD
    normalised: bool = False
    boxes: dict = {}  # noqa: RUF012 (never written to) from image name to its `boxes.Boxes`
    box_threshold: float = cam_labels.BOX_THRESHOLD
    classes: ClassList | None = None  # in which the boxes' classes are looked up
    background: bool = True  # whether class 0 is the background
    complete: bool = True  # whether all outside an image's boxes is background, or only what its CAMs call so
    keep: bool = False  # pixels that the list's own label map gives a class, or void, keep it
    by_class: bool = False  # keys of CAMs are class ids, 0 being background, instead of class - 1

    def read(self, path, size=None):
        """Return the CAM dict in a file, of an image of `size` (H, W), as `read_cam` does."""
        return read_cam(path, self.num_classes, size, self.by_class, self.background)

    def scores(self, cam, boxes, size, notes):
        """Return the class and the score of each pixel of an image of `size` (H, W), (H, W) each, as `cam_labels` has.

        `cam` is the file of its CAMs, `boxes` its `Boxes` or None; `notes` takes what is odd in these.
        """
        cams = self.read(cam, size)
        if boxes is None:
            return cam_labels.tag_scores(cams, size, self.alpha, self.normalised, self.background)
        found = read_boxes(boxes, size, self.classes, None, notes, self.background)
        label, score = cam_labels.box_scores(cams, found, size, self.background)
        if not self.complete:
            # Background is where the CAMs find none of the classes: without any of it, training would never see it.
            outside, by_cam = np.isinf(score), np.full(size, UNLABELLED, np.uint8)
            if cams and self.background:
                by_cam, top = cam_labels.tag_scores(cams, size, self.alpha, self.normalised)
                by_cam[(by_cam != 0) | (top < self.threshold)] = UNLABELLED
            label[outside] = by_cam[outside]
        return label, score

    def label(self, cam, boxes, size, notes):
        """Return the label map of an image, (H, W) uint8; arguments as in `scores`."""
        label, top = self.scores(cam, boxes, size, notes)
        label[top < (self.threshold if boxes is None else self.box_threshold)] = UNLABELLED
        return label


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


def boxes_of_images(path, classes, background, cam_dir):
    """Return a dict from image name to its `Boxes`, of `boxes.find_boxes`; `cam_dir` holds CAMs called like the images.

    A file of LabelMe with other shapes alone has none: it does not say that its image is empty.
    """
    images = {file.stem for file in pathlib.Path(cam_dir).glob('*.npy')}
    found = by_image(path, find_boxes(path, classes, background).items(), images)
    is_labelme = any(boxes.format == 'labelme' for boxes in found.values())
    return labelme.with_types(found, {'rectangle'}, empty=True) if is_labelme else found


def label_root(rule, cam_dir, out, boxes, num_workers, overwrite=False, data_list=None):
    """Write the labels of the training images of a data root that have CAMs, and the list of these.

    Args:
        rule: Rule.
        cam_dir: folder of `<name>.npy`.
        out: data root that prepare_voc12.py or prepare_custom.py wrote.
        boxes: where the Rule's boxes come from, for messages; all these images must have some. None for tag labels,
            whose CAMs are linked to the place where the pipeline of image tags takes them from for its random walk.
        num_workers, overwrite: as in `runner.make`.
        data_list: the images, if not `train_images`.

    DataError: an image has CAMs but no boxes; keys fit what is known of the images in another way than it is said.
    """
    files, found = annotation_files(cam_dir, '.npy'), rule.boxes
    rule = rule._replace(boxes={})
    # What changes the labels besides the folders' names; the usual is left out.
    options = {**({'keys': 'class'} if rule.by_class else {}), **({} if rule.background else {'background': False})}
    if boxes is None:
        folder = f'VOC2012/cam/seam_a{rule.alpha:g}_th{rule.threshold:g}{"_sum1" if rule.normalised else ""}'
        labels, sources = _labels('tag', layout.TAGS, folder), files
        _check_tags(rule, cam_dir, files, read_list(data_list or train_images(out), out))
    else:
        if without := sorted(set(files) - set(found)):
            raise DataError(f'{boxes}: holds no boxes of {without[0]}, though there are CAMs of that image; '
                            f'{len(without)} of {len(files)} have none; let --boxes be VOC2012/Annotations, or your '
                            "own images'")
        # Files are known by their content, and tell their format by their ending; the rest is what JSON can hold.
        sources = {name: (path, found[name].content if isinstance(found[name].content, pathlib.Path) else
                          list(found[name])) for name, path in files.items()}
        if rule.background:
            check_keys(cam_dir, files, functools.partial(_of_boxes, rule, files, found), 'classes of the boxes',
                       rule.by_class)
        # The background's power is not used; the folder has the name that the release gives it.
        labels = _labels('box', layout.BOXES,
                         f'VOC2012/cam/seambox_a{cam_labels.BACKGROUND_POWER}_th{rule.box_threshold:g}')
    entries = write_labels(out, [labels], sources, functools.partial(_draw, rule), num_workers,
                           'CAMs and boxes' if boxes else 'CAMs', options, overwrite, data_list)
    if boxes is None:
        for entry in entries:
            path = pathlib.Path(out) / layout.ACTIVATIONS / f'{entry.name}.npy'
            if rule.by_class:  # as whatever reads them there expects them
                write_npy(path, rule.read(files[entry.name]))
            else:
                place_file(files[entry.name], path)
    _print_unlabelled(rule, [Item(entry.name, entry.image, files[entry.name], None, boxes and found[entry.name])
                             for entry in entries])


def label_list(rule, cam_dir, data_dir, data_list, save_dir, list_out=None, num_workers=0, overwrite=False):
    """Write `semantic_gray/<name>.png` under `save_dir` for the images of a list, and the list with these labels.

    Images whose kind in the list is mask, scribble or point keep their own label. DataError: an image has no CAMs, a
    file is bad, or keys as in `label_root`.
    """
    entries = read_list(data_list, data_dir, (2, 3), num_classes=rule.num_classes)
    check_files(entries)
    folder, items = pathlib.Path(save_dir) / 'semantic_gray', {}
    for entry in entries:
        if entry.kind in _KINDS:
            path = cam_labels.cam_path(cam_dir, entry)
            if not path.is_file():
                raise DataError(f'{path}: no CAMs for the image of {entry.place}; check --cam_dir')
            items[entry.name] = Item(entry.name, entry.image, path, entry.semantic if rule.keep else None,
                                     None if entry.kind == 'tag' else rule.boxes.get(entry.name))
    if not items:
        raise DataError(f'{data_list}: all images have masks, scribbles or points; no label is made of CAMs')
    _check_tags(rule, cam_dir, {name: item.cam for name, item in items.items()}, entries)
    check_maps(entries, lambda entry: folder / f'{entry.name}.png')
    if list_out:
        check_output(list_out, data_list)
    listing = list_out and format_list(
        list_out, entries, lambda entry: (folder / f'{entry.name}.png').resolve() if entry.name in items
        else entry.semantic)
    # What is the same for all images; the usual keys are left out, for results of before to be known.
    rule = rule._replace(boxes={})
    options = {**rule._asdict(), 'classes': rule.classes and rule.classes.names}
    options = {name: value for name, value in options.items() if name != 'by_class' or value}
    found = results(folder, options, lambda name: [folder / f'{name}.png'],
                    lambda name: items[name].sources, FileDigests())
    made = make(functools.partial(_write, folder, rule), items, [(found, items)], num_workers, 'labels from CAMs',
                overwrite)
    warn([note for notes in made.values() for note in notes])
    summary('label maps', folder, len(made), len(items))
    boxed = sum(item.boxes is not None for item in items.values())
    print(f'{boxed} images with boxes, {len(items) - boxed} with tags alone, {len(entries) - len(items)} keep their '
          'own label')
    _print_unlabelled(rule, list(items.values()))
    if list_out:
        write_text(list_out, listing)


def _labels(kind, usual, folder):
    """Return the Labels of a kind; with unusual options the list has a different name."""
    return Labels(kind if folder == usual else f'{kind}_{pathlib.PurePath(folder).name}', folder)


def _draw(rule, source, size):
    """Return what `write_labels` asks for, of a file of CAMs or of that and the boxes' file or content."""
    cam, given = source if isinstance(source, tuple) else (source, None)
    boxes = given and (Boxes(*given) if isinstance(given, list) else Boxes(FORMATS[given.suffix.lower()], given))
    odd = []
    return [rule.label(cam, boxes, size, odd)], odd


def _write(folder, rule, item):
    """Write the label of an item and return what is odd in its boxes."""
    notes, size = [], image_size(item.image)
    label = rule.label(item.cam, item.boxes, size, notes)
    if item.own is not None:
        before = read_label(item.own)
        check_size(item.own, before.shape, f'its image {item.image}', label.shape, 'they must be the same')
        known = (before < rule.num_classes) | (before == VOID)
        label[known] = before[known]
    write_png(folder / f'{item.name}.png', label)
    return notes


def _print_unlabelled(rule, items):
    """Say how many pixels are unlabelled, of the items with boxes and of those without, and what thresholds would do.

    Of many images, some are looked at, spread over all of them.
    """
    for boxed, threshold, option in ((True, rule.box_threshold, '--box_threshold'),
                                     (False, rule.threshold, '--threshold')):
        some, top = [item for item in items if (item.boxes is not None) == boxed], cam_labels.TopScores()
        for index in evenly(len(some), _MOST_IMAGES):
            item = some[index]
            top.add(rule.scores(item.cam, item.boxes, image_size(item.image), [])[1])
        if some:
            print(top.describe(threshold, option))


def _check_tags(rule, cam_dir, files, entries):
    """Refuse keys that fit the label maps and tags of the entries in another way than it is said."""
    if rule.background:  # else there is one way alone
        check_keys(cam_dir, files, functools.partial(_of_tags, rule, entries), 'tags of the images', rule.by_class)


def _of_tags(rule, entries, names):
    """Return what their label maps, where these are there, and their tags say of images."""
    wanted = set(names)
    there = [entry for entry in entries if entry.name in wanted and (
        entry.is_unlabelled or (entry.semantic is not None and entry.semantic.is_file()))]
    shown = {entry.name: set(np.flatnonzero(tags[1:rule.num_classes]) + 1)
             for entry, tags in zip(there, read_tags(there), strict=True)}
    return {name: found for name, found in shown.items() if found}


def _of_boxes(rule, files, found, names):
    shown = {}
    for name in names:
        size = next(iter(read_cam(files[name]).values())).shape
        shown[name] = {label for label, _ in read_boxes(found[name], size, rule.classes, None, [])}
    return shown
