"""Write one HTML page on a run, or on several side by side: scores, confusions, images, curves, prototypes, costs.

python pyscripts/results/report.py snapshots/demo/spml_scribble

The page is one file, which opens in a browser without a network. What a run does not have is left out. Of several
runs, the first one's images are shown, chosen by its scores.
"""
import argparse
import pathlib

from spml.cli import arguments
from spml.errors import CheckpointError, SpmlError
from spml.program import execute


def main():
    """Parse the options, write the page, say where."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('runs', type=pathlib.Path, nargs='+', metavar='RUN_DIR', help='folder of a run')
    parser.add_argument('--out', type=pathlib.Path, metavar='FILE.html',
                        help='the page (default: report.html in the first run)')
    parser.add_argument('--data_dir', type=pathlib.Path,
                        help='folder that the paths in the lists start from (default: the one the run was made with)')
    parser.add_argument('--num_images', type=arguments.count, default=3, metavar='N',
                        help='how many of the best, of the worst and of the other images to show')
    parser.add_argument('--predict', action=argparse.BooleanOptionalAction, default=True,
                        help='predict the training images shown with the weights of each run')
    parser.add_argument('--device', help='cuda, cuda:1, cpu ... (default: cuda when there is one, else cpu)')
    args = parser.parse_args()
    try:
        from spml.report.page import write_page
    except ImportError as error:
        raise SpmlError(f"the report needs {error.name}: pip install -e '.[report]'") from None
    from spml.api import load_segmenter
    from spml.report.run_folder import read_runs

    runs = read_runs(args.runs)
    out = args.out or args.runs[0] / 'report.html'
    segmenters = {}
    for run in runs if args.predict and args.num_images else ():
        if run.pseudo_labels is not None:
            try:
                segmenters[run.name] = load_segmenter(run.path, args.device)
            except CheckpointError as error:
                print(f'note: no predictions of training images: {error}')
    write_page(runs, out, args.data_dir, args.num_images, segmenters)
    print(f'report: {out}')


if __name__ == '__main__':
    execute(main)
