r"""Score predicted label maps by each image's IoU, weighted by the image's number of instances of the class.

python pyscripts/benchmark/benchmark_by_instance.py --pred_dir out/semantic_gray --gt_dir data/VOC2012/segcls \
    --inst_dir data/VOC2012/seginst --num_classes 21
"""
import pathlib

import numpy as np

from spml.cli.arguments import resolve_classes
from spml.evaluation.miou import confusion, instances_per_class, iou_by_instance, iou_from_confusion, unions
from spml.evaluation.scores import build_parser, find_pairs, format_table, map_images, read_same_size, score_summary
from spml.program import execute
from spml.utils.formats import write_json


def main(argv=None):
    """Parse the options, score, print the table and write the JSON."""
    parser = build_parser(__doc__)
    parser.add_argument('--inst_dir', type=pathlib.Path, required=True, metavar='DIR',
                        help='instance ids: PNGs of the same names')
    args = parser.parse_args(argv)
    classes = resolve_classes(args)
    rows = find_pairs(args.pred_dir, args.gt_dir, args.inst_dir, args.string_replace, args.gt_list)

    def score(row):
        pred, truth, instance = read_same_size(row)
        matrix = confusion(pred, truth, classes.number)
        counts = instances_per_class(instance, truth, classes.number, classes.background)
        return iou_from_confusion(matrix), counts, unions(matrix)

    image_iou, counts, union = (np.stack(part) for part in zip(*map_images(score, rows, args.num_workers), strict=True))
    totals = counts.sum(axis=0)
    summary = score_summary(iou_by_instance(image_iou, counts), classes.names, len(rows),
                            absent=np.flatnonzero((union.sum(axis=0) == 0) & (totals == 0)),
                            num_instances=dict(zip(classes.names, totals.tolist(), strict=True)))
    print(format_table(summary))
    if args.json:
        write_json(args.json, summary)


if __name__ == '__main__':
    execute(main)
