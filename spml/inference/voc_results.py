"""Packing predictions for the evaluation server of PASCAL VOC: palette PNGs in its folders, one archive."""
import gzip
import io
import pathlib
import tarfile

from PIL import Image
from tqdm import tqdm

from spml.data.lists import located, read_list
from spml.data.readers import check_same_size, read_entry, read_label
from spml.errors import DataError
from spml.utils.files import atomic_path
from spml.utils.formats import encoded
from spml.visualization.palette import voc_colour_map

VOC_CLASSES = 21


def pack_results(data_list, data_dir, pred_dir, num_classes, competition, out):
    """Write the archive of a list's predictions, each image once, as `results/VOC2012/Segmentation/...`.

    The same predictions give the same bytes, whatever their files' dates and the list's order. An archive appears only
    when everything in it was checked; until then an older one stays.

    `pred_dir` is the folder of `<image name>.png`, 8-bit class ids; `num_classes` C of the network, where the server
    knows 21; `competition` `comp5` or `comp6`. DataError: an image has no prediction, or one is unreadable, not of its
    image's size, or holds other values than class ids.
    """
    out, pred_dir = pathlib.Path(out), pathlib.Path(pred_dir)
    entries = sorted(read_list(data_list, data_dir), key=lambda entry: entry.name)
    missing = [entry for entry in entries if not (pred_dir / f'{entry.name}.png').is_file()]
    if missing:
        first = min(missing, key=lambda entry: entry.line)
        raise DataError(f'{first.place}: no prediction {pred_dir / first.name}.png; {len(missing)} of {len(entries)} '
                        'images have none; predict the whole list first, without --pack_only')
    folder = f'results/VOC2012/Segmentation/{competition}_test_cls'
    with (atomic_path(out) as temporary, open(temporary, 'wb') as raw,
          # No name and no time in the header: the archive's bytes depend on the predictions alone.
          gzip.GzipFile(filename='', mode='wb', fileobj=raw, mtime=0) as zipped,
          tarfile.open(fileobj=zipped, mode='w') as archive):
        for entry in tqdm(entries, desc='pack', unit='image', dynamic_ncols=True):
            content = _palette_png(_read_prediction(entry, pred_dir, min(num_classes, VOC_CLASSES)))
            member = tarfile.TarInfo(f'{folder}/{entry.name}.png')
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    print(f'{len(entries)} label maps for {competition}: {out}')


def _read_prediction(entry, pred_dir, num_classes):
    """Return the (H, W) uint8 prediction of an entry's image; raise DataError unless it is one the server takes."""
    path = pred_dir / f'{entry.name}.png'
    image, _, _ = read_entry(entry, with_semantic=False, with_regions=False)
    with located(entry):
        label = read_label(path)
        check_same_size(entry, image, label, path)
        if label.max() >= num_classes:
            raise DataError(f'{path}: holds the value {label.max()}, but only class ids 0..{num_classes - 1} may be '
                            'sent; pack predictions of inference.py, with the configuration they were made with')
    return label


def _palette_png(label):
    """Return a PNG, as bytes, of (H, W) uint8 class ids with VOC's colour map as its palette of 256 colours."""
    image = Image.frombytes('P', label.shape[::-1], label.tobytes())
    image.putpalette(voc_colour_map().tobytes())
    return encoded(image)
