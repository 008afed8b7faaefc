"""A user's data set to the VOC layout: images, label maps, lists.

`custom_sources` says which image is which, `custom_labels` makes the label maps.
"""
import collections
import functools
import logging
import pathlib
import shlex
from typing import NamedTuple

import numpy as np

from spml.config import load_config
from spml.data import decoding
from spml.data import voc_layout as layout
from spml.data.check import SUSPICIOUS, check_list
from spml.data.lists import NONE
from spml.data.readers import image_size, read_label, stored_orientation
from spml.errors import DataError
from spml.names import LABEL_KINDS, LITE0, UNLABELLED
from spml.prepare import notes, photos
from spml.prepare.class_list import ClassList, read_class_list
from spml.prepare.custom_labels import FOLDERS, convert, read_rules, resolve, result_folders, train_label
from spml.prepare.custom_sources import gather, split
from spml.prepare.runner import is_prepared, make, run_items, summary
from spml.recipe import FileDigests
from spml.utils.files import has_weights

logger = logging.getLogger(__name__)

_LISTS = ('train', 'train_scribble', 'train_full', 'val', 'test', 'all')

class Prepared(NamedTuple):
    """What `prepare` made."""

    classes: ClassList
    has_background: bool
    lists: dict  # from the names of the list files that were written to their samples
    train_list: pathlib.Path
    longest_side: int  # of an image, in pixels


class Known(NamedTuple):
    """What is known of an image to train on: the tags of its fourth field, its kind, and whether a pixel is labelled.

    `classes` are those that its pixels or boxes show; `contradiction` says in which way its tags say something else.
    """

    tags: tuple
    kind: str
    is_labelled: bool
    classes: tuple
    contradiction: str


def prepare(sources, out, num_workers, overwrite=False):
    """Write images, label maps and lists under the data root `out`, and print what the training labels hold.

    What is there already is kept, unless it was made from other files. Returns Prepared. ConfigError: `sources` names
    no label, or leaves open what the background is. DataError: an original is missing, damaged, or does not fit, or an
    image has two labels of one kind; `out` holds other data.
    """
    classes = read_class_list(sources.classes)
    has_background = classes.has_background(sources.background)
    _refuse_own_results(sources, out)
    samples = gather(sources, classes)
    turned = [sample.image for sample in samples if stored_orientation(sample.image) != decoding.UPRIGHT]
    if sources.images.resolve() == (out / layout.IMAGES).resolve():
        copied = turned + [sample.image for sample in samples
                           if not sample.image_path.endswith(f'/{sample.image.name}')]
        if copied:  # others stay as they are
            raise DataError(f'{copied[0]}: is stored turned (EXIF orientation) or has a name that lists cannot hold, '
                            'and a copy would be written over it or beside it; give another --out')
    if (out / 'lists').exists() and not is_prepared(out / layout.IMAGES):
        raise DataError(f'{out}: holds other data; choose another folder')
    shares = split(samples, sources.val)
    _warn_of_copies(shares)
    rules = read_rules(sources, classes, has_background, samples, num_workers)
    samples, odd = resolve(rules, samples, num_workers)
    by_name = {sample.name: sample for sample in samples}
    shares = {name: [by_name[sample.name] for sample in share] for name, share in shares.items()}
    made = make(functools.partial(convert, rules, out), by_name, result_folders(rules, samples, out),
                num_workers, 'images and labels', overwrite)
    summary('images with their labels', out, len(made), len(samples))
    notes.warn([*odd, *(note for found in made.values() for note in found)])
    if turned:
        print(f'photos that are stored turned (EXIF orientation): {len(turned)} of {len(samples)}, for example '
              f'{turned[0]}; {photos.TURNING[sources.drawn_on]}')
    known = dict(zip([sample.name for sample in shares['train']], run_items(
        functools.partial(_look, rules, out), shares['train'], num_workers, 'look at labels'), strict=True))
    tagged = [sample for sample in shares['val'] if 'tag' in sample.labels]
    _warn_of_tags([*known.values(), *run_items(functools.partial(_look, rules, out), tagged, 0, 'look at tags')])
    _write_boxes(out, rules, shares['train'])
    lists = _write_lists(out, shares, known)
    # CAMs of an image with tags or boxes also say where none of its classes is.
    by_cams = has_background and any(one.kind in ('box', 'tag') for one in known.values())
    _check(out, lists, classes, num_workers, classes.names[:int(by_cams)])
    _print_table(classes, shares, known)
    longest_side = max(max(image_size(out / sample.image_path)) for sample in samples)
    return Prepared(classes, has_background, lists, out / 'lists' / 'train.txt', longest_side)


