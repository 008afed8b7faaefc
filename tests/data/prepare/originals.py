"""Writing miniatures of VOC 2012 and SBD in their owners' formats."""
import numpy as np
from PIL import Image
from scipy.io import savemat


def voc_colour(label):
    """PASCAL VOC's colour of an id, bit by bit."""
    return tuple(sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3))


def write_palette(path, label, order=None):
    """Write ids as VOC does: palette indices are the ids. `order` (a permutation of 0..255) shuffles the palette."""
    order = np.arange(256) if order is None else order
    image = Image.fromarray(np.argsort(order)[label].astype(np.uint8), mode='L').convert('L')
    image = Image.frombytes('P', image.size, image.tobytes())
    image.putpalette([value for index in order for value in voc_colour(int(index))])
    image.save(path)


def write_rgb(path, label):
    Image.fromarray(np.array([voc_colour(i) for i in range(256)], np.uint8)[label]).save(path)


def write_mat(path, variable, label):
    """Write a segmentation as SBD does, in a struct of other fields."""
    savemat(path, {variable: {'Boundaries': np.zeros((2, 2)), 'Segmentation': label,
                              'CategoriesPresent': np.unique(label[label > 0])}})


def read(path):
    """Return a PNG as stored, which must be of one 8-bit channel."""
    with Image.open(path) as image:
        assert image.mode == 'L', path
        return np.array(image)


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
        self.truth[name], self.instances[name] = blocks, np.where(blocks == 255, 255, blocks % 5)
        write(self.voc / 'SegmentationClass' / f'{name}.png', self.truth[name])
        write(self.voc / 'SegmentationObject' / f'{name}.png', self.instances[name])

    def sbd_labels(self, name, rng):
        self.sbd_truth[name] = rng.integers(0, 21, self.sizes[name], np.uint8)
        self.sbd_instances[name] = rng.integers(0, 9, self.sizes[name], np.uint8)
        write_mat(self.sbd / 'cls' / f'{name}.mat', 'GTcls', self.sbd_truth[name])
        write_mat(self.sbd / 'inst' / f'{name}.mat', 'GTinst', self.sbd_instances[name])
