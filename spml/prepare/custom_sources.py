"""The originals of a user's data set: which image has which labels, and what it is used for.

`OPTIONS` says for each way to give labels how the labels of each image are found, `_KINDS` of which of `LABEL_KINDS`
they are. Masks are the truth, and so are shapes outside which all is background or void; shapes outside which all is
unlabelled are scribbles. Images with a weaker label than a mask are trained on; those with a mask alone are scored on,
unless the user names others. Where that leaves nothing to score, every fifth image with a mask is kept from training.
Where there are no weak labels, the masks are trained on.
"""
import logging
import os
import pathlib
import re
import unicodedata
from typing import NamedTuple

from spml.data import voc_layout as layout
from spml.errors import ConfigError, DataError
from spml.names import UNLABELLED
from spml.prepare import drawings, labelme, tables
from spml.prepare.boxes import FORMATS, find_boxes
from spml.prepare.photos import UPRIGHT
from spml.prepare.shapes import BOXES, ShapeRules, read_coco
from spml.program import check_name
from spml.utils.formats import read_lines

logger = logging.getLogger(__name__)

_IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png')
_ENDING = re.compile(r'\.([a-z]{3,4}|cr[23]|rw2|jp2)$', re.I)  # of any image or label, cameras' own among them
_VAL_STEP = 5


class Sources(NamedTuple):
    """Where the originals are and how to read them."""

    images: pathlib.Path
    classes: pathlib.Path
    labels: dict  # name of `OPTIONS` -> path, of those that are given
    val: pathlib.Path | None  # a text file with the names of the images to score on
    undrawn: int | tuple | None  # as in `drawings.read_scribbles`
    rules: ShapeRules  # of LabelMe and COCO
    drawn_on: str = UPRIGHT  # of `photos.ORIENTATIONS`
    background: str | None = None  # as in `ClassList.has_background`
    palettes: str | None = None  # as in `drawing_survey.coding`
    fixes: tuple = ()  # the same, of masks
    boxes_incomplete: bool = False  # whether there may be objects outside all boxes of an image
    point_width: float = 6  # of the dots that points are drawn as, in pixels
    first_id: int | None = None  # as in `drawing_survey.find_first_id`

    def turning(self):
        """Return the option of whatever depends on how photos are turned; none where that is the usual."""
        return {} if self.drawn_on == UPRIGHT else {'orientation': self.drawn_on}


class Label(NamedTuple):
    """A label of an image: the option that gives it and what of that is the image's, a file or what JSON can hold."""

    option: str
    content: object


class Sample(NamedTuple):
    """An image to be: its name, its original, and a dict from the kinds of its labels to these."""

    name: str
    image: pathlib.Path
    labels: dict

    @property
    def image_path(self):
        """Where the image goes, below the data root."""
        return f'{layout.IMAGES}/{self.name}{self.image.suffix.lower()}'

    @property
    def is_weak(self):
        """Whether it has a weaker label than a mask; to an image with a mask tags add nothing."""
        return any(kind not in ('mask', 'tag') for kind in self.labels) or self.labels.keys() == {'tag'}


def gather(sources, classes):
    """Return the `Sample`s of all images, by name; ConfigError and DataError as in `custom.prepare`."""
    if not sources.labels:
        raise ConfigError(f'no labels: give one or more of {", ".join(f"--{option}" for option in OPTIONS)}')
    images = _find_images(sources)
    labels = {name: {} for name in images}
    for option, path in sources.labels.items():
        kind = _KINDS.get(option) or ('scribble' if sources.rules.rest == UNLABELLED else 'mask')
        if path.is_dir() and option in _ENDINGS:
            _warn_of_folders(path, _ENDINGS[option], sources)
        found = OPTIONS[option](path, sources, classes, images)
        _warn_of_unused(path, _ENDINGS.get(option, ()), images if option in _ENDINGS else {})
        if not found.keys() & images.keys():
            raise DataError(f'{path}: --{option} gives no label of an image in {sources.images}; labels are called '
                            f'like their images, {f"but the first is {min(found)}" if found else "but it has none"}, '
                            f'and the first image is {min(images)}')
        strange = sorted(found.keys() - images.keys())
        if strange:
            logger.warning('WARNING: %s: %d labels have no image and are left out, for example of %s', path,
                           len(strange), strange[0])
        for name in found.keys() & images.keys():
            other = labels[name].setdefault(kind, Label(option, found[name]))
            if other.option != option:
                raise DataError(f'{path}: the image {name} has a {kind} in {sources.labels[other.option]} already; '
                                'keep one of both')
    return [Sample(name, path, labels[name]) for name, path in sorted(images.items())]


