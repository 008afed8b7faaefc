"""A user's data set to the VOC layout: images, label maps, lists; `custom_sources` says which image is which."""
import functools
import logging
import pathlib
import shlex
from typing import NamedTuple

import numpy as np

from spml.data import orientation
from spml.data import voc_layout as layout
from spml.data.readers import check_size, image_size, read_label, stored_orientation
from spml.errors import DataError
from spml.names import UNLABELLED
from spml.prepare import drawings, photos, shapes
from spml.prepare.class_list import ClassList, read_class_list
from spml.prepare.custom_sources import WEAK, gather, split
from spml.prepare.runner import Digests, is_prepared, make, results, run_items, summary
from spml.utils.formats import write_png

logger = logging.getLogger(__name__)

# list name: folders of its labels, None for images alone
_LISTS = {'train_scribble': (WEAK, layout.REGIONS), 'train_full': (layout.TRUTH, layout.REGIONS),
          'val': (layout.TRUTH, layout.TRUTH), 'test': ()}


class Prepared(NamedTuple):
    """What `prepare` made."""

    classes: ClassList
    lists: dict  # of `custom_sources.split`
    train_list: pathlib.Path
    longest_side: int  # of an image, in pixels


def prepare(sources, out, num_workers, overwrite=False):
    """Write images, label maps and lists under the data root `out`, and print what the training labels hold.

    What is there already is kept, unless it was made from other files. Returns Prepared. ConfigError: `sources` names
    no label, or two of one kind. DataError: an original is missing, damaged, or does not fit; `out` holds other data.
    """
    classes = read_class_list(sources.classes)
    samples = gather(sources, classes)
    lists = split(samples, sources.val)
    if (out / 'lists').exists() and not is_prepared(out / layout.IMAGES):
        raise DataError(f'{out}: holds other data; choose another folder')
    made = make(functools.partial(_convert, sources, classes, out), {sample.name: sample for sample in samples},
                _folders(sources, out, samples), num_workers, 'images and labels', overwrite)
    summary('images with their labels', out, len(made), len(samples))
    for name, folders in _LISTS.items():
        if lists[name]:
            path = layout.write_lines(out, name, [' '.join([sample.image_path, *(
                f'{folder}/{sample.name}.png' for folder in folders)]) for sample in lists[name]])
            print(f'{len(lists[name])} images: {path}')
        else:  # an older one
            (out / 'lists' / f'{name}.txt').unlink(missing_ok=True)
    trained_on = {sample.name for sample in lists['train']}
    found = run_items(functools.partial(_inspect, out), [(sample, sample.name in trained_on) for sample in samples],
                      num_workers, 'check')
    trained_values = [values for values, _, _ in found if values is not None]
    turned = [sample.image for sample, (_, _, turn) in zip(samples, found, strict=True) if turn != orientation.UPRIGHT]
    if turned:
        print(f'{len(turned)} photos are stored turned (EXIF orientation), for example {turned[0]}: '
              + photos.TURNING[sources.drawn_on])
    counts = {name: sum(index in values for values in trained_values) for index, name in enumerate(classes.names)}
    print(f'of {len(trained_values)} training labels '
          + ', '.join(f'{count} have {name}' for name, count in counts.items()))
    for name in (name for name, count in counts.items() if not count):
        logger.warning('WARNING: no training label has %s, so nothing will be predicted as it', name)
    train_list = f'train_{"scribble" if lists["train_scribble"] else "full"}.txt'
    return Prepared(classes, lists, out / 'lists' / train_list, max(side for _, side, _ in found))


def next_step(prepared, out, cfg_dir, root):
    """Return the message that says what to do with the data root `out` next; `root` is the folder of this project."""
    if not prepared.lists['val']:
        return ('There is no truth to score on. Train and predict with train.py, pseudo_label.py, train_classifier.py '
                'and inference.py, as under "By hand" in misc/PIPELINES.md.')
    settings = {'DATASET': cfg_dir.name, 'DATAROOT': out}
    if not prepared.lists['train_scribble']:
        settings['TRAIN_LIST'] = prepared.train_list
    elif not prepared.lists['train_full']:
        settings['FULL_LIST'] = ''
    words = [f'{name}={shlex.quote(str(value)) if str(value) else ""}' for name, value in settings.items()]
    move = '' if cfg_dir.resolve().parent == root / 'configs' else f', with {cfg_dir} moved to configs/{cfg_dir.name}'
    return f'To train{move}:\n  {" ".join(words)} bash bashscripts/voc12/train_spml_scribble.sh'


def _folders(sources, out, samples):
    """Return (ResultFolder, names) of the images and of the labels of each kind, as `make` takes them."""
    digests, images = Digests(), {sample.name: sample for sample in samples}
    folders = [(results(out / layout.IMAGES, {'images': str(sources.images.resolve()), **sources.turning()},
                        lambda name: [out / images[name].image_path], lambda name: [images[name].image], digests),
                list(images))]
    for place, labels in ((WEAK, {sample.name: sample.weak for sample in samples if sample.weak}),
                          (layout.TRUTH, {sample.name: sample.truth for sample in samples if sample.truth})):
        if labels:
            kind, _ = next(iter(labels.values()))
            folders.append((results(out / place, sources.options(kind),
                                    lambda name, place=place: [out / place / f'{name}.png'],
                                    lambda name, labels=labels: [images[name].image, labels[name][1]], digests),
                            list(labels)))
    return folders


def _convert(sources, classes, out, sample):
    size = photos.photo_size(sample.image, sources.drawn_on)
    for path, (kind, label) in sample.labels():
        original = sources.coco if kind == 'coco' else label
        if kind == 'coco':
            labels = shapes.draw_coco(label, size, sources.rules)
        elif kind == 'labelme':
            labels = shapes.draw_labelme(label, size, classes, sources.rules)
        elif kind == 'masks':
            labels = drawings.read_mask(label, classes)
        else:
            labels = drawings.read_scribbles(label, classes, sources.undrawn)
        check_size(original, labels.shape, f'its image {sample.image}', size, shapes.SAME_PHOTO)
        if (labels >= UNLABELLED).all():
            raise DataError(f'{original}: labels no pixel of {sample.image}; draw in it, or remove it')
        write_png(out / path, labels)
    photos.place_photo(sample.image, out / sample.image_path, sources.drawn_on)


def _inspect(out, item):
    """Return of a (sample, whether trained on) the values in its training label or None, its longer side, its turn."""
    sample, trained_on = item
    values = np.unique(read_label(out / sample.labels()[0][0])).tolist() if trained_on else None
    return values, max(image_size(out / sample.image_path)), stored_orientation(sample.image)
