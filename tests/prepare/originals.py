"""Writing miniatures of VOC 2012, SBD, ScribbleSup and COCO as their owners do, and checking what becomes of them."""
import json

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.io import savemat


def voc_colour(label):
    """PASCAL VOC's colour of an id, bit by bit."""
    return tuple(sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3))


def indexed(array, palette):
    """An indexed image of the colours of a palette, numbered as they come."""
    image = Image.fromarray(np.asarray(array, np.uint8))
    image.putpalette([value for colour in palette for value in colour])
    return image


def write_palette(path, label, order=None):
    """Write ids as VOC does: palette indices are the ids. `order` (a permutation of 0..255) shuffles the palette."""
    order = np.arange(256) if order is None else order
    indexed(np.argsort(order)[label], [voc_colour(int(index)) for index in order]).save(path)


def write_rgb(path, label):
    Image.fromarray(np.array([voc_colour(i) for i in range(256)], np.uint8)[label]).save(path)


def write_mat(path, variable, label):
    """Write a segmentation as SBD does, in a struct of other fields."""
    savemat(path, {variable: {'Boundaries': np.zeros((2, 2)), 'Segmentation': label,
                              'CategoriesPresent': np.unique(label[label > 0])}})


def write_scribbles(path, scribbles, size=None, form='<X>{}</X><Y>{}</Y>'):
    """Write polylines (tag, [(x, y), ...]) as ScribbleSup does."""
    parts = [f'<polygon><tag>{tag}</tag>' + ''.join(f'<point>{form.format(x, y)}</point>' for x, y in points)
             + '</polygon>' for tag, points in scribbles]
    if size is not None:
        parts.insert(0, f'<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>')
    path.write_text(f'<annotation><folder>VOC2012</folder><filename>{path.stem}.jpg</filename>{"".join(parts)}'
                    '</annotation>')


def write_boxes(path, boxes):
    """Write (class, xmin, ymin, xmax, ymax), from 1 and inclusive, as VOC does; parts have separate boxes."""
    objects = ''.join(
        f'<object><name>{name}</name><pose>Left</pose><difficult>0</difficult><bndbox><xmin>{left}</xmin><ymin>{top}'
        f'</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox><part><name>head</name><bndbox><xmin>1</xmin>'
        '<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>'
        for name, left, top, right, bottom in boxes)
    path.write_text(f'<annotation><filename>{path.stem}.jpg</filename>{objects}</annotation>')


def write_coco(path, images, annotations, categories, size=None, **more):
    """Write a JSON of COCO; annotations are (number of the image, number of the category, fields)."""
    stated = {} if size is None else {'height': size[0], 'width': size[1]}
    path.write_text(json.dumps({
        'images': [{'id': number, 'file_name': name, **stated} for number, name in enumerate(images)],
        'annotations': [{'id': number, 'image_id': image, 'category_id': category, **fields}
                        for number, (image, category, fields) in enumerate(annotations)],
        'categories': [{'id': number, 'name': name} for number, name in enumerate(categories)]} | more))


TRAIN_PLUS = ('07_a', '07_b', '08_d', '08_e')  # of the miniature


def train_list(folder, names=TRAIN_PLUS):
    """The lines of the list of training images with the labels in a folder."""
    return ''.join(f'VOC2012/JPEGImages/{name}.jpg {folder}/{name}.png VOC2012/hed/{name}.png\n' for name in names)


def read(path):
    """Return a PNG as stored, which must be of one 8-bit channel."""
    with Image.open(path) as image:
        assert image.mode == 'L', path
        return np.array(image)


def check_form(regions, shape, most=255):
    """Assert that regions are of a shape, numbered from 0, at most so many, and each connected."""
    assert (regions.dtype, regions.shape) == (np.uint8, shape)
    ids = np.unique(regions)
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    assert len(ids) <= most
    for index in ids:
        assert ndimage.label(regions == index)[1] == 1  # 4-connected


class Originals:
    """Folders `voc` and `sbd` as unpacked, and what every image's labels are: `truth`, `instances`, `sbd_truth`..."""

    def __init__(self, folder):
        self.voc, self.sbd = folder / 'VOCdevkit' / 'VOC2012', folder / 'benchmark_RELEASE' / 'dataset'
        self.out = folder / 'data'
        self.sizes, self.truth, self.instances, self.sbd_truth, self.sbd_instances = {}, {}, {}, {}, {}
        for root, names in ((self.voc, ('JPEGImages', 'SegmentationClass', 'SegmentationObject', 'Annotations',
                                        'ImageSets/Segmentation')), (self.sbd, ('cls', 'inst', 'img'))):
            for name in names:
                (root / name).mkdir(parents=True)

    def split(self, path, names):
        path.write_text(''.join(f'{name}\n' for name in names))

    def image(self, name, rng, folder):
        self.sizes.setdefault(name, tuple(int(side) for side in rng.integers(20, 50, 2)))
        pixels = rng.integers(0, 256, (*self.sizes[name], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{name}.jpg')

    def voc_labels(self, name, rng, write=write_palette):
        blocks = rng.choice([0, 0, *rng.integers(1, 21, 3), 255], self.sizes[name])
        self.write_voc(name, blocks, np.where(blocks == 255, 255, blocks % 5), write)

    def write_voc(self, name, truth, instances, write=write_palette):
        self.truth[name], self.instances[name] = truth, instances
        write(self.voc / 'SegmentationClass' / f'{name}.png', truth)
        write(self.voc / 'SegmentationObject' / f'{name}.png', instances)

    def sbd_labels(self, name, rng):
        self.write_sbd(name, *(rng.integers(0, count, self.sizes[name], np.uint8) for count in (21, 9)))

    def write_sbd(self, name, truth, instances):
        self.sbd_truth[name], self.sbd_instances[name] = truth, instances
        write_mat(self.sbd / 'cls' / f'{name}.mat', 'GTcls', truth)
        write_mat(self.sbd / 'inst' / f'{name}.mat', 'GTinst', instances)
