r"""Bring a data set of your own into the layout: images, labels, lists, over-segmentation and configurations.

python pyscripts/data/prepare_custom.py --images photos --scribbles scribbles --masks masks --classes classes.txt \
    --out mine --cfg_dir configs/mine

--classes names a text file, a class per line, background first; `cat 128 0 0` gives the colour that it is drawn in.
Weak labels: --scribbles, --points, --boxes, --tags, or --labelme or --coco with --rest unlabelled. Truth: --masks,
--labelme or --coco. Labels are called like their images. Each image uses whatever it has; where several label a pixel,
masks beat scribbles, these points, and these boxes. What has a weak label is trained on, what has the truth alone is
scored on, unless --val names others; where there are no weak labels, the truth is trained on and a fifth of it scored
on. Run again, it continues where it stopped, and takes in what is new or changed.
"""
import argparse
import pathlib

from spml.cli import arguments
from spml.data import voc_layout as layout
from spml.errors import ConfigError
from spml.names import UNLABELLED, VOID
from spml.prepare import custom, custom_config, drawings, oversegmentation, photos
from spml.prepare.class_list import read_class_list
from spml.prepare.custom_sources import OPTIONS, Sources
from spml.prepare.shapes import BOXES, REFUSED, REGIONS, ShapeRules
from spml.program import execute

ROOT = pathlib.Path(__file__).resolve().parents[2]
_REST = {'background': 0, 'void': VOID, 'unlabelled': UNLABELLED}
_OTHERS = {'refuse': None, 'background': 0, 'void': VOID}


def _undrawn(text):
    parts = text.split(',')
    if len(parts) not in (1, 3) or not all(part.isdecimal() and int(part) <= 255 for part in parts):
        raise argparse.ArgumentTypeError(f'{text!r} is neither a value in 0..255 nor a colour R,G,B')
    return tuple(int(part) for part in parts) if len(parts) == 3 else int(text)


def _fix(text, classes):
    """Return (value, what it is written as) of `--fix VALUE=CLASS`."""
    old, _, new = text.partition('=')
    names = {**{name: index for index, name in enumerate(classes.names)}, 'void': VOID, 'unlabelled': UNLABELLED,
             **{str(index): index for index in range(len(classes.names))}}
    if not (old.isdecimal() and int(old) <= VOID) or new not in names:
        raise ConfigError(f'--fix {text}: expected VALUE=CLASS, a value in 0..255 and the id or the name of a class of '
                          f'{classes.path}, void or unlabelled; for example 255=1')
    return int(old), names[new]


def _fixes(texts, classes):
    """Return the tuple of the pairs of all `--fix`; ConfigError: as in `_fix`, or one value means two things."""
    fixes = [_fix(text, classes) for text in texts]
    twice = [old for old, new in fixes if dict(fixes)[old] != new]
    if twice:
        raise ConfigError(f'--fix {twice[0]}=... is given twice, with different classes; give one')
    return tuple(fixes)


def _rules(args, labels, classes):
    """Return the ShapeRules of the options; ConfigError: they call background what is none."""
    has_background, has_shapes = classes.has_background(args.background), 'labelme' in labels or 'coco' in labels
    if not has_background and has_shapes and args.rest in (None, 'background'):
        raise ConfigError('--background none: no class is what the shapes leave open; give --rest void, or --rest '
                          'unlabelled if they are weak labels')
    if not has_background and args.others == 'background':
        raise ConfigError('--others background: with --background none there is none; give --others void')
    # Rectangles that are given as boxes are no shapes.
    shapes = [labels[option].resolve() for option in ('labelme', 'coco') if option in labels]
    is_boxes = args.rectangles == REFUSED and 'boxes' in labels and shapes == [args.boxes.resolve()]
    if is_boxes and 'labelme' in labels and args.rest != 'unlabelled':
        raise ConfigError('--labelme and --boxes name one folder, so what lies in its rectangles is in no shape; give '
                          '--rest unlabelled, or --boxes alone')
    return ShapeRules(_REST[args.rest or 'background'], _OTHERS[args.others], args.width,
                      BOXES if is_boxes else args.rectangles, has_background)


