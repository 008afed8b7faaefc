r"""Split images into regions that follow contours: the over-segmentation that training needs besides the weak labels.

python pyscripts/data/oversegment.py --data_dir DATAROOT --data_list DATAROOT/lists/train_full.txt \
    --save_dir DATAROOT/VOC2012/hed --contours HED_MAPS --truth_dir DATAROOT/VOC2012/segcls

Contour maps of a detector (HED, PMI, ...) are read from --contours; without them superpixels of like colour and texture
are merged. Each image gets a PNG of region ids 0..254 in --save_dir. Run again, it continues where it stopped.
"""
import pathlib

from spml.cli import arguments
from spml.prepare import oversegmentation
from spml.program import execute


def main():
    """Parse, over-segment, report."""
    parser = arguments.script_parser(__doc__)
    arguments.add_data_arguments(parser)
    parser.add_argument('--save_dir', type=pathlib.Path, required=True, metavar='DIR', help='folder for the regions')
    oversegmentation.add_arguments(parser)
    parser.add_argument('--report', action='store_true', help='print how many regions the images have')
    parser.add_argument('--truth_dir', type=pathlib.Path, metavar='DIR',
                        help='labels NAME.png: report the boundary recall too, the share of their boundaries found')
    arguments.add_overwrite_argument(parser)
    arguments.add_workers_argument(parser)
    args = parser.parse_args()
    entries = oversegmentation.oversegment_list(args.data_dir, args.data_list, args.save_dir, args.contours,
                                                args.threshold, args.max_regions, args.num_workers,
                                                args.overwrite)
    if args.report or args.truth_dir:
        oversegmentation.print_figures(entries, args.save_dir, args.truth_dir, args.num_workers)


if __name__ == '__main__':
    execute(main)
