"""Print a pipeline's scores from the JSON files of the benchmarks: a table of mean IoUs, and the last one by class.

python pyscripts/results/summary.py --run_dir snapshots/demo/spml_scribble --score "score_final=final score"

With --score, the table is also written to summary.json, from where the report takes order and titles.
"""
import argparse
import pathlib

from spml.cli import arguments
from spml.errors import DataError
from spml.evaluation.scores import read_score
from spml.program import execute
from spml.utils.formats import write_json


def format_rows(header, rows):
    """Return lines of text for `rows` of (title, fraction), shown as per cent under `header`."""
    width = max(len(title) for title, _ in [(header, 0), *rows])
    lines = [f'{title:{width}s}  {100 * value:6.2f}' for title, value in rows]
    return '\n'.join([f'{header:{width}s}       %', *lines])


def named_score(text):
    """Parse `NAME=TITLE` into the pair."""
    name, equals, title = text.partition('=')
    if not (name and equals and title):
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form NAME=TITLE')
    return name, title


def main():
    """Read the scores in the order asked for (default: all, by name) and print them."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--run_dir', type=pathlib.Path, required=True, help='folder that holds scores/NAME.json')
    parser.add_argument('--score', type=named_score, action='append', metavar='NAME=TITLE', dest='names',
                        help='a score to show and its title; may be repeated (default: every file)')
    args = parser.parse_args()
    folder = args.run_dir / 'scores'
    names = args.names or [(path.stem, path.stem) for path in sorted(folder.glob('*.json'))]
    if not names:
        raise DataError(f'{folder}: no scores there; run the pipeline first')
    scores = [(title, read_score(folder / f'{name}.json')) for name, title in names]
    title, last = scores[-1]
    if last.get('iou'):
        print(format_rows(f'IoU: {title}', list(last['iou'].items())), end='\n\n')
    print(format_rows('mean IoU', [(title, score['mean_iou']) for title, score in scores]))
    if args.names:
        write_json(args.run_dir / 'summary.json', [
            {'name': name, 'title': title, 'mean_iou': score['mean_iou']}
            for (name, _), (title, score) in zip(names, scores, strict=True)])


if __name__ == '__main__':
    execute(main)
