r"""Turn the class activation maps (CAMs) of a list's images into label maps, from tags alone or with boxes.

python pyscripts/data/cam_label.py --cam_dir CAMS --data_dir DATA --data_list LIST --cfg_path configs/voc12/cam.yaml \
    --save_dir OUT --list_out OUT/train_tag.txt

CAMS holds <image>.npy as cam.py writes them. The rules are those of prepare_cam.py, which is for the layout of VOC.
--gt_list adds a table: for each background threshold the mean IoU of tag labels, and the --alpha that gives it.
"""
import pathlib

from spml.cli import arguments
from spml.cli.classes import add_class_arguments, resolve_classes
from spml.data.cam_labels import BACKGROUND_POWER, BOX_THRESHOLD, TAG_THRESHOLD
from spml.prepare import cam_list, labelme
from spml.prepare.boxes import are_complete, find_boxes
from spml.prepare.class_list import ClassList
from spml.program import execute


def main():
    """Parse, label, compare."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--cam_dir', type=pathlib.Path, required=True, metavar='DIR', help='folder of CAMs')
    arguments.add_data_arguments(parser)
    add_class_arguments(parser)
    parser.add_argument('--save_dir', type=pathlib.Path, required=True, help='folder for the results')
    parser.add_argument('--list_out', type=pathlib.Path, metavar='FILE',
                        help='write the list again with these labels as its label column')
    parser.add_argument('--boxes', type=pathlib.Path, metavar='PATH',
                        help="JSON of COCO with `bbox`, or a folder of VOC's XML, LabelMe's JSON or YOLO's text: its "
                             'images get box labels')
    parser.add_argument('--boxes_incomplete', action='store_true',
                        help='there may be objects outside all boxes of an image, as a file by prepare_custom.py says '
                             'by itself: background is what the CAMs call so, the rest is unlabelled; else all '
                             'outside is background')
    parser.add_argument('--alpha', type=arguments.positive, default=BACKGROUND_POWER, metavar='N',
                        help="power of background's score in tag labels")
    parser.add_argument('--threshold', type=arguments.share, default=TAG_THRESHOLD, metavar='N',
                        help='largest score below which a pixel of a tag label is unlabelled')
    parser.add_argument('--normalise', action='store_true',
                        help='divide the scores of a pixel of a tag label by their sum first')
    parser.add_argument('--box_threshold', type=arguments.share, default=BOX_THRESHOLD, metavar='N',
                        help='CAM, scaled to 0..1 within a box, from which on a pixel has the class of the box')
    parser.add_argument('--keep_labels', action='store_true',
                        help="pixels to which the list's own label map gives a class, or void, keep it")
    parser.add_argument('--gt_list', type=pathlib.Path, metavar='FILE',
                        help='list whose labels are the truth: print the mean IoU for several thresholds')
    arguments.add_overwrite_argument(parser)
    arguments.add_workers_argument(parser)
    args = parser.parse_args()
    classes = resolve_classes(args)
    list_of_classes = ClassList(pathlib.Path('--class_names'), tuple(classes.names), None, {})
    boxes = {} if args.boxes is None else {labelme.stem(name): found for name, found in find_boxes(
        args.boxes, list_of_classes, classes.background).items()}
    complete = not args.boxes_incomplete and (args.boxes is None or are_complete(args.boxes))
    rule = cam_list.Rule(classes.number, args.alpha, args.threshold, args.normalise, boxes, args.box_threshold,
                         list_of_classes, classes.background, complete, args.keep_labels)
    cam_list.label_list(args.cam_dir, args.data_dir, args.data_list, args.save_dir, rule, args.list_out,
                        args.num_workers, args.overwrite)
    if args.gt_list is not None:
        print(cam_list.describe_sweep(cam_list.sweep(args.cam_dir, args.data_dir, args.gt_list, classes.number,
                                                     classes.background)))


if __name__ == '__main__':
    execute(main)