def split(samples, val_path=None):
    """Share samples out; `val_path` is a text file with the names of those to score on, or None to choose them.

    Returns a dict of lists of samples, in one of which each is: `train`, `val`, and `test`, those without any label.
    DataError: `val_path` is unreadable or names an image without a mask, or nothing is left to train on.
    """
    with_truth = [sample for sample in samples if 'mask' in sample.labels]
    val = [sample for sample in with_truth if not sample.is_weak]
    if val_path is not None:
        val = _named(with_truth, val_path)
    elif not val or not any(sample.is_weak for sample in samples):
        val = with_truth[_VAL_STEP - 1::_VAL_STEP] or with_truth[-1:]
    scored_on = {sample.name for sample in val}
    train = [sample for sample in samples if sample.labels and sample.name not in scored_on]
    if not train:
        kept = f': {len(val)} with a mask are kept to score on, for example {val[0].image}' if val else ''
        raise DataError(f'no image with a label is left to train on{kept}; label more of them')
    return {'train': train, 'val': val, 'test': [sample for sample in samples if not sample.labels]}


def _drawings(path, sources, classes, images):
    return _label_files(path, drawings.ENDINGS, images, drawings.UNFIT_ENDINGS)


def _labelme(path, sources, classes, images):
    found = _label_files(path, ('.json',), images)
    if sources.rules.rectangles == BOXES:  # a file of nothing else has no shape
        found = {name: file for name, file in found.items() if labelme.shape_types(file) != {'rectangle'}}
    return found


def _of_types(path, sources, found, types, empty=False):
    """Return `labelme.with_types`, and say what is left out unless --labelme reads it. DataError: nothing is left."""
    used, labels = labelme.with_types(found, types, empty), sources.labels
    if found and not used:
        raise DataError(f'{path}: no file holds a {" or ".join(sorted(types))}, which labels are asked of here')
    if len(used) < len(found) and not ('labelme' in labels and labels['labelme'].resolve() == path.resolve()):
        logger.warning('WARNING: %s: %d files hold no %s and give no such label, for example %s', path,
                       len(found) - len(used), ' or '.join(sorted(types)), min(found.keys() - used.keys()))
    return used


def _coco(path, sources, classes, images):
    # An image without any annotation is all background; or all unlabelled or void, and then has no label.
    return by_image(path, ((name, image) for name, image in read_coco(path, classes, sources.rules).items()
                           if image.annotations or sources.rules.rest == 0), images)


def _boxes(path, sources, classes, images):
    found = by_image(path, find_boxes(path, classes, classes.has_background(sources.background)).items(), images)
    is_labelme = any(boxes.format == 'labelme' for boxes in found.values())
    # With other shapes alone an image is not empty; without any it is.
    return _of_types(path, sources, found, {'rectangle'}, empty=True) if is_labelme else found


def _points(path, sources, classes, images):
    found = by_image(path, tables.find_points(path).items())
    return _of_types(path, sources, found, {'point', 'points'}) if path.is_dir() else found


def _tags(path, sources, classes, images):
    """Return the classes of each image but the background; an image without any has no label."""
    first = int(classes.has_background(sources.background))
    found = by_image(path, tables.read_tags(path, classes, sources.rules.others).items())
    found = {name: [tag for tag in tags if tag >= first] for name, tags in found.items()}
    empty = [name for name in found if not found[name]]
    if empty:
        logger.warning('WARNING: %s: %d images have no tag of a class and are taken as unlabelled, for example %s',
                       path, len(empty), empty[0])
    return {name: tags for name, tags in found.items() if tags}


# The function that finds the labels of each way to give them, from (path, sources, classes, images), `images` a dict
# from name to original, to a dict from image name to what of the source is that image's; and the kinds of the labels,
# which for shapes of LabelMe and COCO the rules say.
OPTIONS = {'scribbles': _drawings, 'masks': _drawings, 'labelme': _labelme, 'coco': _coco, 'points': _points,
           'boxes': _boxes, 'tags': _tags}
_KINDS = {'scribbles': 'scribble', 'masks': 'mask', 'points': 'point', 'boxes': 'box', 'tags': 'tag'}
# Of the files that are read from a folder; those of tags lie in folders of their own.
_ENDINGS = {'scribbles': drawings.ENDINGS, 'masks': drawings.ENDINGS, 'labelme': ('.json',), 'points': ('.json',),
            'boxes': tuple(FORMATS)}


