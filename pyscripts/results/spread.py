r"""Print the scores of pipeline runs that differ in their seed as a Markdown table of mean and standard deviation.

python pyscripts/results/spread.py --runs_dir snapshots/demo_quality --seeds 0 1 2 \
        --row 'scribbles=spml_scribble_{seed}' --column 'single scale=score_single' --column 'final=score_final'

A cell whose scores no run of the row has is left empty; a score that only some have is an error.
"""
import argparse
import pathlib

from spml.cli import arguments
from spml.errors import DataError
from spml.evaluation.scores import read_score
from spml.evaluation.tables import mean_and_spread, plus_minus, to_markdown
from spml.program import execute
from spml.utils.formats import write_json


def titled(text):
    """Parse `TITLE=VALUE` into the pair; the title may hold further equals signs."""
    title, equals, value = text.rpartition('=')
    if not (title and equals and value):
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form TITLE=VALUE')
    return title, value


def read_cell(runs_dir, pattern, score, seeds):
    """Return the scores, fractions, of one row and column, one a seed."""
    paths = [runs_dir / pattern.replace('{seed}', str(seed)) / 'scores' / f'{score}.json' for seed in seeds]
    missing = [path for path in paths if not path.is_file()]
    if missing and len(missing) < len(paths):
        raise DataError(f'{missing[0]}: missing, though other seeds have theirs; finish that run')
    return [] if missing else [read_score(path)['mean_iou'] for path in paths]


def main():
    """Read the scores, print the table, and write every single score as JSON if asked."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--runs_dir', type=pathlib.Path, required=True, metavar='DIR', help='folder of the runs')
    parser.add_argument('--seeds', type=int, nargs='+', required=True, metavar='SEED', help='of the runs')
    parser.add_argument('--row', type=titled, action='append', required=True, metavar='TITLE=RUN', dest='rows',
                        help='a run folder, {seed} standing for the seed')
    parser.add_argument('--column', type=titled, action='append', required=True, metavar='TITLE=SCORE', dest='columns',
                        help='a score, the base name of scores/SCORE.json')
    parser.add_argument('--json', type=pathlib.Path, default=None, metavar='FILE', help='also write each score here')
    args = parser.parse_args()
    values = {title: {column: read_cell(args.runs_dir, pattern, score, args.seeds) for column, score in args.columns}
              for title, pattern in args.rows}
    if not any(cell for row in values.values() for cell in row.values()):
        raise DataError(f'{args.runs_dir}: no scores of any of these rows; check --runs_dir and --row')
    rows = [[title, *(plus_minus(*mean_and_spread([100 * value for value in cell]), digits=1) for cell in row.values())]
            for title, row in values.items()]
    print(to_markdown(['mean IoU in %', *(column for column, _ in args.columns)], rows), end='')
    if args.json:
        write_json(args.json, values)


if __name__ == '__main__':
    execute(main)
