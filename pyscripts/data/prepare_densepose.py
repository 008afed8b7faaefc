"""Bring COCO 2014 and DensePose-COCO, as their owners publish them, into the layout that the pipeline trains on.

python pyscripts/data/prepare_densepose.py --coco COCO --densepose DENSEPOSE_COCO --out DATAROOT

Part maps of 15 classes (background and 14 parts) in segcls/densepose/gray, with people whom DensePose did not annotate
void; point labels in segcls/densepose_points/gray: some of the annotated points, chosen at random, and some of
background; images, linked or copied; lists of the training images with points, of some of them with full truth for
prototypes, and of minival2014. The over-segmentation, seginst/pmi_0.1_256, comes from oversegment.py. Run again, it
continues where it stopped. The JSON of COCO's instances takes several times its size in memory while it is read.
"""
import pathlib

from spml.cli import arguments
from spml.prepare import densepose
from spml.prepare.densepose import PointOptions
from spml.program import execute


def main():
    """Parse and convert."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--coco', type=pathlib.Path, required=True, metavar='DIR',
                        help='folder with train2014/, val2014/ and annotations/instances_{train,val}2014.json')
    parser.add_argument('--densepose', type=pathlib.Path, metavar='DIR',
                        help='folder with densepose_coco_2014_{train,minival}.json (default: annotations/ of --coco)')
    parser.add_argument('--train_splits', nargs='+', choices=('train', 'valminusminival'), default=['train'],
                        help='splits to train on, both together if both are given (default: train)')
    parser.add_argument('--prototype_images', type=arguments.count, default=2000, metavar='N',
                        help='training images in the list with full truth, for prototypes')
    parser.add_argument('--points', type=arguments.count, default=PointOptions().per_part, metavar='N',
                        help='points on each part of each person')
    parser.add_argument('--background_points', type=arguments.count, default=PointOptions().background, metavar='N',
                        help='points on background in an image')
    parser.add_argument('--radius', type=arguments.positive, default=PointOptions().radius, metavar='N',
                        help='radius of a point in pixels, cut to its part')
    parser.add_argument('--seed', type=arguments.count, default=0, metavar='N',
                        help='another seed chooses other points')
    arguments.add_preparation_arguments(parser)
    args = parser.parse_args()
    points = PointOptions(args.points, args.background_points, args.radius, args.seed)
    densepose.prepare(args.coco, args.densepose or args.coco / 'annotations', args.out,
                      list(dict.fromkeys(args.train_splits)), args.prototype_images, points, args.num_workers,
                      args.overwrite)


if __name__ == '__main__':
    execute(main)
