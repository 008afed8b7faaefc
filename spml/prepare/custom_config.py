"""The configurations of a user's data set: a shipped folder's with its classes and sizes put in."""
import logging
import math
import pathlib
import re

import yaml

from spml import config as configuration
from spml.errors import ConfigError
from spml.names import KIND_SETTINGS
from spml.utils.formats import write_text

logger = logging.getLogger(__name__)

# What the sizes and the steps of each folder were chosen for: the longer side of an image, in pixels, and the number of
# images to train on.
_MEANT_FOR = {'voc12': (500, 10582), 'demo': (160, 120)}
_LONGEST = 500  # pixels; longer images are seen in parts
_STRIDE = 8  # of the network, in pixels
_SMALLEST = 32  # pixels
_FEWEST_STEPS = 300  # with which a network learns anything, however few the images are
_LARGEST_MOMENTUM = 0.1
_WARMUP_PART = 15  # of the steps, at most, go to the warm-up: with 300 of them, 20
_STEPS = re.compile(r'(?<=max_iteration: )\d+')
_MADE_FOR = re.compile(r'# Made by prepare_custom\.py for (\d+) images of up to (\d+) pixels')
# A folder written when each training had a complete file: nothing is added to these two.
_BEFORE = ('scribble', 'scribble_classifier')


def write_configs(shipped, folder, classes, longest_side, num_images, has_background=True):
    """Write `base.yaml` and a configuration of each training into a folder.

    They are the embedding's, `spml_joint.yaml` and `scribble.yaml` (scripts take the first unless RECIPE=published),
    `cam.yaml` of the classifier of tags, `classifier.yaml`, and the baseline's `cross_entropy.yaml`, made from those of
    the folder `shipped`.

    Crops and windows grow or shrink with the images' `longest_side`, in pixels, and trainings shorten with the
    `num_images` to train on, so that each is seen as often as in the shipped recipe or more; batch norm and the warm-up
    follow the steps. Images are tested at their size, as they are trained on. A file that is there already is renewed
    if it is as it was made for other images; one that was edited is kept, and it is said which steps these images would
    have. ConfigError if it is of other classes. `has_background`: whether the first class is the background.
    """
    shipped, folder = pathlib.Path(shipped), pathlib.Path(folder)

    def make(num_images, longest_side):
        return _texts(shipped, classes, longest_side, num_images, has_background)

    texts, dataset = make(num_images, longest_side), configuration.resolve(_base(shipped, classes, has_background))
    if all((folder / f'{name}.yaml').exists() for name in _BEFORE):
        texts = dict.fromkeys(_BEFORE)
    for name, text in texts.items():
        path = folder / f'{name}.yaml'
        before = path.read_text(encoding='utf-8', errors='replace') if path.exists() else None
        made_for = _MADE_FOR.match(before or '')
        if before is None:
            write_text(path, text)
            print(f'configuration: {path}')
        elif text and made_for and before != text and before == make(*map(int, made_for.groups()))[name]:
            write_text(path, text)
            print(f'configuration: {path} (renewed, for it was made for {made_for[1]} images of up to {made_for[2]} '
                  'pixels)')
        elif configuration.load_config(path).dataset != dataset.dataset:
            raise ConfigError(f'{path}: is a configuration of other classes; remove it, or give another --cfg_dir')
        else:
            print(f'configuration: {path} (was there already and is kept)')
            _say_steps(path, before, text, made_for and int(made_for[1]), num_images)
    train = configuration.load_config(folder / 'scribble.yaml').train
    print(f'{num_images} images to train on: {train.max_iteration} steps of {train.total_batch_size} images for '
          'the embedding (train.max_iteration); a run says how long that takes after its first steps')


def _base(shipped, classes, has_background):
    """Return the shipped `base.yaml` as a dict, with a data set's classes."""
    base = yaml.safe_load((shipped / 'base.yaml').read_text(encoding='utf-8'))
    base['dataset'] |= {'num_classes': len(classes.names), 'background': has_background,
                        'class_names': list(classes.names),
                        'color_map': classes.colours and [list(colour) for colour in classes.colours]}
    return base


def _texts(shipped, classes, longest_side, num_images, has_background):
    """Return the dict from name to text of the configurations; arguments as in `write_configs`."""
    usual_side, usual_images = _MEANT_FOR[shipped.name]
    scale = min(longest_side, _LONGEST) / usual_side

    def steps(usual):
        return min(usual, max(_FEWEST_STEPS, 100 * round(usual * num_images / usual_images / 100)))

    def scaled(size):
        return [max(_SMALLEST, math.ceil(side * scale / _STRIDE) * _STRIDE) for side in size]

    base = _base(shipped, classes, has_background)
    train, test = base['train'], base['test']
    usual = train['max_iteration']
    train['crop_size'], train['max_iteration'] = scaled(train['crop_size']), steps(usual)
    # The running statistics of batch norm forget those of the weights to start from in as large a part of the training.
    momentum = base['network']['bn_momentum'] * usual / steps(usual)
    base['network']['bn_momentum'] = float(f'{min(_LARGEST_MOMENTUM, momentum):.2g}')
    train['warmup_iteration'] = min(train['warmup_iteration'], steps(usual) // _WARMUP_PART)
    test |= {'image_size': 0, 'crop_size': scaled(test['crop_size']), 'stride': scaled(test['stride'])}
    texts = {'base': configuration.dump(base), **{name: _body(shipped / f'{name}.yaml', steps) for name in (
        'spml_joint', 'scribble', 'cam', 'classifier', 'cross_entropy')}}
    # The published recipes, each for its kind of label; the joint one treats all kinds alike.
    kinds = {kind: dict(keys) for kind, keys in KIND_SETTINGS.items()}
    texts['scribble'] += yaml.safe_dump({'train': {'kinds': kinds}}, sort_keys=False, default_flow_style=None,
                                        width=200)
    return {name: f'# Made by prepare_custom.py for {num_images} images of up to {longest_side} pixels, from configs/'
                  f'{shipped.name}/{name}.yaml.\n# `python -m spml.config` explains every key; `--set '
                  f'section.key=value` overrides one.\n{text}' for name, text in texts.items()}


def _body(path, steps):
    """Return the text of a shipped file without its head, which is about the shipped data, and with other steps."""
    text = path.read_text(encoding='utf-8')
    text = text[text.index('\nbase: ') + 1:]
    return _STEPS.sub(lambda found: str(steps(int(found[0]))), text)


def _say_steps(path, before, text, images_before, num_images):
    """Say that a file that is kept has the steps of another number of images, if it has."""
    found, wanted = (_STEPS.search(one or '') for one in (before, text))
    if found and wanted and images_before != num_images and found[0] != wanted[0]:
        old = '' if images_before is None else f', set for {images_before} images'
        logger.warning('WARNING: %s: train.max_iteration is %s%s; for %d images to train on it would be %s: '
                       'change it there, or remove the file to have it made anew', path, found[0], old, num_images,
                       wanted[0])
