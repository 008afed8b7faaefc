"""Time and peak memory of every hot stage against the formulas written down directly, on the same inputs.

python pyscripts/benchmark/speed --stage relations kmeans --device cpu --json speed.json

Prints a table of the stages with their bars, one of how the cost grows as sizes double, and one of what
`train.precision` changes. The exit status is 1 when a bar is missed or two results differ.
"""
import pathlib
import sys

from spml.cli import arguments
from spml.program import execute
from spml.utils.formats import write_json

STAGES = ('relations', 'image_similarity', 'kmeans', 'retrieval', 'random_walk', 'crf', 'pipeline', 'step', 'loader',
          'growth', 'precision')


def main():
    """Measure the stages asked for, print the tables and return the exit status."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--stage', nargs='+', choices=STAGES, default=STAGES, metavar='NAME',
                        help=f'what to measure (default: all): {", ".join(STAGES)}')
    parser.add_argument('--device', default=None, help='cuda, cpu ... (default: cuda when there is one, else cpu)')
    parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='write all figures to this file, too')
    args = parser.parse_args()
    # Not at the top: the workers that run CRF import this script again, and they do without torch.
    import suite

    from spml.utils.device import pick_device

    result = suite.run(pick_device(args.device), args.stage)
    if args.json:
        write_json(args.json, result)
    missed = [row['title'] for row in result['stages'] if row['met'] is False]
    for title in missed:
        print(f'missed: {title}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    execute(main)
