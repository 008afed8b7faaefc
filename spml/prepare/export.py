"""A folder of photos with label maps or shapes, to be corrected by hand and given to prepare_custom.py.

What it holds, as far as it is asked for:

    photos/NAME.jpg     the photos, upright, in names that differ
    masks/NAME.png      label maps: class ids
    labelme/NAME.json   polygons of LabelMe
    coco.json           polygons of COCO; coco_rle.json: run lengths
    classes.txt         the class list
"""
import os
import pathlib
import shlex

from spml.errors import ConfigError, DataError
from spml.names import VOID
from spml.prepare import outlines
from spml.prepare.class_list import read_class_list
from spml.prepare.photos import UPRIGHT, place_photo
from spml.utils.formats import write_json, write_png, write_text

MASKS, LABELME, COCO, COCO_RLE = FORMATS = ('masks', 'labelme', 'coco', 'coco_rle')
_PHOTOS, _CLASSES = 'photos', 'classes.txt'
_FILES = {COCO: 'coco.json', COCO_RLE: 'coco_rle.json'}
_LABELME_VERSION = '5.5.0'  # of the form of its files


def existing(folder, formats, names):
    """Return the paths of what would be written over: labels of `names`, or a JSON of COCO, which may be corrected."""
    folder, paths = pathlib.Path(folder), []
    for form in formats:
        ending = {MASKS: 'png', LABELME: 'json'}.get(form)
        paths += [folder / form / f'{name}.{ending}' for name in names] if ending else [folder / _FILES[form]]
    return [path for path in paths if path.exists()]


class Export:
    """Writes the label maps of photos one by one; `close` writes what holds those of all.

    Args:
        folder, formats: where to write, and what, of `FORMATS`.
        class_names: C strings.
        color_map: C colours [R, G, B], or None.
        has_background: whether the first class is what shapes leave open; without one, every pixel is in a shape.
        tolerance: pixels by which polygons may leave the outline, to have fewer points; 0: the very pixels.

    ConfigError: the names cannot be those of a class list.
    """

    def __init__(self, folder, formats, class_names, color_map=None, has_background=True, tolerance=0):
        self.folder, self.formats, self.names = pathlib.Path(folder), formats, class_names
        self.has_background, self.tolerance = has_background, tolerance
        self._rest = 0 if has_background else VOID
        self._coco = {name: [] for name in _FILES if name in formats}
        path = self.folder / _CLASSES
        colours = [' '.join(map(str, colour)) for colour in color_map or [()] * len(class_names)]
        write_text(path, ''.join(f'{" ".join(line).rstrip()}\n' for line in zip(class_names, colours, strict=True)))
        try:
            self._classes = read_class_list(path)
        except DataError as error:
            raise ConfigError(f'dataset.class_names cannot be those of a class list: {error}') from None
        if list(self._classes.names) != list(class_names):
            raise ConfigError(f'dataset.class_names: {path} would be read as {", ".join(self._classes.names)}; change '
                              'the names')

    def add(self, name, photo, labels):
        """Write what is known of a photo, a path, under `name`; `labels` is (H, W) uint8 class ids, upright."""
        placed = self.folder / _PHOTOS / f'{name}{photo.suffix.lower()}'
        place_photo(photo, placed, UPRIGHT)
        if MASKS in self.formats:
            write_png(self.folder / MASKS / f'{name}.png', labels)
        with_polygons = {LABELME, COCO} & set(self.formats)
        regions = outlines.regions_to_draw(labels, self._rest) if with_polygons else []
        if LABELME in self.formats:
            shapes = [outlines.labelme_shape(region, self.names[region.value], self.tolerance) for region in regions]
            write_json(self.folder / LABELME / f'{name}.json', {
                'version': _LABELME_VERSION, 'flags': {}, 'shapes': shapes,
                'imagePath': os.path.join(os.pardir, _PHOTOS, placed.name), 'imageData': None,
                'imageHeight': labels.shape[0], 'imageWidth': labels.shape[1]})
        if COCO in self.formats:
            self._coco[COCO].append((placed.name, labels.shape, [
                (region.value, outlines.coco_polygon(region, self.tolerance)) for region in regions]))
        if COCO_RLE in self.formats:
            self._coco[COCO_RLE].append((placed.name, labels.shape, [
                (region.value, outlines.coco_runs(region, labels.shape))
                for region in outlines.connected_regions(labels) if region.value != self._rest]))

    def close(self):
        """Write the files of COCO."""
        for form, photos in self._coco.items():
            annotations = [{'image_id': number, 'category_id': value + 1, **record}
                           for number, (_, _, found) in enumerate(photos, 1) for value, record in found]
            write_json(self.folder / _FILES[form], {
                'images': [{'id': number, 'file_name': name, 'height': size[0], 'width': size[1]}
                           for number, (name, size, _) in enumerate(photos, 1)],
                'categories': [{'id': index + 1, 'name': name} for index, name in enumerate(self.names)],
                'annotations': [{'id': number, **record} for number, record in enumerate(annotations, 1)]})

    def way_back(self):
        """Return for each format the words with which prepare_custom.py takes what was written."""
        background = []
        try:
            if self._classes.has_background() != self.has_background:
                background = ['--background', 'none']
        except ConfigError:
            background = ['--background', 'first' if self.has_background else 'none']
        return [shlex.join(['--images', str(self.folder / _PHOTOS), f'--{form.removesuffix("_rle")}',
                            str(self.folder / _FILES.get(form, form)), '--classes', str(self.folder / _CLASSES),
                            *background, *([] if self.has_background or form == MASKS else ['--rest', 'void'])])
                for form in self.formats]