def next_step(out, cfg_dir, base, root):
    """Return the message that says what to do with the data root `out` next.

    `base` names the folder of shipped configurations that those in `cfg_dir` begin from; `root` is the folder of this
    project.
    """
    settings = {'DATASET': cfg_dir.name, 'DATAROOT': out} | ({'CLUSTERS': '6,6'} if base == 'demo' else {})
    pretrained, weights = load_config(cfg_dir / 'scribble.yaml').network.pretrained, ''
    if not has_weights(pretrained):
        weights = f' from weights that pip brings, as {pretrained} is not there'
        settings = {'PRETRAINED': LITE0, **settings}
    words = [f'{name}={shlex.quote(str(value))}' for name, value in settings.items()]
    move = '' if cfg_dir.resolve().parent == root / 'configs' else f', with {cfg_dir} moved to configs/{cfg_dir.name}'
    return f'To train{weights}{move}:\n  {" ".join(words)} bash bashscripts/custom/train_spml.sh'


def _refuse_own_results(sources, out):
    """Raise DataError where an original lies at a place that results are written to: it would be overwritten."""
    places = {(out / place).resolve() for place in (layout.REGIONS, layout.MIXED, *FOLDERS.values(), layout.BOXES_FILE,
                                                    *(f'lists/{name}.txt' for name in _LISTS))}
    for path in filter(None, (sources.classes, sources.val, *sources.labels.values())):
        if path.resolve() in places:
            raise DataError(f'{path}: results are written to the same place, over it; give another --out')


def _look(rules, out, sample):
    """Return what is Known of a sample to train on; its label maps are written."""
    path, first = train_label(sample), int(rules.has_background)
    label = np.full(1, UNLABELLED) if path is None else read_label(out / path)
    pixels = set(np.unique(label).tolist())
    in_pixels = {value for value in pixels if first <= value < len(rules.classes.names)}
    in_boxes = {value for value, _ in sample.labels['box'].content if value < UNLABELLED} if (
        'box' in sample.labels) else set()
    tags = set(sample.labels['tag'].content) if 'tag' in sample.labels else None
    # A mask without unlabelled pixels, and boxes outside which is background, show all that there is.
    is_complete = 'mask' in sample.labels and UNLABELLED not in pixels
    shown = in_pixels if is_complete else in_pixels | in_boxes
    is_complete |= 'box' in sample.labels and rules.outside == 0
    contradiction = ''
    if tags is not None and (shown - tags or (is_complete and tags - shown)):
        words = [' and '.join(rules.classes.names[index] for index in sorted(found)) or 'nothing'
                 for found in (tags, shown)]
        contradiction = f'{sample.name}: tagged {words[0]}, but its own labels show {words[1]}'
    all_tags = shown if is_complete else shown | (tags or set())
    kind = next(kind for kind in LABEL_KINDS if kind in sample.labels)
    return Known(tuple(sorted(all_tags - in_pixels)), kind, bool(pixels - {UNLABELLED}), tuple(sorted(shown)),
                 contradiction)


def _warn_of_copies(shares):
    """Say how many images to score on are copies of images to train on: scores would say little of other images.

    Copies are files of one content, and what Roboflow's augmentation makes of one photo, `name_jpg.rf.HASH.jpg`.
    """
    sizes = collections.Counter(sample.image.stat().st_size for name in ('train', 'val') for sample in shares[name])
    digests = FileDigests()

    def origins(sample):
        same_size = sizes[sample.image.stat().st_size] > 1  # others need not be read
        of_tool, separator, _ = sample.name.rpartition('.rf.')
        return [digests(sample.image)] * same_size + [of_tool] * bool(separator)

    trained_on = {origin: sample for sample in shares['train'] for origin in origins(sample)}
    copies = [(sample, trained_on[same[0]]) for sample in shares['val']
              if (same := [origin for origin in origins(sample) if origin in trained_on])]
    if copies:
        logger.warning('WARNING: %d of %d images to score on are copies of images to train on, for example %s of %s; '
                       'remove these, or name others by --val', len(copies), len(shares['val']), copies[0][0].image,
                       copies[0][1].image)


def _warn_of_tags(known):
    found = [one.contradiction for one in known if one.contradiction]
    if found:
        logger.warning('WARNING: the tags of %d images contradict their own labels, for example of %s; the labels '
                       'count', len(found), found[0])


