"""Twelve photos of 64 x 48 with a red block at x 4..23, y 4..19 (320 pixels) that is a cat, and their labels."""
import json

import numpy as np
from originals import read, write_coco
from PIL import Image

from spml.data.lists import read_list

BLOCK = np.zeros((48, 64), int)
BLOCK[4:20, 4:24] = 1
CORNERS = [[4, 4], [23, 4], [23, 19], [4, 19]]  # of the block, as LabelMe has them
OUTLINE = [4, 4, 24, 4, 24, 20, 4, 20]  # as COCO has it


def of_all(**fields):
    """The same annotation of COCO in every image, of the first category."""
    return [(image, 0, fields) for image in range(12)]


class Photos:
    """Photos 00 to 11 and a class list; `arguments` is a command line on them."""

    def __init__(self, folder):
        self.rng = np.random.default_rng()
        self.folder, self.out = folder, folder / 'data'
        self.names = [f'{number:02}' for number in range(12)]
        for name in self.names:
            self.photo(f'{name}.png')
        self.classes('background\ncat\n')

    def photo(self, name):
        pixels = self.rng.integers(0, 120, (*BLOCK.shape, 3))
        pixels[BLOCK == 1] += (130, 0, 0)
        self.save(f'photos/{name}', pixels)

    def save(self, name, pixels, **options):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)

    def classes(self, text):
        (self.folder / 'classes.txt').write_text(text)

    def masks(self, names, values=(0, 1), ending='png', folder='masks', **options):
        for name in names:
            self.save(f'{folder}/{name}.{ending}', np.array(values)[BLOCK], **options)

    def scribbles(self, names):
        for name in names:
            drawn = np.full(BLOCK.shape, 254)
            drawn[8:10, 6:20], drawn[30:32] = 1, 0
            self.save(f'scribbles/{name}.png', drawn)

    def labelme(self, names, *shapes, **fields):
        """Write JSONs of LabelMe; shapes are (label, kind, points), by default a cat in the block."""
        (self.folder / 'labelme').mkdir(exist_ok=True)
        shapes = [{'label': label, 'shape_type': kind, 'points': points}
                  for label, kind, points in shapes or [('cat', 'polygon', CORNERS)]]
        for name in names:
            (self.folder / f'labelme/{name}.json').write_text(json.dumps({'shapes': shapes} | fields))

    def coco(self, annotations, file='coco', categories=('cat',), images=None):
        """Write a JSON of COCO, of some images or all; annotations as in `write_coco`."""
        files = [f'{name}.png' for name in images or self.names]
        write_coco(self.folder / file, files, annotations, categories, BLOCK.shape)

    def arguments(self, *labels, more=()):
        return ['--images', self.folder / 'photos', '--classes', self.folder / 'classes.txt', '--out', self.out,
                '--base', 'demo', '--num_workers', 0,
                *(word for label in labels for word in (f'--{label}', self.folder / label)), *more]

    def list(self, name):
        path = self.out / f'lists/{name}.txt'
        return {entry.name: entry for entry in read_list(path, self.out)} if path.exists() else {}

    def label(self, name):
        return read(self.out / f'VOC2012/segcls/{name}.png')
