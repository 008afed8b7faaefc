"""Look at what a run has learned: lay its segmentation over images, or write it as labels to correct by hand.

python pyscripts/inference/segment.py snapshots/demo/data/VOC2012-test/JPEGImages --run snapshots/demo/spml_scribble

python pyscripts/inference/segment.py photos --run snapshots/mine/spml --format labelme --save_dir mine/corrected

An overlay shows the image with its classes in colour, and a legend with their shares below. Labels, of any other
format, come with the photos and the class list, for an annotation tool and for prepare_custom.py to take. The softmax
head labels; use inference.py for lists of images, or retrieval.
"""
import glob
import logging
import pathlib

from tqdm import tqdm

from spml.api import load_segmenter
from spml.cli import arguments
from spml.data.decoding import UPRIGHT
from spml.data.readers import read_image, stored_orientation
from spml.errors import ConfigError, DataError
from spml.prepare.custom_sources import image_name
from spml.prepare.export import COCO, FORMATS, LABELME, Export, existing, may_be_placed, photo_place
from spml.program import check_name, execute
from spml.utils.formats import write_png
from spml.visualization.pictures import class_shares, overlay

logger = logging.getLogger(__name__)

ENDINGS = ('.jpg', '.jpeg', '.png')
OVERLAY = 'overlay'


def main():
    """Parse the options, write what is asked for of each image, say where."""
    parser = arguments.build_parser(__doc__, cfg_default='the one the checkpoint carries')
    parser.add_argument('images', type=pathlib.Path, nargs='+', metavar='IMAGE_OR_FOLDER',
                        help='JPEGs and PNGs, or folders of them')
    parser.add_argument('--run', type=pathlib.Path, required=True, metavar='RUN',
                        help="folder of a pipeline's run or of a training, or a model-*.pth")
    parser.add_argument('--format', nargs='+', choices=(OVERLAY, *FORMATS), default=(OVERLAY,),
                        help='what to write: pictures; label maps, PNGs of class ids; polygons for LabelMe or in a '
                             'JSON of COCO; or run lengths of COCO')
    parser.add_argument('--save_dir', type=pathlib.Path,
                        help='folder to write (default: overlays/ in the folder of the run, labels/ for labels)')
    parser.add_argument('--opacity', type=arguments.share, default=0.5, metavar='A', help='of the colours, 0 < A <= 1')
    parser.add_argument('--tolerance', type=arguments.tolerance, default=0, metavar='PIXELS',
                        help='how far polygons may be from the outlines, to have fewer points; 0: they give the very '
                             'pixels')
    parser.add_argument('--multi_scale', action='store_true', help='scales 0.5 to 1.5 and their mirrors')
    parser.add_argument('--crf', action='store_true', help='sharpen the result with DenseCRF')
    parser.add_argument('--overwrite', action='store_true', help='write over labels, which may have been corrected')
    args = parser.parse_args()
    names = result_names(find_images(args.images))
    formats = tuple(form for form in FORMATS if form in args.format)
    if args.tolerance and not {COCO, LABELME} & set(formats):
        raise ConfigError(f'--tolerance is of polygons; give --format {COCO} or {LABELME}, or leave it out')
    save_dir = args.save_dir or ((args.run if args.run.is_dir() else args.run.parent)
                                 / ('labels' if formats else 'overlays'))
    if OVERLAY in args.format:
        check_overlays(names, save_dir, args.overwrite)
    if formats:
        check_photos(names, save_dir, formats, args.overwrite)
    there = existing(save_dir, formats, names.values())
    if there and not args.overwrite:
        raise DataError(f'{there[0]}: is there already, and may have been corrected by hand; give another --save_dir, '
                        f'or --overwrite to write over {len(there)} of them')
    segmenter = load_segmenter(args.run, args.device, args.cfg_path, args.overrides)
    dataset = segmenter.config.dataset
    export = formats and Export(save_dir, formats, segmenter.class_names, dataset.get('color_map'), dataset.background,
                                args.tolerance)
    for path in tqdm(names, desc='read', unit='image', dynamic_ncols=True, disable=len(names) == 1):
        read_image(path)  # before hours of work, not in the midst of them
    for path, name in tqdm(names.items(), desc='segment', unit='image', dynamic_ncols=True, disable=len(names) == 1):
        image = read_image(path)
        label = segmenter.predict(image, multi_scale=args.multi_scale, crf=args.crf).labels
        if OVERLAY in args.format:
            write_png(save_dir / f'{name}.png', overlay(image, label, segmenter.class_names, args.opacity,
                                                        dataset.get('color_map'), dataset.background))
        if export:
            export.add(name, path, label)
    if len(names) == 1:
        where = save_dir / f'{name}.png' if OVERLAY in args.format else save_dir
        shares = [f'{segmenter.class_names[index]} {100 * share:.1f} %' for index, share in class_shares(label)]
        print(f'{where}: {", ".join(shares)}')
    else:
        print(f'{len(names)} {"overlays" if OVERLAY in args.format else "photos with labels"}: {save_dir}')
    if export:
        export.close()
        print('Corrected, they are labels to train on:')
        for words in export.way_back():
            print(f'  python pyscripts/data/prepare_custom.py {words} --out DATA --cfg_dir configs/NAME')


