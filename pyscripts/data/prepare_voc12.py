"""Bring VOC 2012 and SBD, as their owners publish them, into the layout that the pipelines train on.

python pyscripts/data/prepare_voc12.py --voc VOCdevkit/VOC2012 --sbd benchmark_RELEASE/dataset --out DATAROOT

Truth (palette, RGB or .mat) becomes PNGs of class ids, instances PNGs of ids; images are linked, or copied to another
file system; the lists of every split and kind of label are written. Run again, it continues where it stopped. The other
labels come from prepare_scribble.py, prepare_cam.py and oversegment.py.
"""
import pathlib

from spml.cli import arguments
from spml.prepare import voc12
from spml.program import execute


def main():
    """Parse, fetch, convert."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--voc', type=pathlib.Path, required=True, metavar='DIR', help='VOCdevkit/VOC2012')
    parser.add_argument('--sbd', type=pathlib.Path, required=True, metavar='DIR', help='benchmark_RELEASE/dataset')
    parser.add_argument('--voc_test', type=pathlib.Path, metavar='DIR',
                        help='VOCdevkit/VOC2012 of the test archive (default: --voc, if it holds the test split)')
    parser.add_argument('--download', action='store_true',
                        help='first fetch what is missing of --voc and --sbd with torchvision (about 3.4 GB)')
    arguments.add_preparation_arguments(parser)
    args = parser.parse_args()
    if args.download:
        voc12.download(args.voc, args.sbd)
    voc12.prepare(args.voc, args.sbd, args.out, args.num_workers, args.voc_test, args.overwrite)


if __name__ == '__main__':
    execute(main)
