"""The pair of configurations of a data set of one's own: a shipped pair with its classes and sizes put in."""
import pathlib

from spml import config as configuration
from spml.errors import ConfigError
from spml.utils.io import write_text

_STEP = 8  # sizes are multiples of the network's stride
_LONGEST = 512


def write_configs(base, folder, classes, longest_side):
    """Write `scribble.yaml` (the embedding) and `scribble_classifier.yaml` into a folder.

    Images are tested whole, at most 512 pixels long. The crops of training are the share of that that they are in the
    configuration taken over. A file that stands there is kept: it may have been edited.

    Args:
        base: folder of the pair to take over, such as `configs/voc12`.
        folder: where they go.
        classes: ClassList.
        longest_side: of an image, in pixels.

    Raises:
        ConfigError: a configuration of other classes stands there.
    """
    for name in ('scribble', 'scribble_classifier'):
        config = configuration.load_config(pathlib.Path(base) / f'{name}.yaml')
        size = min(_LONGEST, _rounded(longest_side))
        crop = [_rounded(side * size / tested)
                for side, tested in zip(config.train.crop_size, config.test.crop_size, strict=True)]
        config = configuration.to_dict(config)
        config['dataset'] |= {'num_classes': len(classes.names), 'class_names': list(classes.names),
                              'color_map': classes.colours and [list(colour) for colour in classes.colours]}
        config['train']['crop_size'] = crop
        config['test'] |= {'image_size': size, 'crop_size': [size, size], 'stride': [size, size]}
        _write(pathlib.Path(folder) / f'{name}.yaml', configuration.resolve(config),
               f'# Made by prepare_custom.py from configs/{pathlib.Path(base).name}/{name}.yaml.\n'
               '# `python -m spml.config` explains every key; `--set section.key=value` overrides one.\n')


def _write(path, config, header):
    if not path.exists():
        write_text(path, header + configuration.dump(config))
        print(f'configuration: {path}')
    elif configuration.load_config(path).dataset == config.dataset:
        print(f'configuration: {path} (stood there already and is kept)')
    else:
        raise ConfigError(f'{path}: is a configuration of other classes; remove it, or give another --cfg_dir')


def _rounded(length):
    """Return a length rounded up to the network's stride, at least 32."""
    return max(32, -(-round(length) // _STEP) * _STEP)