def _parser():
    """Return the parser of the options."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--images', type=pathlib.Path, required=True, metavar='DIR', help='JPEGs and PNGs')
    parser.add_argument('--classes', type=pathlib.Path, required=True, metavar='FILE', help='the class list')
    parser.add_argument('--scribbles', type=pathlib.Path, metavar='DIR', help='PNG, TIFF or BMP: class ids or colours')
    parser.add_argument('--masks', type=pathlib.Path, metavar='DIR', help='PNG, TIFF or BMP: class ids or colours')
    parser.add_argument('--labelme', type=pathlib.Path, metavar='DIR', help='JSON files of LabelMe')
    parser.add_argument('--coco', type=pathlib.Path, metavar='FILE', help='a JSON of COCO, polygons or run lengths')
    parser.add_argument('--points', type=pathlib.Path, metavar='PATH',
                        help='a CSV, `image,x,y,class` on each line, or JSON files of LabelMe')
    parser.add_argument('--boxes', type=pathlib.Path, metavar='PATH',
                        help='boxes around objects: a JSON of COCO (bbox), or a folder of XML (VOC), of JSON (LabelMe) '
                             'or of text (YOLO)')
    parser.add_argument('--tags', type=pathlib.Path, metavar='PATH',
                        help='a CSV, `image,class,class ...` on each line, or a folder with a folder of images a class')
    parser.add_argument('--boxes_incomplete', action='store_true',
                        help='there may be objects outside all boxes of an image; else that is background')
    parser.add_argument('--point_width', type=arguments.pixels, default=6, metavar='N',
                        help='of the dots that points are drawn as, in pixels')
    parser.add_argument('--cfg_dir', type=pathlib.Path, metavar='DIR',
                        help='folder for the configurations; configs/NAME for DATASET=NAME (default: DATAROOT/configs)')
    parser.add_argument('--base', choices=('voc12', 'demo'), default='voc12',
                        help='what these begin from: voc12 (ResNet-101, from ImageNet weights) or demo (a small '
                             'network from random weights)')
    parser.add_argument('--val', type=pathlib.Path, metavar='FILE', help='names of images to score on, one per line')
    parser.add_argument('--undrawn', type=_undrawn, metavar='VALUE|R,G,B',
                        help='what is not drawn in scribbles, besides values and colours of no class and transparent '
                             'pixels')
    parser.add_argument('--first_id', type=int, choices=(0, 1),
                        help='what value the first class has in scribbles of ids, of which --undrawn is 0 (default: 1 '
                             'if their values reach the number of classes)')
    parser.add_argument('--background', choices=('first', 'none'),
                        help='what the first class is: the background, or a class as the others (default: the '
                             'background if it is called so)')
    parser.add_argument('--palettes', choices=('ids', 'colours'),
                        help='what says the class in indexed files, and in grey ones where greys are in the class '
                             'list: their numbers or their colours (default: of indexed files colours if the class '
                             'list has them, else what agrees over all files; of grey ones numbers)')
    parser.add_argument('--fix', action='extend', nargs='+', default=[], metavar='VALUE=CLASS',
                        help='what a value in masks of ids means: an id or a name of the class list, void or '
                             'unlabelled; 255=1 for masks of 0 and 255')
    parser.add_argument('--rest', choices=_REST,
                        help='what no shape of LabelMe or COCO covers (default: background, where there is one)')
    parser.add_argument('--others', choices=_OTHERS, default='refuse',
                        help='what to do with shapes of classes that are not listed')
    parser.add_argument('--rectangles', choices=(REFUSED, REGIONS), default=REFUSED,
                        help='rectangles of LabelMe: regions are filled; the boxes around objects are refused here')
    parser.add_argument('--width', type=arguments.pixels, default=3, metavar='N',
                        help='width of lines and points of LabelMe in pixels')
    parser.add_argument('--orientation', choices=photos.ORIENTATIONS, default=photos.UPRIGHT,
                        help='which pixels of photos with an EXIF orientation the labels were drawn on: upright, as '
                             'annotation tools show them, or as they are stored')
    oversegmentation.add_arguments(parser)
    arguments.add_preparation_arguments(parser)
    return parser


def _check_options(args, labels):
    """Raise ConfigError for an option that says how to read labels that are not given."""
    for option, given, of in (('fix', args.fix, ('masks',)), ('undrawn', args.undrawn is not None, ('scribbles',)),
                              ('first_id', args.first_id is not None, ('scribbles',)),
                              ('palettes', args.palettes, ('masks', 'scribbles')),
                              ('boxes_incomplete', args.boxes_incomplete, ('boxes',))):
        if given and not labels.keys() & set(of):
            raise ConfigError(f'--{option} says how to read {" and ".join(f"--{name}" for name in of)}; give '
                              f'{"one of these" if len(of) > 1 else "that"}, or leave it out')
    if args.first_id is not None and drawings.as_colour(args.undrawn) != drawings.BLACK:
        raise ConfigError('--first_id is of scribbles of which 0 is not drawn; give --undrawn 0, or leave it out')


def main():
    """Parse, convert, over-segment, write the configurations and say how to train."""
    args = _parser().parse_args()
    labels = {option: path for option in OPTIONS if (path := getattr(args, option)) is not None}
    _check_options(args, labels)
    classes = read_class_list(args.classes)
    sources = Sources(args.images, args.classes, labels, args.val, args.undrawn, _rules(args, labels, classes),
                      args.orientation, args.background, args.palettes, _fixes(args.fix, classes),
                      args.boxes_incomplete, args.point_width, args.first_id)
    made = custom.prepare(sources, args.out, args.num_workers, args.overwrite)
    cfg_dir = args.cfg_dir or args.out / 'configs'
    custom_config.write_configs(ROOT / 'configs' / args.base, cfg_dir, made.classes, made.longest_side,
                                len(made.lists['train']), made.has_background)
    oversegmentation.oversegment_list(args.out, made.train_list, args.out / layout.REGIONS, args.contours,
                                      args.threshold, args.max_regions, args.num_workers, args.overwrite)
    print(custom.next_step(args.out, cfg_dir, args.base, ROOT))


if __name__ == '__main__':
    execute(main)
