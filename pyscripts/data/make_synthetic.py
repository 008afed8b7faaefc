"""Write the built-in data set: small textured scenes in the VOC 2012 layout, every kind of label and the lists.

python pyscripts/data/make_synthetic.py --out snapshots/demo/data

Running it again with the same options does nothing.
"""
import argparse
import pathlib

from spml.cli import arguments
from spml.program import execute
from spml.scenes import dataset as synthetic


def _size(text):
    try:
        height, width = (int(part) for part in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form H,W, for example 120,160') from None
    return height, width


def main():
    """Parse the command line, write the data set and say what is there."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--out', type=pathlib.Path, required=True, metavar='DIR', help='data root to write')
    parser.add_argument('--num_train', type=int, default=120, help='training images')
    parser.add_argument('--num_val', type=int, default=24, help='validation images')
    parser.add_argument('--num_test', type=int, default=4, help='test images without labels')
    parser.add_argument('--size', type=_size, default=(120, 160), metavar='H,W',
                        help='image size in pixels, around which images vary')
    parser.add_argument('--num_classes', type=int, default=6, help='classes with background, 2 to 21')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other images')
    parser.add_argument('--mix', action='store_true',
                        help='also write lists/train.txt: a third each with scribbles, boxes and tags')
    parser.add_argument('--overwrite', action='store_true', help='replace a data set made with other options')
    options = vars(parser.parse_args())
    written = synthetic.generate(**options)
    counts = ', '.join(f'{options[f"num_{split}"]} {split}' for split in synthetic.SPLITS)
    print(f'{options["out"]}: {"wrote" if written else "holds already"} {counts} images of '
          f'{options["num_classes"]} classes ({", ".join(synthetic.class_names(options["num_classes"]))})')
    print(f'lists: {options["out"] / "lists"}')


if __name__ == '__main__':
    execute(main)
