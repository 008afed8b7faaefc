r"""Turn class activation maps into label maps: tag labels, and box labels with --boxes.

python pyscripts/data/prepare_cam.py --cam_dir CAMS --out DATAROOT
python pyscripts/data/prepare_cam.py --cam_dir CAMS --boxes VOCdevkit/VOC2012/Annotations --out DATAROOT
python pyscripts/data/prepare_cam.py --cam_dir CAMS --data_dir DATA --data_list LIST --cfg_path configs/voc12/cam.yaml \
    --save_dir OUT --list_out OUT/train_tag.txt

CAMS holds <image>.npy, pickled dicts {class - 1: H x W in 0..1} as cam.py and SEAM write them; no code in them is run.
--out labels the training images of the layout of VOC, after prepare_voc12.py or prepare_custom.py: all by boxes or all
by tags. --save_dir labels any list: by boxes where an image has some, by tags where not or where its line says so, and
not at all where its line says that it has a mask, a scribble or a point.
Tag labels: the largest of the scores of the classes and of background, (1 - max)^alpha; a pixel whose largest is below
the threshold is unlabelled. At the defaults that never happens: the smallest largest score is 0.2219. With --normalise,
which divides the scores of a pixel by their sum first, it happens to images of five classes or more. The last line
printed says how many pixels are unlabelled, and which thresholds would leave 10, 20 and 30 % so.
Box labels: each CAM scaled to 0..1 within its box, at least the threshold is the class, less is unlabelled, outside
every box is background.
--gt_list adds a table: for each background threshold the mean IoU of tag labels, and the --alpha that gives it.
Run again, it continues where it stopped.
"""
import pathlib

from spml.cli import arguments
from spml.cli.arguments import add_class_arguments, resolve_classes
from spml.config.schema import VOC_CLASS_NAMES
from spml.data.cam_labels import BACKGROUND_POWER, BOX_THRESHOLD, TAG_THRESHOLD
from spml.errors import ConfigError
from spml.prepare import cam, cam_fit
from spml.prepare.boxes import are_complete
from spml.prepare.class_list import ClassList
from spml.program import execute

_OF_LISTS = ('data_dir', 'list_out', 'boxes_incomplete', 'keep_labels')


def build_parser():
    """Return the parser of the options; a pipeline asks it before its first stage."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--cam_dir', type=pathlib.Path, required=True, metavar='DIR', help='folder of CAMs')
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--out', type=pathlib.Path, metavar='DATAROOT',
                       help='data root that prepare_voc12.py or prepare_custom.py wrote; labels and lists go there')
    where.add_argument('--save_dir', type=pathlib.Path, help='folder for the labels of the images of --data_list')
    parser.add_argument('--data_dir', type=pathlib.Path, help='folder that the paths in the list start from')
    parser.add_argument('--data_list', type=pathlib.Path, metavar='FILE',
                        help='images to label (default with --out: lists/train_full.txt, or lists/train.txt where '
                             'there is none)')
    parser.add_argument('--list_out', type=pathlib.Path, metavar='FILE',
                        help='write the list again with these labels as its label column')
    parser.add_argument('--boxes', type=pathlib.Path, metavar='PATH',
                        help="boxes around objects: a folder of VOC's XML, LabelMe's JSON or YOLO's text, or a JSON of "
                             'COCO: write box labels instead of tag labels')
    parser.add_argument('--boxes_incomplete', action='store_true',
                        help='there may be objects outside all boxes of an image, as a file by prepare_custom.py says '
                             'by itself: background is what the CAMs call so, the rest is unlabelled; else all '
                             'outside is background')
    parser.add_argument('--alpha', type=arguments.positive, metavar='N',
                        help=f"power of background's score in tag labels (default: {BACKGROUND_POWER})")
    parser.add_argument('--threshold', type=arguments.share, metavar='N',
                        help=f'largest score below which a pixel of a tag label is unlabelled (default: '
                             f'{TAG_THRESHOLD}); with --out and --boxes the same as --box_threshold')
    parser.add_argument('--box_threshold', type=arguments.share, metavar='N',
                        help='CAM, scaled to 0..1 within a box, from which on a pixel has the class of the box '
                             f'(default: {BOX_THRESHOLD})')
    parser.add_argument('--normalise', action='store_true',
                        help='divide the scores of a pixel of a tag label by their sum first')
    parser.add_argument('--keep_labels', action='store_true',
                        help="pixels to which the list's own label map gives a class, or void, keep it")
    parser.add_argument('--cam_keys', choices=('class-1', 'class'), default='class-1',
                        help="what the dicts' keys are: class ids less 1, or class ids, 0 being background")
    parser.add_argument('--gt_list', type=pathlib.Path, metavar='FILE',
                        help='list whose labels are the truth: print the mean IoU for several thresholds')
    arguments.add_overwrite_argument(parser)
    arguments.add_workers_argument(parser)
    add_class_arguments(parser)
    return parser


def _check_options(args):
    """Raise SpmlError for options that belong to the other of the two ways, or to the other kind of labels."""
    if args.save_dir is not None:
        arguments.require(args, '--save_dir', 'data_dir', 'data_list')
        return
    for option in _OF_LISTS:
        if getattr(args, option):
            raise ConfigError(f'--{option} belongs to labels of a list; give --save_dir instead of --out, or leave it '
                              'out')
    if args.boxes is None:
        return
    if args.alpha or args.normalise:
        raise ConfigError('--alpha and --normalise belong to tag labels; leave them out with --boxes')
    if not are_complete(args.boxes):
        raise ConfigError(f'{args.boxes}: says that there may be objects outside its boxes, but with --out all outside '
                          'is background; give --data_dir, --data_list and --save_dir instead')


def _rule(args):
    """Return the Rule of the options."""
    classes = resolve_classes(args, None if args.out is None else len(VOC_CLASS_NAMES))
    is_voc = (args.out is not None and args.class_names is None and args.cfg_path is None
              and classes.number == len(VOC_CLASS_NAMES))
    names = ClassList(args.cfg_path or pathlib.Path('--class_names'),
                      VOC_CLASS_NAMES if is_voc else tuple(classes.names), None, {})
    boxes = {} if args.boxes is None else cam.boxes_of_images(args.boxes, names, classes.background,
                                                                        args.cam_dir)
    complete = args.boxes is None or (not args.boxes_incomplete and are_complete(args.boxes))
    box_threshold = args.box_threshold or (args.threshold if args.out else None) or BOX_THRESHOLD
    return cam.Rule(classes.number, args.alpha or BACKGROUND_POWER, args.threshold or TAG_THRESHOLD, args.normalise,
                    boxes, box_threshold, names, classes.background, complete, args.keep_labels,
                    args.cam_keys == 'class')


def main():
    """Parse, label, compare."""
    args = build_parser().parse_args()
    _check_options(args)
    rule = _rule(args)
    if args.out is not None:
        cam.label_root(rule, args.cam_dir, args.out, args.boxes, args.num_workers, args.overwrite, args.data_list)
    else:
        cam.label_list(rule, args.cam_dir, args.data_dir, args.data_list, args.save_dir, args.list_out,
                       args.num_workers, args.overwrite)
    if args.gt_list is not None:
        rows = cam_fit.sweep(rule, args.cam_dir, args.out or args.data_dir, args.gt_list)
        print(cam_fit.describe_sweep(rows))


if __name__ == '__main__':
    execute(main)