def _write_boxes(out, rules, samples):
    """Write the boxes of the images to train on as a JSON of COCO, or remove an older one."""
    boxed = [sample for sample in samples if 'box' in sample.labels]
    path = out / layout.BOXES_FILE
    if not boxed:
        path.unlink(missing_ok=True)
        return
    images = [(pathlib.PurePath(sample.image_path).name, image_size(out / sample.image_path),
               [box for box in sample.labels['box'].content if box[0] < UNLABELLED]) for sample in boxed]
    layout.write_boxes(out, images, rules.classes.names, complete=rules.outside == 0)
    print(f'boxes of {len(boxed)} images: {path}')


def _write_lists(out, shares, known):
    """Write the list files of what `split` returned, remove older ones, and return the dict from name to samples."""
    train = shares['train']
    is_drawn = all(kind in ('scribble', 'mask') for sample in train for kind in sample.labels)
    lists = {'train': train,
             'train_scribble': train if is_drawn and any(sample.is_weak for sample in train) else [],
             'train_full': [sample for sample in train if 'mask' in sample.labels],
             'val': shares['val'], 'test': shares['test'],
             # Without truth a run ends in pictures instead of scores: of these.
             'all': [] if shares['val'] else [*train, *shares['test']]}
    assert lists.keys() == {*_LISTS}  # originals in their places are refused before anything is written
    for name, samples in lists.items():
        if samples:
            path = layout.write_lines(out, name, [' '.join([sample.image_path, *_fields(name, sample, known)])
                                                  for sample in samples])
            print(f'{len(samples)} images: {path}')
        else:  # an older one
            (out / 'lists' / f'{name}.txt').unlink(missing_ok=True)
    return lists


def _fields(name, sample, known):
    """Return what follows the image on its line in a list."""
    truth, regions = f'{layout.TRUTH}/{sample.name}.png', f'{layout.REGIONS}/{sample.name}.png'
    if name in ('test', 'all'):
        return []
    if name == 'val':
        return [truth, truth]
    if name == 'train':
        tags, kind, is_labelled, _, _ = known[sample.name]
        return [train_label(sample) if is_labelled else NONE, regions, ','.join(map(str, tags)) or NONE, kind]
    kind = 'scribble' if name == 'train_scribble' and sample.is_weak else 'mask'
    return [f'{FOLDERS[kind]}/{sample.name}.png', regions]


def _check(out, lists, classes, num_workers, implied):
    """Look at the labels of the lists as check_data.py does, say what those to train on hold, and warn.

    The classes called `implied` will be in labels to train on, whatever these show.
    """
    for name, what, so in (('train', 'training label', ', so nothing will be predicted as it'),
                           ('val', 'label to score on', '')):
        if not lists[name]:
            continue
        checked = check_list(out / 'lists' / f'{name}.txt', out, len(classes.names), num_workers, labels_only=True)
        absent = [one for one, number in zip(classes.names, checked.images, strict=False) if not number]
        if name == 'train':
            print(f'of {len(lists[name])} training labels '
                  + ', '.join(f'{checked.images[index]} have {one}' for index, one in enumerate(classes.names)))
            absent = [one for one in absent if one not in implied]
            if len(absent) > len(classes.names) - 2:
                there = ', '.join(one for one in classes.names if one not in absent) or 'no class'
                raise DataError(f'{out / "lists" / name}.txt: all training labels together show {there} alone, and '
                                'nothing can be learned from a single class; label others, too, or see whether labels '
                                'are read as they are meant (--fix, --undrawn, names of classes)')
        for one in absent:
            logger.warning('WARNING: no %s has %s%s', what, one, so)
        for flaw in [flaw for flaw in SUSPICIOUS if flaw != 'absent']:
            found = [finding for finding in checked.findings if finding.name == flaw]
            if found:
                logger.warning('WARNING: %d of %d labels: %s. The first: %s', len(found), len(lists[name]),
                               SUSPICIOUS[flaw], found[0])


def _print_table(classes, shares, known):
    """Print how many images have which kinds of labels, and which classes are known by tags alone."""
    print(f'{"kind of label":16} {"to train on":>12} {"to score on":>12}')
    for kind in LABEL_KINDS:
        counts = [sum(kind in sample.labels for sample in shares[name]) for name in ('train', 'val')]
        if any(counts):
            print(f'{kind:16} {counts[0]:12} {counts[1]:12}')
    if shares['test']:
        print(f'{len(shares["test"])} images have no label and are in the list test, for example '
              f'{shares["test"][0].name}')
    tagged = [set(sample.labels['tag'].content) for sample in shares['train'] if 'tag' in sample.labels]
    shown = {index for one in known.values() for index in one.classes}
    only = [f'{name} ({sum(index in tags for tags in tagged)} images)' for index, name in enumerate(classes.names)
            if index not in shown and any(index in tags for tags in tagged)]
    if only:
        print(f'seen in tags alone: {", ".join(only)}')
