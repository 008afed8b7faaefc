"""The originals of a user's data set: which image has which labels, and what it is used for.

An image may have a weak label (scribbles, or shapes outside which all is unlabelled) and the truth (a mask, or shapes
outside which all is background). Images with a weak label are trained on; those with the truth alone are scored
on. Where that leaves nothing to score, every fifth image with truth is kept from training. Where there are no weak
labels, the truth is trained on.
"""
import logging
import pathlib
import re
from typing import NamedTuple

from spml.data import voc_layout as layout
from spml.errors import ConfigError, DataError
from spml.names import UNLABELLED
from spml.prepare.photos import UPRIGHT
from spml.prepare.shapes import ShapeRules, read_coco
from spml.utils.formats import read_lines

logger = logging.getLogger(__name__)

WEAK = layout.STROKES['scribble'][0]
_KINDS = ('scribbles', 'masks', 'labelme', 'coco')
_IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png')
_VAL_STEP = 5


class Sources(NamedTuple):
    """Where the originals are and how to read them; all paths but `images` and `classes` may be None."""

    images: pathlib.Path
    classes: pathlib.Path
    scribbles: pathlib.Path | None
    masks: pathlib.Path | None
    labelme: pathlib.Path | None
    coco: pathlib.Path | None
    val: pathlib.Path | None  # a text file with the names of the images to score on
    undrawn: int | tuple | None  # as in `drawings.read_scribbles`
    rules: ShapeRules  # of LabelMe and COCO
    drawn_on: str = UPRIGHT  # of `photos.ORIENTATIONS`

    def options(self, kind):
        """Return all that changes what label maps of a kind hold, as the options of their folder."""
        rules = {'scribbles': {'undrawn': self.undrawn}, 'masks': {}}.get(kind, self.rules._asdict())
        return {kind: str(getattr(self, kind).resolve()), 'class list': self.classes.read_text('utf-8-sig'), **rules,
                **self.turning()}

    def turning(self):
        """Return the option of whatever depends on how photos are turned; none where that is the usual."""
        return {} if self.drawn_on == UPRIGHT else {'orientation': self.drawn_on}


class Sample(NamedTuple):
    """An image to be: its name and its original; for each label the kind of its source and what of it is the image's.

    That is a file or, of a file of COCO, the image's annotations.
    """

    name: str
    image: pathlib.Path
    weak: tuple | None
    truth: tuple | None

    @property
    def image_path(self):
        """Where the image goes, below the data root."""
        return f'{layout.IMAGES}/{self.name}{self.image.suffix.lower()}'

    def labels(self):
        """Return for each label, the one to train on first, where it goes below the data root, and (kind, label)."""
        pairs = ((WEAK, self.weak), (layout.TRUTH, self.truth))
        return [(f'{folder}/{self.name}.png', source) for folder, source in pairs if source is not None]


def gather(sources, classes):
    """Return the `Sample`s of all images, by name; ConfigError and DataError as in `custom.prepare`."""
    images = _find_images(sources.images)
    weak, truth = _label_sources(sources, classes)
    for labels in (weak, truth):
        if labels and not set(labels) & set(images):
            kind = next(iter(labels.values()))[0]
            raise DataError(f'{getattr(sources, kind)}: holds no label of an image in {sources.images}; labels are '
                            'called like their images')
        strange = sorted(set(labels) - set(images))
        if strange:
            logger.warning('%d labels have no image and are left out, for example of %s', len(strange), strange[0])
    return [Sample(name, path, weak.get(name), truth.get(name)) for name, path in sorted(images.items())]


