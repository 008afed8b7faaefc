r"""Fetch the authors' released weights from the Hugging Face hub, unpack them and check that they fit.

python pyscripts/data/fetch_weights.py                          # all
python pyscripts/data/fetch_weights.py --files voc12_scribble

The ImageNet weights go to snapshots/imagenet/trained/, where the pipelines look for them, the others to
snapshots/released/<name>/; name them to inference.py by --checkpoint, or to a bash script by CHECKPOINT=. Without a
network, put the file where the error says. Run again, it continues where it stopped.
"""
import pathlib

from spml.cli import arguments
from spml.prepare import released_weights
from spml.prepare.released_weights import ARCHIVES, IMAGENET
from spml.program import execute


def main():
    """Parse and fetch."""
    parser = arguments.script_parser(__doc__)
    names = [IMAGENET, *ARCHIVES]
    parser.add_argument('--files', nargs='+', choices=names, default=names, metavar='NAME',
                        help=f'of {", ".join(names)} (default: all)')
    parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('snapshots'), metavar='DIR',
                        help='folder for snapshots')
    arguments.add_workers_argument(parser, 'that unpack and check; 0 does so in this one')
    args = parser.parse_args()
    released_weights.fetch(list(dict.fromkeys(args.files)), args.out, args.num_workers)


if __name__ == '__main__':
    execute(main)
