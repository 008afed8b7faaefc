"""VOC 2012 and SBD as their owners publish them, to the VOC layout: images, class ids, instances and lists.

VOC's truth wins where both data sets annotate an image. `train+` is (VOC train + SBD train + SBD val) minus VOC val.
"""
import errno
import functools
import logging
import pathlib
import tarfile

import numpy as np
from scipy.io import loadmat

from spml.data import voc_layout as layout
from spml.data.readers import check_size, image_size, read_colour_label
from spml.errors import DataError, first_line
from spml.names import VOID
from spml.prepare.runner import make, results, summary
from spml.recipe import FileDigests
from spml.utils.files import place_file
from spml.utils.formats import read_lines, write_png

logger = logging.getLogger(__name__)

NUM_CLASSES = 21
SPLIT_SIZES = {'train': 10582, 'val': 1449, 'test': 1456}
SBD_TRUTH = 'sbd/dataset/clsimg'
_SPLITS = 'ImageSets/Segmentation'
_BEGUN = '.unpacking'  # there while an archive is fetched and unpacked, so that half of one is not taken for all


def prepare(voc, sbd, out, num_workers, voc_test=None, overwrite=False):
    """Write images, truth, instances and the lists of every split and kind of label under the data root `out`.

    `voc` and `voc_test` are VOCdevkit/VOC2012 of the training and validation and of the test data, None where `voc` may
    have both; `sbd` is benchmark_RELEASE/dataset of SBD. DataError: a split file, an image or an annotation is missing,
    damaged, or does not fit the others.
    """
    voc, sbd, out = pathlib.Path(voc), pathlib.Path(sbd), pathlib.Path(out)
    splits = read_splits(voc, sbd)
    test_root = pathlib.Path(voc_test or voc)
    has_test = voc_test is not None or (test_root / _SPLITS / 'test.txt').is_file()
    splits['test'] = read_names(test_root / _SPLITS / 'test.txt') if has_test else []
    items = {name: (name, name in splits['sbd']) for name in sorted({*splits['train'], *splits['val']})}
    folder = results(out / 'VOC2012', {}, lambda name: [out / path for path in _outputs(*items[name])],
                     functools.partial(_inputs, voc, sbd), FileDigests())
    made = make(functools.partial(_convert, voc, sbd, out), items, [(folder, items)], num_workers, 'VOC and SBD',
                overwrite)
    for name in splits['test']:
        place_file(_existing(test_root / 'JPEGImages' / f'{name}.jpg'), out / layout.TEST_IMAGES / f'{name}.jpg')
    layout.write_lists(out, splits['train'], splits['val'], splits['test'])
    summary('images with their truth and instances', out / 'VOC2012', len(made), len(items))
    _report_splits(splits, out)


def read_splits(voc, sbd):
    """Return {'train': train+, 'val': VOC's val, 'sbd': all of SBD}, sorted lists of image names; 'sbd' is a set."""
    voc_splits = {split: set(read_names(voc / _SPLITS / f'{split}.txt')) for split in ('train', 'val')}
    of_sbd = {name for split in ('train', 'val') for name in read_names(sbd / f'{split}.txt')}
    return {'train': sorted((voc_splits['train'] | of_sbd) - voc_splits['val']), 'val': sorted(voc_splits['val']),
            'sbd': of_sbd}


def read_names(path):
    """Return the image names in a split file, one per line, in its order."""
    lines = read_lines(path, 'a split file, with --voc VOCdevkit/VOC2012 and --sbd benchmark_RELEASE/dataset')
    names = [line.strip() for line in lines if line.strip()]
    for name in names:
        if len(name.split()) > 1 or pathlib.PurePath(name).name != name:
            raise DataError(f'{path}: {name!r} is not an image name; a split file has one per line')
    return names


def read_voc_truth(path):
    """Return VOC's truth in `SegmentationClass`, palette or RGB, as (H, W) uint8 class ids with 255 as void."""
    label = read_colour_label(path)
    _check_classes(path, label[label != VOID])
    return label


def read_sbd_truth(path):
    """Return the (H, W) uint8 class ids in a file of SBD's `cls`; SBD has no void."""
    label = read_sbd(path, 'GTcls')
    _check_classes(path, label)
    return label


def read_sbd(path, variable):
    """Return the (H, W) uint8 segmentation in a `.mat` of SBD; DataError where it is missing, damaged or of other form.

    `variable` is `GTcls` (class ids, in the folder `cls`) or `GTinst` (instance ids, in `inst`).
    """
    try:
        with open(path, 'rb') as source:
            label = np.asarray(loadmat(source)[variable][0, 0]['Segmentation'])
    except FileNotFoundError:
        raise DataError(f'{path}: no such file; --sbd must be the folder benchmark_RELEASE/dataset') from None
    except Exception as error:  # scipy raises many kinds for a damaged file; all mean the same to the user
        raise DataError(f'{path}: not a .mat with {variable}.Segmentation ({first_line(error)}); fetch it '
                        'again') from None
    if label.ndim != 2 or label.dtype.kind not in 'iu' or label.size == 0 or not 0 <= label.min() <= label.max() < 255:
        raise DataError(f'{path}: {variable}.Segmentation is {label.dtype} {label.shape}, but must be whole numbers in '
                        '0..254 (H, W); fetch the file again')
    return label.astype(np.uint8)


