"""Write the built-in data set: small textured scenes in the VOC 2012 layout, every kind of label and the lists.

Running it again with the same options does nothing.
"""
import argparse
import pathlib

from spml import cli
from spml.data import synthetic


def _parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=pathlib.Path, required=True, metavar='DIR', help='data root to write')
    parser.add_argument('--num_train', type=int, default=120, help='training images (default 120)')
    parser.add_argument('--num_val', type=int, default=24, help='validation images (default 24)')
    parser.add_argument('--num_test', type=int, default=4, help='test images without labels (default 4)')
    parser.add_argument('--size', type=_size, default=(120, 160), metavar='H,W',
                        help='image size in pixels, around which images vary (default 120,160)')
    parser.add_argument('--num_classes', type=int, default=6, help='classes with background, 2 to 21 (default 6)')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other images (default 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace a data set made with other options')
    return parser


def _size(text):
    try:
        height, width = (int(part) for part in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form H,W, for example 120,160') from None
    return height, width


def main():
    """Parse the command line, write the data set and say what is there."""
    options = vars(_parser().parse_args())
    written = synthetic.generate(**options)
    counts = ', '.join(f'{options[f"num_{split}"]} {split}' for split in synthetic.SPLITS)
    print(f'{options["out"]}: {"wrote" if written else "holds already"} {counts} images of '
          f'{options["num_classes"]} classes ({", ".join(synthetic.class_names(options["num_classes"]))})')
    print(f'lists: {options["out"] / "lists"}')


if __name__ == '__main__':
    cli.run(main)
