"""A user's data set to the VOC layout: images, label maps, lists; `custom_sources` says which image is which."""
import functools
import logging
import pathlib
import shlex
from typing import NamedTuple

from spml.data import orientation
from spml.data import voc_layout as layout
from spml.data.check import SUSPICIOUS, check_list
from spml.data.readers import check_size, image_size, stored_orientation
from spml.errors import DataError
from spml.names import UNLABELLED
from spml.prepare import drawings, notes, photos, shapes
from spml.prepare.class_list import ClassList, read_class_list
from spml.prepare.custom_sources import WEAK, gather, split
from spml.prepare.runner import Digests, is_prepared, make, results, run_items, summary
from spml.utils.formats import write_png

logger = logging.getLogger(__name__)

# Folders of the label maps of each kind, in the order in which an image is trained on them.
_FOLDERS = {'scribble': WEAK, 'mask': layout.TRUTH}


class Prepared(NamedTuple):
    """What `prepare` made."""

    classes: ClassList
    has_background: bool
    lists: dict  # from the names of the list files that were written to their samples
    train_list: pathlib.Path
    longest_side: int  # of an image, in pixels


def prepare(sources, out, num_workers, overwrite=False):
    """Write images, label maps and lists under the data root `out`, and print what the training labels hold.

    What is there already is kept, unless it was made from other files. Returns Prepared. ConfigError: `sources` names
    no label, or leaves open what the background is. DataError: an original is missing, damaged, or does not fit, or an
    image has two labels of one kind; `out` holds other data.
    """
    classes = read_class_list(sources.classes)
    has_background = classes.has_background(sources.background)
    samples = gather(sources, classes)
    shares = split(samples, sources.val)
    if (out / 'lists').exists() and not is_prepared(out / layout.IMAGES):
        raise DataError(f'{out}: holds other data; choose another folder')
    codings = _survey(sources, classes, samples, num_workers)
    made = make(functools.partial(_convert, sources, classes, codings, out),
                {sample.name: sample for sample in samples}, _results(sources, classes, codings, out, samples),
                num_workers, 'images and labels', overwrite)
    summary('images with their labels', out, len(made), len(samples))
    turned = [sample.image for sample in samples if stored_orientation(sample.image) != orientation.UPRIGHT]
    notes.warn(note for found in made.values() for note in found)
    if turned:
        print(f'{len(turned)} photos are stored turned (EXIF orientation), for example {turned[0]}: '
              + photos.TURNING[sources.drawn_on])
    lists = _write_lists(out, shares)
    train_list = out / 'lists' / f'train_{"scribble" if lists["train_scribble"] else "full"}.txt'
    _check(out, [train_list.stem, 'val'], lists, classes, num_workers)
    longest_side = max(max(image_size(out / sample.image_path)) for sample in samples)
    return Prepared(classes, has_background, lists, train_list, longest_side)


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


def _survey(sources, classes, samples, num_workers):
    """Look at all drawings; return the `drawings.Coding` of the options that give some, and warn or refuse."""
    codings = {}
    for option, look in (('masks', drawings.survey_mask),
                         ('scribbles', functools.partial(drawings.survey_scribbles, classes, sources.undrawn))):
        paths = [label.content for sample in samples for label in sample.labels.values() if label.option == option]
        if paths:
            surveys = run_items(look, paths, num_workers, f'look at {option}')
            fixes = sources.fixes if option == 'masks' else ()
            codings[option] = drawings.coding(surveys, classes, sources.palettes, fixes)
            if option == 'masks':
                drawings.check_void(surveys, classes, codings[option])
            else:
                drawings.warn_of_colours(surveys)
    return codings


def _results(sources, classes, codings, out, samples):
    """Return (ResultFolder, names) of the images and of the labels of each kind, as `make` takes them."""
    digests, images = Digests(), {sample.name: sample for sample in samples}
    folders = [(results(out / layout.IMAGES, {'images': str(sources.images.resolve()), **sources.turning()},
                        lambda name: [out / images[name].image_path], lambda name: [images[name].image], digests),
                list(images))]
    for kind, place in _FOLDERS.items():
        labels = {sample.name: sample.labels[kind] for sample in samples if kind in sample.labels}
        if labels:
            options = {'class list': sources.classes.read_text('utf-8-sig'), **sources.turning()}
            for option in sorted({label.option for label in labels.values()}):
                options |= {option: str(sources.labels[option].resolve())}
                options |= _options(option, sources, classes, codings)
            folders.append((results(out / place, options,
                                    lambda name, place=place: [out / place / f'{name}.png'],
                                    lambda name, labels=labels: [images[name].image, labels[name].content], digests),
                            list(labels)))
    return folders