def _label_files(folder, endings, images, unfit=()):
    """Return the files of a folder with one of these endings by image.

    `unfit` is a dict from endings that cannot be read to the reason. DataError: an image has such a file alone.
    """
    files = [file for file in files_of(folder) if file.suffix.lower() in endings]
    both = {file.resolve() for file in files} & {path.resolve() for path in images.values()}
    if both:
        raise DataError(f'{min(both)}: is an image and a label at once; put labels into a folder of their own, each '
                        'called like its image')
    found = by_image(folder, ((file.name, file) for file in files))
    for file in _unused(folder, endings, images):
        name, reason = image_name(file.name), file.suffix.lower() in unfit and unfit[file.suffix.lower()]
        if reason and name in images and name not in found:
            raise DataError(f'{file}: a label cannot be a {file.suffix[1:]} file: {reason}; save it as PNG with the '
                            'program that drew it')
    return found


def _unused(folder, endings, images):
    originals = {path.resolve() for path in images.values()}  # labels may lie among the photos
    return [file for file in files_of(folder) if file.suffix.lower() not in endings and file.resolve() not in originals]


def _warn_of_unused(path, endings, images):
    """Say how many files a folder holds that end in anything else and are no photos, and name one."""
    unused = _unused(path, endings, images) if path.is_dir() else []
    if unused:
        logger.warning('WARNING: %s: %d files are not used, for example %s; what is read %s', path, len(unused),
                       unused[0].name, f'ends in {", ".join(endings)}' if endings else 'lies in a folder a class')


def _warn_of_folders(path, endings, sources):
    """Say how many folders in a folder hold files of these endings, which nothing looks for, and name one."""
    given = {place.resolve() for place in (sources.images, *sources.labels.values())}
    inner = sorted(place for place in path.iterdir() if place.is_dir() and not place.name.startswith('.')
                   and place.resolve() not in given and os.access(place, os.R_OK | os.X_OK)  # unlike lost+found
                   and any(file.suffix.lower() in endings for file in place.iterdir()))
    if inner:
        logger.warning('WARNING: %s: %d folders in it are not looked into, for example %s; put all files into one '
                       'folder', path, len(inner), inner[0].name)


def by_image(path, pairs, images=()):
    """Return the dict from image name to content of pairs (file name, content); DataError if an image comes twice.

    `images` as in `label_name`.
    """
    labels, files = {}, {}
    for file_name, label in pairs:
        name = label_name(file_name, images)
        if name in labels:
            raise DataError(f'{path}: two labels of the image {name}, {files[name]} and {file_name}; images are '
                            'identified by their base names')
        labels[name], files[name] = label, file_name
    return labels


def _find_images(sources):
    folder = sources.images
    images, others = {}, []
    for path in files_of(folder):
        name = image_name(path.name)
        if path.suffix.lower() not in _IMAGE_ENDINGS:
            others.append(path.name)
        elif name in images:
            raise DataError(f'{path}: has the base name of {images[name]}; rename one of them')
        else:
            images[name] = path
    _warn_of_folders(folder, _IMAGE_ENDINGS, sources)
    if not images:
        raise DataError(f'{folder}: holds no image: no file that ends in {", ".join(_IMAGE_ENDINGS)}')
    if others:
        logger.warning('%s: %d files are neither JPEG nor PNG and are left out, for example %s', folder, len(others),
                       others[0])
    return images


def files_of(folder):
    """Return the files of a folder that are not hidden, in order; DataError: no folder, or a broken link."""
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith('.'))
    for path in paths:
        if not path.exists():
            raise DataError(f'{path}: a link to {os.readlink(path)}, which is not there; remove it, or bring that back')
    return [check_name(path) for path in paths if path.is_file()]


def image_name(file_name):
    """Return the name that an image has in files and lists.

    It has no blanks, which separate the fields of a list, and one Unicode form: macOS writes accents as separate signs.
    """
    return re.sub(r'\s+', '_', unicodedata.normalize('NFC', pathlib.PurePath(file_name).stem))


def label_name(file_name, images=()):
    """Return the name of the image that a label names by a file name.

    That may lack its ending and hold a dot, as `a.v2` of `a.v2.jpg` does; `images` holds the names of images.
    """
    whole = image_name(f'{file_name}.png')
    if not _ENDING.search(file_name) or (whole in images and not file_name.lower().endswith(_IMAGE_ENDINGS)):
        return whole
    return image_name(file_name)


def _named(samples, path):
    """Return the samples whose names a text file lists, one per line, with or without an ending."""
    lines = read_lines(path, 'a list with one image name per line')
    known, chosen = {sample.name: sample for sample in samples}, {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line:
            name = image_name(f'{line}.png')
            if name not in known and pathlib.PurePath(line).suffix.lower() in _IMAGE_ENDINGS:
                name = image_name(line)
            if name not in known:
                raise DataError(f'{path}:{number}: {line} is not an image with a mask; name only such')
            chosen[name] = known[name]
    if not chosen:
        raise DataError(f'{path}: names no image; give one name a line')
    return list(chosen.values())
