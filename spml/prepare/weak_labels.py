"""Writing the weak labels of VOC's training images: for each image some label maps, each kind in its folder and list.

The images are those of a list that prepare_voc12.py or prepare_custom.py has written.
"""
import functools
import logging
import pathlib
from typing import NamedTuple

from spml.data import voc_layout as layout
from spml.data.lists import check_output, read_list
from spml.data.readers import image_size
from spml.errors import DataError
from spml.prepare import notes
from spml.prepare.runner import make, results, summary
from spml.recipe import FileDigests
from spml.utils.formats import write_png

logger = logging.getLogger(__name__)


class Labels(NamedTuple):
    """A kind of weak labels: its list is `lists/train_<kind>.txt`, its folder below the data root holds the maps.

    The folder's name says what the maps are made with, so that none mixes maps made in two ways.
    """

    kind: str
    folder: str


def write_labels(out, labels, sources, draw, num_workers, title, options=None, overwrite=False,
                 data_list=None):
    """Write the label maps of all training images that have a source, and the lists of these; return their entries.

    Args:
        out, num_workers, overwrite: data root, and as in `runner.make`.
        labels: list of `Labels`.
        sources: dict from image name to what `draw` makes the maps from: a path, a tuple of paths, or what JSON holds.
        draw: function of a module from (source, (H, W)) to the list of (H, W) uint8 maps, one for each of `labels`, and
            that of what is odd in the source, see `spml.prepare.notes`.
        title: what the annotations are, for bar and messages.
        options: dict of what changes the maps besides what the folders' names say.
        data_list: list of the images, if not that of `train_images`.

    DataError: there is no list of images yet, no image has a source, or what `draw` raises.
    """
    out = pathlib.Path(out)
    full = data_list or train_images(out)
    for one in labels:
        check_output(out / 'lists' / f'train_{one.kind}.txt', full)
    entries = read_list(full, out)
    items = {entry.name: (entry, sources[entry.name]) for entry in entries if entry.name in sources}
    if not items:
        raise DataError(f'none of the {len(entries)} images of {full} has {title}; check the path of the annotations: '
                        'they are called like the images')
    digests = FileDigests()

    def inputs(name):
        entry, source = items[name]
        return [image_size(entry.image), *(source if isinstance(source, tuple) else [source])]

    folders = [out / one.folder for one in labels]
    found = [(results(folder, options or {}, lambda name, folder=folder: [folder / f'{name}.png'], inputs, digests),
              items) for folder in folders]
    made = make(functools.partial(_write, folders, draw), items, found, num_workers, title, overwrite)
    notes.warn([note for found in made.values() for note in found])
    for one in labels:
        summary('label maps', out / one.folder, len(made), len(items))
        path = layout.write_lines(out, f'train_{one.kind}', [
            f'{entry.fields[0]} {one.folder}/{name}.png {layout.REGIONS}/{name}.png'
            for name, (entry, _) in items.items()])
        print(f'  list of {len(items)} images: {path}')
    if len(items) < len(entries):
        logger.warning('WARNING: %d of %d training images have no %s and are left out of these lists, for example %s',
                       len(entries) - len(items), len(entries), title,
                       next(entry.name for entry in entries if entry.name not in sources))
    return [entry for entry, _ in items.values()]


def train_images(out):
    """Return the list of all training images below a data root: `train_full.txt`, or own data's without masks."""
    paths = [pathlib.Path(out) / 'lists' / f'{name}.txt' for name in ('train_full', 'train')]
    if not any(path.is_file() for path in paths):
        raise DataError(f'{paths[0]}: no such list; run prepare_voc12.py or prepare_custom.py with the same '
                        '--out first')
    return next(path for path in paths if path.is_file())


def annotation_files(folder, ending):
    """Return the dict from name to path of the files of a folder with an ending."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder of annotations')
    return {path.stem: path for path in folder.iterdir() if path.suffix == ending}


def _write(folders, draw, item):
    entry, source = item
    maps, odd = draw(source, image_size(entry.image))
    for folder, label in zip(folders, maps, strict=True):
        write_png(folder / f'{entry.name}.png', label)
    return odd
