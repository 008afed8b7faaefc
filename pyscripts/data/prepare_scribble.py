r"""Draw the scribbles of ScribbleSup, or the clicks of "What's the point", as label maps of VOC's training images.

python pyscripts/data/prepare_scribble.py --scribbles scribble_annotation/pascal_2012 --out DATAROOT
python pyscripts/data/prepare_scribble.py --points pascal2012_trainval_main.json --out DATAROOT

Scribbles are drawn at 100, 80, 50, 30 and 0 % of their length (0 %: a point in their middle), into
VOC2012/scribble/dilate_3, dilate_3_0.8, dilate_3_0.5, dilate_3_0.3 and dilate_6_0.0; clicks into
VOC2012/scribble/clicks_6. Each kind has its list. Run prepare_voc12.py first. Run again, it continues where it stopped.
"""
import argparse
import pathlib

from spml.cli import arguments
from spml.errors import ConfigError
from spml.prepare import scribble
from spml.program import execute


def _alias(text):
    tag, equals, name = text.partition('=')
    if not (equals and tag and name):
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form TAG=CLASS')
    return tag, name


def main():
    """Parse and draw."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--scribbles', type=pathlib.Path, metavar='DIR', help="ScribbleSup's <image>.xml files")
    parser.add_argument('--points', type=pathlib.Path, metavar='FILE', help='the JSON of "What\'s the point"')
    parser.add_argument('--width', type=arguments.pixels, default=3, help='width of scribbles in pixels')
    parser.add_argument('--radius', type=arguments.pixels, default=3, help='radius of points in pixels')
    parser.add_argument('--alias', type=_alias, action='extend', nargs='+', default=[], metavar='TAG=CLASS',
                        help='take a tag of the scribbles for a class, for example steed=horse')
    arguments.add_preparation_arguments(parser, 'data root that prepare_voc12.py wrote')
    args = parser.parse_args()
    if args.scribbles is None and args.points is None:
        raise ConfigError('nothing to draw: give --scribbles DIR, --points FILE or both')
    if args.scribbles is not None:
        scribble.prepare_scribbles(args.scribbles, args.out, args.width, args.radius, args.alias, args.num_workers,
                                   args.overwrite)
    if args.points is not None:
        scribble.prepare_clicks(args.points, args.out, args.radius, args.num_workers, args.overwrite)


if __name__ == '__main__':
    execute(main)
