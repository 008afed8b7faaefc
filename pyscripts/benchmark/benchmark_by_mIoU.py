r"""Score predicted label maps by class IoU over the whole data set.

python pyscripts/benchmark/benchmark_by_mIoU.py --pred_dir out/semantic_gray --gt_dir data/VOC2012/segcls \
    --num_classes 21
"""
import numpy as np

from spml.cli.arguments import resolve_classes
from spml.evaluation.miou import confusion, iou_from_confusion, pixel_accuracy, unions
from spml.evaluation.scores import build_parser, find_pairs, format_table, map_images, read_same_size, score_summary
from spml.program import execute
from spml.utils.formats import write_json


def main(argv=None):
    """Parse the options, score, print the table and write the JSON."""
    args = build_parser(__doc__).parse_args(argv)
    classes = resolve_classes(args)
    rows = find_pairs(args.pred_dir, args.gt_dir, None, args.string_replace, args.gt_list)
    matrix = sum(map_images(lambda row: confusion(*read_same_size(row), classes.number), rows, args.num_workers))
    summary = score_summary(iou_from_confusion(matrix), classes.names, len(rows),
                            absent=np.flatnonzero(unions(matrix) == 0), pixel_accuracy=pixel_accuracy(matrix),
                            confusion=matrix.tolist())
    print(format_table(summary))
    if args.json:
        write_json(args.json, summary)


if __name__ == '__main__':
    execute(main)