def _check_classes(path, ids):
    if ids.size and ids.max() >= NUM_CLASSES:
        raise DataError(f'{path}: holds the class {ids.max()}, but VOC has 0..{NUM_CLASSES - 1}; use the original file')


def _outputs(name, in_sbd):
    paths = [f'{layout.IMAGES}/{name}.jpg', f'{layout.TRUTH}/{name}.png', f'{layout.INSTANCES}/{name}.png']
    return [*paths, f'{SBD_TRUTH}/{name}.png'] if in_sbd else paths


def _inputs(voc, sbd, name):
    return [*(root / folder / f'{name}.jpg' for root, folder in ((voc, 'JPEGImages'), (sbd, 'img'))),
            *(voc / folder / f'{name}.png' for folder in ('SegmentationClass', 'SegmentationObject')),
            *(sbd / folder / f'{name}.mat' for folder in ('cls', 'inst'))]


def _convert(voc, sbd, out, item):
    name, in_sbd = item
    image = voc / 'JPEGImages' / f'{name}.jpg'
    if not image.is_file():
        image = sbd / 'img' / f'{name}.jpg'
    size = image_size(_existing(image))
    truth, instances = (voc / folder / f'{name}.png' for folder in ('SegmentationClass', 'SegmentationObject'))
    labels = {}
    if in_sbd:
        source = sbd / 'cls' / f'{name}.mat'
        labels[SBD_TRUTH] = source, read_sbd_truth(source)
    if truth.is_file():
        labels[layout.TRUTH] = truth, read_voc_truth(truth)
        labels[layout.INSTANCES] = instances, read_colour_label(instances)
    elif in_sbd:
        source = sbd / 'inst' / f'{name}.mat'
        labels[layout.TRUTH] = labels[SBD_TRUTH]
        labels[layout.INSTANCES] = source, read_sbd(source, 'GTinst')
    else:
        raise DataError(f'{truth}: no such file, though the split files name it; --voc must be VOCdevkit/VOC2012')
    for source, label in labels.values():
        check_size(source, label.shape, f'its image {image}', size, 'fetch both again')
    for folder, (_, label) in labels.items():
        write_png(out / folder / f'{name}.png', label)
    place_file(image, out / layout.IMAGES / f'{name}.jpg')


def _existing(image):
    if not image.is_file():
        raise DataError(f'{image}: no such image, though the split files name it; fetch the data set again')
    return image


def _report_splits(splits, out):
    for split, title in (('train', 'train+'), ('val', 'val'), ('test', 'test')):
        found, due = len(splits[split]), SPLIT_SIZES[split]
        print(f'{title}: {found} images: {out / "lists" / split}{"_*" if split == "train" else ""}.txt')
        if split == 'test' and not found:
            print('  (the test images come in a separate archive from the VOC server: --voc_test)')
        elif found != due:
            logger.warning('WARNING: %s has %d images, not %d as in every published result: the split files of '
                           '--voc or --sbd are not the originals, or not complete', title, found, due)


def download(voc, sbd):
    """Fetch and unpack what is missing of VOCdevkit/VOC2012 (2 GB) and SBD's benchmark_RELEASE/dataset (1.4 GB).

    Both are folders that may not be there yet. DataError: the path of VOC does not end in VOCdevkit/VOC2012, as its
    archive has it, or an archive cannot be fetched.
    """
    from torchvision.datasets import SBDataset, VOCSegmentation
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    voc, sbd = pathlib.Path(voc).absolute(), pathlib.Path(sbd).absolute()
    if voc.parts[-2:] != ('VOCdevkit', 'VOC2012'):
        raise DataError(f'{voc}: the archive of VOC unpacks to VOCdevkit/VOC2012; let --voc end in that')
    source = DATASET_YEAR_DICT['2012']
    _fetch(voc / 'ImageSets' / 'Segmentation' / 'val.txt', voc.parents[1], source['filename'], source['url'],
           lambda root: VOCSegmentation(root, year='2012', image_set='trainval', download=True))
    _fetch(sbd / 'val.txt', sbd, SBDataset.filename, SBDataset.url,
           lambda root: SBDataset(root, image_set='train', mode='segmentation', download=True))


def _fetch(sign, root, filename, url, fetch):
    """Call `fetch(root)` unless the file `sign` shows that it was done before."""
    begun = root / f'{_BEGUN}.{filename}'
    if sign.is_file() and not begun.is_file():
        print(f'{sign.parent}: there already')
        return
    root.mkdir(parents=True, exist_ok=True)
    begun.touch()
    print(f'{url}: fetching and unpacking into {root}')
    try:
        fetch(root)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise DataError(f'{url}: cannot be fetched or unpacked ({first_line(error)}); fetch it by hand to '
                        f'{root / filename} and run the same command again') from None
    begun.unlink()
