r"""Turn class activation maps into label maps of training images: tag labels, and box labels with --boxes.

python pyscripts/data/prepare_cam.py --cam_dir CAMS --out DATAROOT
python pyscripts/data/prepare_cam.py --cam_dir CAMS --boxes VOCdevkit/VOC2012/Annotations --out DATAROOT

CAMS holds <image>.npy, pickled dicts {class - 1: H x W in 0..1} as SEAM writes them; no code in them is run.
Tag labels: the largest of the scores of the classes and of background, (1 - max)^alpha; a pixel whose largest is below
the threshold is unlabelled. At the defaults that never happens: the smallest largest score is 0.2219. With --normalise,
which divides the scores of a pixel by their sum first, it happens to images of five classes or more. The last line
printed says how many pixels are unlabelled, and which thresholds would leave 10, 20 and 30 % so.
Box labels: each CAM scaled to 0..1 within its box, at least the threshold is the class, less is unlabelled, outside
every box is background. prepare_voc12.py comes first; or prepare_custom.py, whose classes --cfg_path says. Run again,
it continues where it stopped.
"""
import pathlib

from spml.cli import arguments
from spml.cli.classes import add_class_arguments, resolve_classes
from spml.config.schema import VOC_CLASS_NAMES
from spml.data.cam_labels import BACKGROUND_POWER, BOX_THRESHOLD, TAG_THRESHOLD
from spml.errors import ConfigError
from spml.prepare import cam
from spml.prepare.boxes import are_complete
from spml.prepare.class_list import ClassList
from spml.program import execute


def main():
    """Parse and label."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--cam_dir', type=pathlib.Path, required=True, metavar='DIR', help='folder of CAMs')
    parser.add_argument('--boxes', type=pathlib.Path, metavar='PATH',
                        help="boxes around objects: a folder of VOC's XML, LabelMe's JSON or YOLO's text, or a JSON of "
                             'COCO: write box labels instead of tag labels')
    parser.add_argument('--alpha', type=arguments.positive, metavar='N',
                        help=f"power of background's score in tag labels (default: {BACKGROUND_POWER})")
    parser.add_argument('--threshold', type=arguments.share, metavar='N',
                        help=f'of a label (default: {TAG_THRESHOLD}; {BOX_THRESHOLD} within boxes)')
    parser.add_argument('--normalise', action='store_true', help='divide the scores of a pixel by their sum first')
    arguments.add_preparation_arguments(parser, 'data root that prepare_voc12.py or prepare_custom.py wrote')
    parser.add_argument('--cam_keys', choices=('class-1', 'class'), default='class-1',
                        help="what the dicts' keys are: class ids less 1, or class ids, 0 being background")
    parser.add_argument('--data_list', type=pathlib.Path, metavar='FILE',
                        help='images to label (default: lists/train_full.txt, or lists/train.txt where there is none)')
    add_class_arguments(parser)
    args = parser.parse_args()
    classes = resolve_classes(args, len(VOC_CLASS_NAMES))
    is_voc = args.class_names is None and args.cfg_path is None and classes.number == len(VOC_CLASS_NAMES)
    names = ClassList(args.cfg_path or '--class_names', VOC_CLASS_NAMES if is_voc else tuple(classes.names), None, {})
    cams = cam.Cams(args.cam_dir, names, args.cam_keys == 'class', classes.background)
    if args.boxes is None:
        cam.prepare_tags(cams, args.out, args.alpha or BACKGROUND_POWER, args.threshold or TAG_THRESHOLD,
                         args.normalise, args.num_workers, args.overwrite, args.data_list)
        return
    if args.alpha or args.normalise:
        raise ConfigError('--alpha and --normalise belong to tag labels; leave them out with --boxes')
    if not are_complete(args.boxes):
        raise ConfigError(f'{args.boxes}: says that there may be objects outside its boxes, but here all outside is '
                          'background; take cam_label.py')
    cam.prepare_boxes(cams, args.boxes, args.out, args.threshold or BOX_THRESHOLD, args.num_workers,
                      args.overwrite, args.data_list)


if __name__ == '__main__':
    execute(main)