def find_images(paths):
    """Return the images of `paths`, each an image or a folder of them, which is sorted; each image once."""
    images = {}
    for path in paths:
        found = [path]
        if path.is_dir():
            files = sorted(item for item in path.glob('[!.]*') if item.is_file())
            found = [check_name(item) for item in files if item.suffix.lower() in ENDINGS]
            unused = [item for item in files if item.suffix.lower() not in ENDINGS]
            if found and unused:
                logger.warning('%s: %d files do not end in %s and are left out, for example %s', path, len(unused),
                               ', '.join(ENDINGS), unused[0].name)
            if not found:
                raise DataError(f'{path}: holds no {", ".join(ENDINGS)}; name an image, or a folder of them')
        for item in found:
            images.setdefault(item.resolve(), item)
    return list(images.values())


def check_overlays(names, save_dir, overwrite):
    """Raise DataError where an overlay would replace a photo or, unless `overwrite`, a file that lies beside photos.

    `names` is a dict from the path of each photo to the name of its results.
    """
    photos, folders = {path.resolve() for path in names}, {path.parent.resolve() for path in names}
    for name in names.values():
        place = save_dir / f'{name}.png'
        if place.resolve() in photos or (save_dir.resolve() in folders and place.exists() and not overwrite):
            raise DataError(f'{place}: is there already, beside the photos, and an overlay would be written over it; '
                            'give another --save_dir')


def check_photos(names, save_dir, formats, overwrite):
    """Raise DataError where the copy of a photo that labels go with would replace a photo, or one that others are of.

    Arguments as above; `formats` are those of the labels.
    """
    for path, name in names.items():
        place = photo_place(save_dir, name, path)
        if path.suffix.lower() not in ENDINGS:
            raise DataError(f'{path}: prepare_custom.py takes {", ".join(ENDINGS)}; give it one of these endings')
        if place.parent.resolve() == path.parent.resolve() and (
                place.name != path.name or stored_orientation(path) != UPRIGHT):
            raise DataError(f'{path}: its copy {place.name}, upright, would be written beside it or over it; give '
                            'another --save_dir')
        others = [other for other in place.parent.glob(f'{glob.escape(name)}.*')
                  if other.stem == name and other.name != place.name]
        is_alone = overwrite and not existing(save_dir, set(FORMATS) - set(formats), [name])
        if others or not (is_alone or may_be_placed(path, place)):
            raise DataError(f'{(others or [place])[0]}: is another photo than {path}, and what labels there are in '
                            f'{save_dir} may be of it; give another --save_dir')


def result_names(paths):
    """Return a dict from the path of each image to the name of its results.

    That is its base name; of several with one base name (as prepare_custom.py sees it) with the ending, and with as
    many folders above it as tell them apart.
    """
    names, depths = {path: path.stem for path in paths}, dict.fromkeys(paths, 0)
    while twins := _twins(names):
        for path in twins:
            parts, depths[path] = path.resolve().parts[1:], depths[path] + 1
            if depths[path] > len(parts):
                raise DataError(f'{path}: its results would have the name of those of another image; rename it')
            names[path] = '_'.join([*parts[-depths[path]:-1], path.stem, path.suffix[1:]])
    return names


def _twins(names):
    """Return the keys whose values prepare_custom.py would take for one name."""
    groups = {}
    for path, name in names.items():
        groups.setdefault(image_name(f'{name}.png'), []).append(path)
    return [path for group in groups.values() if len(group) > 1 for path in group]


if __name__ == '__main__':
    execute(main)
