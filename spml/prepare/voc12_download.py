"""Fetching VOC 2012 and SBD with torchvision, which knows their addresses and checksums."""
import errno
import pathlib
import tarfile

from spml.errors import DataError, first_line

_BEGUN = '.unpacking'  # there while an archive is fetched and unpacked, so that half of one is not taken for all


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