def _options(option, sources, classes, codings):
    """Return all that changes what label maps of an option hold, except files.

    What is as version 0.1.0 had it is left out, for its results to be known.
    """
    if option in ('labelme', 'coco'):
        return {name: value for name, value in sources.rules._asdict().items()
                if name not in shapes.ShapeRules._field_defaults or value != shapes.ShapeRules._field_defaults[name]}
    undrawn = {'undrawn': sources.undrawn} if option == 'scribbles' else {}
    by_colour, fixes = codings[option]
    return {**undrawn, **({} if by_colour == (classes.colours is not None) else {f'colours of {option}': by_colour}),
            **({'fix': fixes} if fixes else {})}


def _convert(sources, classes, codings, out, sample):
    """Write the image and the labels of a sample; return what is odd in its annotations, see `spml.prepare.notes`."""
    odd = []
    size = photos.photo_size(sample.image, sources.drawn_on)
    for kind, label in sample.labels.items():
        original = sources.labels['coco'] if label.option == 'coco' else label.content
        labels = _draw(sources, classes, codings, label, size, odd)
        check_size(original, labels.shape, f'its image {sample.image}', size, photos.SAME_PHOTO)
        if (labels >= UNLABELLED).all():
            raise DataError(f'{original}: labels no pixel of {sample.image}; draw in it, or remove it')
        write_png(out / _FOLDERS[kind] / f'{sample.name}.png', labels)
    photos.place_photo(sample.image, out / sample.image_path, sources.drawn_on)
    return odd


def _draw(sources, classes, codings, label, size, odd):
    """Return a Label as (H, W) uint8 label map, of an image of (H, W) = `size` where it does not have its own.

    The list `odd` takes what is odd in it.
    """
    if label.option == 'coco':
        return shapes.draw_coco(label.content, size, sources.rules, odd)
    if label.option == 'labelme':
        return shapes.draw_labelme(label.content, size, classes, sources.rules, odd)
    if label.option == 'masks':
        return drawings.read_mask(label.content, classes, codings['masks'])
    return drawings.read_scribbles(label.content, classes, sources.undrawn, codings['scribbles'])


def _write_lists(out, shares):
    """Write the list files of what `split` returned, remove older ones, and return the dict from name to samples."""
    train = shares['train']
    is_weak = any(sample.is_weak for sample in train)
    lists = {'train_scribble': train if is_weak else [], 'train_full': [one for one in train if one.has_truth],
             'val': shares['val'], 'test': shares['test']}
    for name, samples in lists.items():
        if samples:
            path = layout.write_lines(out, name, [' '.join([sample.image_path, *_fields(name, sample)])
                                                  for sample in samples])
            print(f'{len(samples)} images: {path}')
        else:  # an older one
            (out / 'lists' / f'{name}.txt').unlink(missing_ok=True)
    return lists


def _fields(name, sample):
    """Return what follows the image on its line in a list."""
    truth = f'{layout.TRUTH}/{sample.name}.png'
    if name in ('val', 'test'):
        return [truth, truth] if name == 'val' else []
    kind = next(kind for kind in _FOLDERS if kind in sample.labels) if name == 'train_scribble' else 'mask'
    return [f'{_FOLDERS[kind]}/{sample.name}.png', f'{layout.REGIONS}/{sample.name}.png']


def _check(out, names, lists, classes, num_workers):
    """Look at the labels of lists as check_data.py does, say what the first, to train on, holds, and warn."""
    for name in names:
        if not lists[name]:
            continue
        path = out / 'lists' / f'{name}.txt'
        checked = check_list(path, out, len(classes.names), num_workers, labels_only=True)
        what = 'training label' if name == names[0] else 'label to score on'
        if name == names[0]:
            print(f'of {len(lists[name])} training labels '
                  + ', '.join(f'{checked.images[index]} have {one}' for index, one in enumerate(classes.names)))
        for index, one in enumerate(classes.names):
            if not checked.images[index]:
                logger.warning('WARNING: no %s has %s%s', what, one, ', so nothing will be predicted as it' * (
                    name == names[0]))
        for kind in SUSPICIOUS:
            found = [finding for finding in checked.findings if finding.kind == kind]
            if found and kind != 'absent':
                logger.warning('WARNING: %d of %d labels: %s. The first: %s', len(found), len(lists[name]),
                               SUSPICIOUS[kind], found[0])
