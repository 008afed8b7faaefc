"""Look at what a run has learned: lay its segmentation over an image, or over every image of a folder.

python pyscripts/inference/segment.py snapshots/demo/data/VOC2012-test/JPEGImages --run snapshots/demo/spml_scribble

Each picture shows the image with its classes in colour, and a legend with their shares below. The softmax head labels;
use inference.py for label maps, lists of images, or retrieval.
"""
import pathlib

from tqdm import tqdm

from spml.api import load_segmenter
from spml.cli import arguments
from spml.data.readers import read_image
from spml.errors import DataError
from spml.program import check_name, execute
from spml.utils.formats import write_png
from spml.visualization.overlay import class_shares, overlay

ENDINGS = ('.jpg', '.jpeg', '.png')


def main():
    """Parse the options, write a picture for each image, say where."""
    parser = arguments.build_parser(__doc__, cfg_default='the one the checkpoint carries')
    parser.add_argument('image', type=pathlib.Path, metavar='IMAGE_OR_FOLDER', help='a JPEG or PNG, or a folder')
    parser.add_argument('--run', type=pathlib.Path, required=True, metavar='RUN',
                        help="folder of a pipeline's run or of a training, or a model-*.pth")
    parser.add_argument('--save_dir', type=pathlib.Path,
                        help='folder for the pictures (default: overlays/ in the folder of the run)')
    parser.add_argument('--opacity', type=arguments.share, default=0.5, metavar='A', help='of the colours, 0 < A <= 1')
    parser.add_argument('--multi_scale', action='store_true', help='scales 0.5 to 1.5 and their mirrors')
    parser.add_argument('--crf', action='store_true', help='sharpen the result with DenseCRF')
    args = parser.parse_args()
    paths = find_images(args.image)
    save_dir = args.save_dir or (args.run if args.run.is_dir() else args.run.parent) / 'overlays'
    segmenter = load_segmenter(args.run, args.device, args.cfg_path, args.overrides)
    color_map = segmenter.config.dataset.get('color_map')
    for path in tqdm(paths, desc='segment', unit='image', dynamic_ncols=True, disable=len(paths) == 1):
        image = read_image(path)
        label = segmenter.predict(image, multi_scale=args.multi_scale, crf=args.crf).labels
        picture = overlay(image, label, segmenter.class_names, args.opacity, color_map,
                          segmenter.config.dataset.background)
        write_png(save_dir / f'{path.stem}.png', picture)
    if len(paths) == 1:
        shares = [f'{segmenter.class_names[index]} {100 * share:.1f} %' for index, share in class_shares(label)]
        print(f'{save_dir / f"{path.stem}.png"}: {", ".join(shares)}')
    else:
        print(f'{len(paths)} overlays: {save_dir}')


def find_images(path):
    """Return the image `path`, or those of the folder `path`, sorted."""
    if not path.is_dir():
        return [path]
    found = sorted(check_name(item) for item in path.glob('[!.]*') if item.suffix.lower() in ENDINGS and item.is_file())
    if not found:
        raise DataError(f'{path}: holds no {", ".join(ENDINGS)}; name an image, or a folder of them')
    names = {}
    for item in found:
        other = names.setdefault(item.stem, item)
        if other is not item:
            raise DataError(f'{item}: has the name of {other}, so one picture would overwrite the other; rename it')
    return found


if __name__ == '__main__':
    execute(main)
