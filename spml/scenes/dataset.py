"""The built-in data set: small textured scenes in the VOC 2012 layout with every kind of label and the list files.

It lets the pipelines run through the scripts and file formats of real data where none is available. Each image is drawn
from its own seed, derived from (seed, split, index), so neither order nor number of images changes any of them.
`scene` draws, `regions` over-segments, `labels` annotates; this module writes files.
"""
import pathlib
import re

import numpy as np
from PIL import Image

from spml.data import voc_layout as layout
from spml.data.cam_labels import box_labels, tag_labels
from spml.errors import DataError
from spml.recipe import Answer, Recipe, judge
from spml.scenes.labels import class_activations, draw_strokes, object_boxes, strokes
from spml.scenes.regions import over_segmentation
from spml.scenes.scene import MAX_CLASSES, class_names, render_scene
from spml.utils.files import atomic_path, folder_lock
from spml.utils.formats import read_json_or_none, write_json, write_npy, write_png, write_text

__all__ = ['class_names', 'generate']

FORMAT_VERSION = 2  # rises whenever the same options would give other files
SPLITS = ('train', 'val', 'test')
_FOLDERS = (layout.IMAGES, layout.TEST_IMAGES, layout.INSTANCES, layout.REGIONS, layout.ACTIVATIONS,
            layout.OUTSIDE_BOXES, *layout.TRAIN_LABELS.values())
_MIX = ('scribble', 'box', 'tag')  # kinds of weak label in turn
_OWN_NAME = re.compile(rf'({"|".join(SPLITS)})_\d{{5}}\.(jpg|png|npy)')
_BEGUN = '.meta.json.begun'  # there while the files are being written, so that an interrupted run may start over
_JPEG_QUALITY = 95
_MIN_SIZE, _MAX_SIZE, _MAX_ASPECT = 48, 1024, 2
_SIZE_SPREAD = 0.06  # sides vary by this share
_PORTRAIT = 0.3  # share of upright images


def generate(out, num_train=120, num_val=24, num_test=4, size=(120, 160), num_classes=6, seed=0, mix=False,
             overwrite=False):
    """Write the data set with its lists under the folder `out`.

    `num_train`, `num_val`, `num_test` count images; `size` (height, width) in pixels is what image sizes vary around;
    `num_classes` includes background. With `mix`, `lists/train.txt` lists the training images with scribbles, boxes or
    tags in turn, as `prepare_custom.py` writes it of own data. `out/meta.json`, written last, holds the options and
    the class names; when it holds these options already, nothing is done. Interrupted runs start over; of several
    processes that write the same folder at once, one writes and the others wait. Returns whether files were written.
    Raises DataError for an impossible option, for a folder that holds this data set with other options (unless
    `overwrite`) or other images.
    """
    out = pathlib.Path(out)
    options = {'num_train': num_train, 'num_val': num_val, 'num_test': num_test, 'size': list(size),
               'num_classes': num_classes, 'seed': seed, **({'mix': True} if mix else {})}
    _check_options(options)
    meta = {'format_version': FORMAT_VERSION, 'options': options, 'class_names': class_names(num_classes)}
    with folder_lock(out):
        if _is_done(out, meta, overwrite):
            return False
        write_text(out / _BEGUN, 'the built-in data set is being written here\n')
        # From now on the data set counts as incomplete.
        (out / 'meta.json').unlink(missing_ok=True)
        for file in (file for folder in _FOLDERS for file in (out / folder).glob('*')):
            if _OWN_NAME.fullmatch(file.name):
                file.unlink()
        names = {split: [f'{split}_{index:05d}' for index in range(options[f'num_{split}'])] for split in SPLITS}
        samples = [_write_sample(out, split, index, name, options)
                   for split in SPLITS for index, name in enumerate(names[split])]
        layout.write_lists(out, **names)
        layout.write_boxes(out, [(f'{name}.jpg', shape, boxes) for name, shape, boxes in samples[:num_train]],
                           meta['class_names'])
        if mix:
            _write_mix(out, samples[:num_train])
        write_json(out / 'meta.json', meta)
        (out / _BEGUN).unlink()
        return True


def _check_options(options):
    lowest = {'num_train': 1, 'num_val': 1, 'num_test': 0, 'seed': 0}
    for key, least in lowest.items():
        if options[key] < least:
            raise DataError(f'{key}: {options[key]} is too small, give at least {least}')
        if key != 'seed' and options[key] > 99999:
            raise DataError(f'{key}: {options[key]} is too large, give at most 99999')
    if not 2 <= options['num_classes'] <= MAX_CLASSES:
        raise DataError(f'num_classes: {options["num_classes"]} is out of range, give 2 to {MAX_CLASSES}, '
                        'background included')
    size = options['size']
    if len(size) != 2 or min(size) < _MIN_SIZE or max(size) > min(_MAX_SIZE, _MAX_ASPECT * min(size)):
        raise DataError(f'size: {size} is out of range, give height and width from {_MIN_SIZE} to {_MAX_SIZE}, '
                        f'one at most {_MAX_ASPECT} times the other')


