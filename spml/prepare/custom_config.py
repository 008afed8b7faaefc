"""The pair of configurations of a data set of one's own: a shipped pair with its classes and sizes put in."""
import math
import pathlib

from spml import config as configuration
from spml.errors import ConfigError
from spml.utils.formats import write_text

# The longer side, in pixels, of the images that the sizes of each pair were chosen for.
_MEANT_FOR = {'voc12': 500, 'demo': 160}
_LONGEST = 500  # pixels; longer images are seen in parts
_STRIDE = 8  # of the network, in pixels
_SMALLEST = 32  # pixels


def write_configs(base, folder, classes, longest_side):
    """Write `scribble.yaml` (the embedding) and `scribble_classifier.yaml` into a folder.

    Crops and windows grow or shrink with the images. Images are tested at their size, as they are trained on. A file
    that stands there is kept: it may have been edited.

    Args:
        base: folder of the pair to begin from, `configs/voc12` or `configs/demo`.
        folder: where they go.
        classes: ClassList.
        longest_side: of an image, in pixels.

    Raises:
        ConfigError: a configuration of other classes stands there.
    """
    base = pathlib.Path(base)
    scale = min(longest_side, _LONGEST) / _MEANT_FOR[base.name]

    def scaled(size):
        return [max(_SMALLEST, math.ceil(side * scale / _STRIDE) * _STRIDE) for side in size]

    for name in ('scribble', 'scribble_classifier'):
        config = configuration.to_dict(configuration.load_config(base / f'{name}.yaml'))
        config['dataset'] |= {'num_classes': len(classes.names), 'class_names': list(classes.names),
                              'color_map': classes.colours and [list(colour) for colour in classes.colours]}
        train, test = config['train'], config['test']
        train['crop_size'] = scaled(train['crop_size'])
        test |= {'image_size': 0, 'crop_size': scaled(test['crop_size']), 'stride': scaled(test['stride'])}
        _write(pathlib.Path(folder) / f'{name}.yaml', configuration.resolve(config),
               f'# Made by prepare_custom.py from configs/{base.name}/{name}.yaml.\n'
               '# `python -m spml.config` explains every key; `--set section.key=value` overrides one.\n')


def _write(path, config, header):
    if not path.exists():
        write_text(path, header + configuration.dump(config))
        print(f'configuration: {path}')
    elif configuration.load_config(path).dataset == config.dataset:
        print(f'configuration: {path} (stood there already and is kept)')
    else:
        raise ConfigError(f'{path}: is a configuration of other classes; remove it, or give another --cfg_dir')
