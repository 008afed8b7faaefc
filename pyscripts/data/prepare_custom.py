r"""Bring a data set of your own into the layout: images, labels, lists, over-segmentation and configurations.

python pyscripts/data/prepare_custom.py --images photos --scribbles scribbles --masks masks --classes classes.txt \
    --out mine --cfg_dir configs/mine

--classes names a text file, a class per line, background first; `cat 128 0 0` gives the colour that it is drawn in.
Weak labels: --scribbles, or --labelme or --coco with --rest unlabelled. Truth: --masks, --labelme or --coco. Labels are
called like their images. What has a weak label is trained on, what has the truth alone is scored on; where there are no
weak labels, the truth is trained on and a fifth of it scored on. Run again, it continues where it stopped, and takes in
what is new or changed.
"""
import argparse
import pathlib

from spml.cli import arguments
from spml.data import voc_layout as layout
from spml.names import UNLABELLED, VOID
from spml.prepare import custom, custom_config, oversegmentation, photos
from spml.prepare.custom_sources import Sources
from spml.prepare.shapes import ShapeRules
from spml.program import execute

ROOT = pathlib.Path(__file__).resolve().parents[2]
_REST = {'background': 0, 'unlabelled': UNLABELLED}
_OTHERS = {'refuse': None, 'background': 0, 'void': VOID}


def _undrawn(text):
    parts = text.split(',')
    if len(parts) not in (1, 3) or not all(part.isdecimal() and int(part) <= 255 for part in parts):
        raise argparse.ArgumentTypeError(f'{text!r} is neither a value in 0..255 nor a colour R,G,B')
    return tuple(int(part) for part in parts) if len(parts) == 3 else int(text)


def main():
    """Parse, convert, over-segment, write the configurations and say how to train."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--images', type=pathlib.Path, required=True, metavar='DIR', help='JPEGs and PNGs')
    parser.add_argument('--classes', type=pathlib.Path, required=True, metavar='FILE', help='the class list')
    parser.add_argument('--scribbles', type=pathlib.Path, metavar='DIR', help='PNGs of class ids or colours')
    parser.add_argument('--masks', type=pathlib.Path, metavar='DIR', help='PNGs of class ids or colours')
    parser.add_argument('--labelme', type=pathlib.Path, metavar='DIR', help='JSON files of LabelMe')
    parser.add_argument('--coco', type=pathlib.Path, metavar='FILE', help='a JSON of COCO, polygons or run lengths')
    parser.add_argument('--cfg_dir', type=pathlib.Path, metavar='DIR',
                        help='folder for the configurations; configs/NAME for DATASET=NAME (default: DATAROOT/configs)')
    parser.add_argument('--base', choices=('voc12', 'demo'), default='voc12',
                        help='what these begin from: voc12 (ResNet-101, from ImageNet weights) or demo (a small '
                             'network from random weights)')
    parser.add_argument('--val', type=pathlib.Path, metavar='FILE', help='names of images to score on, one per line')
    parser.add_argument('--undrawn', type=_undrawn, metavar='VALUE|R,G,B',
                        help='what is not drawn in scribbles, besides values and colours of no class and transparent '
                             'pixels; 0: the first class has the value 1')
    parser.add_argument('--rest', choices=_REST, default='background',
                        help='what no shape of LabelMe or COCO covers')
    parser.add_argument('--others', choices=_OTHERS, default='refuse',
                        help='what to do with shapes of classes that are not listed')
    parser.add_argument('--width', type=arguments.pixels, default=3, metavar='N',
                        help='width of lines and points of LabelMe in pixels')
    parser.add_argument('--orientation', choices=photos.ORIENTATIONS, default=photos.UPRIGHT,
                        help='which pixels of photos with an EXIF orientation the labels were drawn on: upright, as '
                             'annotation tools show them, or as they are stored')
    oversegmentation.add_arguments(parser)
    arguments.add_preparation_arguments(parser)
    args = parser.parse_args()
    sources = Sources(args.images, args.classes, args.scribbles, args.masks, args.labelme, args.coco, args.val,
                      args.undrawn, ShapeRules(_REST[args.rest], _OTHERS[args.others], args.width), args.orientation)
    made = custom.prepare(sources, args.out, args.num_workers, args.overwrite)
    cfg_dir = args.cfg_dir or args.out / 'configs'
    custom_config.write_configs(ROOT / 'configs' / args.base, cfg_dir, made.classes, made.longest_side)
    oversegmentation.oversegment_list(args.out, made.train_list, args.out / layout.REGIONS, args.contours,
                                      args.threshold, args.max_regions, args.num_workers, args.overwrite)
    print(custom.next_step(made, args.out, cfg_dir, ROOT))


if __name__ == '__main__':
    execute(main)