def split(samples, val_path=None):
    """Share samples out; `val_path` is a text file with the names of those to score on, or None to choose them.

    Returns a dict of lists of samples: `train`; for list files `train_scribble` and `train_full` (those of `train` with
    weak labels and with truth), `val`, and `test`, those without any label. DataError: `val_path` is unreadable or
    names an image without truth, or nothing is left to train on.
    """
    with_truth = [sample for sample in samples if sample.truth]
    val = [sample for sample in with_truth if not sample.weak]
    if val_path is not None:
        val = _named(with_truth, val_path)
    elif not val or not any(sample.weak for sample in samples):
        val = with_truth[_VAL_STEP - 1::_VAL_STEP] or with_truth[-1:]
    scored_on = {sample.name for sample in val}
    rest = [sample for sample in samples if sample.name not in scored_on]
    weak = [sample for sample in rest if sample.weak]
    train = weak or [sample for sample in rest if sample.truth]
    if not train:
        raise DataError('no image with a label is left to train on; label more of them')
    full = [sample for sample in train if sample.truth]
    test = [sample for sample in rest if not sample.weak and not sample.truth]
    return {'train': train, 'train_scribble': weak, 'train_full': full, 'val': val, 'test': test}


def _label_sources(sources, classes):
    """Return two dicts, of weak labels and of truth, from image name to (kind, what of the source is the image's)."""
    weak, truth = [], []
    for kind in _KINDS:
        if getattr(sources, kind) is not None:
            is_weak = kind == 'scribbles' or (kind != 'masks' and sources.rules.rest == UNLABELLED)
            (weak if is_weak else truth).append(kind)
    if not weak and not truth:
        raise ConfigError(f'no labels: give {", ".join(f"--{kind}" for kind in _KINDS[:-1])} or --{_KINDS[-1]}')
    for kinds, what in ((weak, 'weak labels'), (truth, 'truth')):
        if len(kinds) > 1:
            raise ConfigError(f'{" and ".join(f"--{kind}" for kind in kinds)}: both are {what}; give one of them')
    return [_labels_of(sources, kinds[0], classes) if kinds else {} for kinds in (weak, truth)]


def _labels_of(sources, kind, classes):
    path = getattr(sources, kind)
    if kind == 'coco':
        # An image without any annotation is all background; or all unlabelled, and then has no label.
        pairs = [(name, annotations) for name, annotations in read_coco(path, classes, sources.rules).items()
                 if annotations or sources.rules.rest == 0]
    else:
        ending = '.json' if kind == 'labelme' else '.png'
        pairs = [(file.name, file) for file in _files(path) if file.suffix.lower() == ending]
    labels = {}
    for file_name, label in pairs:
        name = _image_name(file_name)
        if name in labels:
            raise DataError(f'{path}: two labels of the image {name}; images are identified by their base names')
        labels[name] = (kind, label)
    return labels


def _find_images(folder):
    images, others = {}, []
    for path in _files(folder):
        name = _image_name(path.name)
        if path.suffix.lower() not in _IMAGE_ENDINGS:
            others.append(path.name)
        elif name in images:
            raise DataError(f'{path}: has the base name of {images[name]}; rename one of them')
        else:
            images[name] = path
    if not images:
        raise DataError(f'{folder}: holds no image: no file that ends in {", ".join(_IMAGE_ENDINGS)}')
    if others:
        logger.warning('%s: %d files are neither JPEG nor PNG and are left out, for example %s', folder, len(others),
                       others[0])
    return images


def _files(folder):
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith('.'))


def _image_name(file_name):
    """Return the name that an image has in files and lists: without blanks, which separate the fields of a list."""
    return re.sub(r'\s+', '_', pathlib.PurePath(file_name).stem)


def _named(samples, path):
    """Return the samples whose names a text file lists, one per line, with or without an ending."""
    lines = read_lines(path, 'a list with one image name per line')
    known = {sample.image.name: sample for sample in samples} | {sample.image.stem: sample for sample in samples}
    chosen = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line:
            if line not in known:
                raise DataError(f'{path}:{number}: {line} is not an image with truth; name only such')
            chosen[known[line].name] = known[line]
    if not chosen:
        raise DataError(f'{path}: names no image; give one name a line')
    return list(chosen.values())