def _is_done(out, meta, overwrite):
    """Return whether `out` holds the data set of `meta`; raise DataError when it may not be written to."""
    path = out / 'meta.json'
    answer, difference = judge(_recipe(meta), _recipe(read_json_or_none(path)) if path.exists() else None, True,
                               overwrite, costly=True)
    if answer is Answer.STANDS:
        return True
    if answer is Answer.REFUSE:
        raise DataError(f'{out}: holds a data set made differently ({difference}); choose another folder, or '
                        '--overwrite to replace it')
    if not path.exists() and not (out / _BEGUN).exists():
        for folder in ('VOC2012', 'VOC2012-test', 'lists'):
            if (out / folder).exists():
                raise DataError(f'{out}: holds a {folder} that is not of the built-in data set; choose another folder')
    for folder in (layout.IMAGES, layout.TEST_IMAGES):
        for file in (out / folder).glob('*'):
            if not file.name.startswith('.') and not _OWN_NAME.fullmatch(file.name):
                raise DataError(f'{out}: holds images that are not of the built-in data set, such as '
                                f'{folder}/{file.name}; choose another folder')
    return False


def _recipe(meta):
    """Return the Recipe that `meta.json` describes; whatever else it may hold is another."""
    meta = meta if isinstance(meta, dict) else {}
    options = meta['options'] if isinstance(meta.get('options'), dict) else {}
    return Recipe({'version': meta.get('format_version'), **options, 'class_names': meta.get('class_names')})


def _write_mix(out, samples):
    """Write the list of a mix of labels; `samples` as `_write_sample` returns them."""
    lines = []
    for index, (name, shape, boxes) in enumerate(samples):
        kind = _MIX[index % len(_MIX)]
        tags = ','.join(map(str, sorted({label for label, _ in boxes}))) or '-'
        semantic = {'scribble': f'{layout.TRAIN_LABELS["scribble"]}/{name}.png', 'tag': '-',
                    'box': f'{layout.OUTSIDE_BOXES}/{name}.png'}[kind]
        lines.append(f'{layout.IMAGES}/{name}.jpg {semantic} {layout.REGIONS}/{name}.png {tags} {kind}')
        if kind == 'box':
            write_png(out / semantic, box_labels({}, boxes, shape))
    layout.write_lines(out, 'train', lines)


def _write_sample(out, split, index, name, options):
    """Draw the image of a split with its labels and write the files that the split's lists name.

    Returns the name, (H, W) and the boxes as in `labels.object_boxes`.
    """
    rng = np.random.default_rng([options['seed'], SPLITS.index(split), index])
    sides = np.rint(np.array(options['size']) * rng.uniform(1 - _SIZE_SPREAD, 1 + _SIZE_SPREAD, 2)).astype(int)
    height, width = sides[::-1] if rng.random() < _PORTRAIT else sides
    num_classes = options['num_classes']
    scene = render_scene(rng, height, width, num_classes, first_class=1 + index % (num_classes - 1))
    file = out / (layout.TEST_IMAGES if split == 'test' else layout.IMAGES) / f'{name}.jpg'
    with atomic_path(file) as temporary:
        Image.fromarray(scene.image).save(temporary, format='JPEG', quality=_JPEG_QUALITY)
    boxes = object_boxes(scene.visible, scene.classes)
    sample = name, scene.visible.shape, boxes
    if split == 'test':
        return sample
    labels = {layout.TRUTH: scene.semantic, layout.INSTANCES: scene.instance}
    if split == 'train':
        # The over-segmentation sees what a user of the data sees: the image as stored.
        with Image.open(file) as stored:
            labels[layout.REGIONS] = over_segmentation(np.asarray(stored))
        paths = strokes(rng, scene.instance)
        for folder, fraction, dilation in layout.STROKES.values():
            labels[folder] = draw_strokes(paths, scene.instance, scene.classes, fraction, dilation)
        activations = class_activations(rng, scene.visible, scene.classes)
        labels[layout.TAGS] = tag_labels(activations, scene.visible.shape)
        labels[layout.BOXES] = box_labels(activations, boxes, scene.visible.shape)
        write_npy(out / layout.ACTIVATIONS / f'{name}.npy', activations)
    for folder, label in labels.items():
        write_png(out / folder / f'{name}.png', label)
    return sample
