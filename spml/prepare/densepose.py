"""COCO 2014 and DensePose-COCO as their owners publish them, to the DensePose layout: images, part maps, points, lists.

A person of COCO whom DensePose did not annotate is void. An annotation looks at the person's box scaled to 256 x 256:
`dp_masks` are the masks of 14 parts there, `dp_x`, `dp_y` points and `dp_I` the surface each lies on, 1..24: most parts
have two (torso front and back, ...).
"""
import collections
import functools
import logging
import math
import pathlib
from typing import NamedTuple

import numpy as np

from spml.data.readers import check_size, image_size
from spml.data.voc_layout import write_lines
from spml.errors import DataError
from spml.names import UNLABELLED, VOID
from spml.prepare.coco_masks import check_records, decode_mask
from spml.prepare.runner import make, results, summary
from spml.prepare.shapes import draw_strokes
from spml.recipe import FileDigests
from spml.utils.files import place_file
from spml.utils.formats import read_json, write_png

logger = logging.getLogger(__name__)

TRUTH, POINTS, REGIONS = 'segcls/densepose/gray', 'segcls/densepose_points/gray', 'seginst/pmi_0.1_256'
# DensePose's splits, and the part of COCO 2014 whose images each takes
SPLITS = {'train': 'train2014', 'valminusminival': 'val2014', 'minival': 'val2014'}
VAL_SIZE = 1508
_PERSON = 1  # COCO's category
NUM_PARTS = 14
GRID = 256
# The part of each surface 1..24; 0 is none.
PART_OF_SURFACE = (0, 1, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9, 10, 11, 10, 11, 12, 13, 12, 13, 14, 14)


class PointOptions(NamedTuple):
    """How many points the weak labels have (see `point_map`)."""

    per_part: int = 1
    background: int = 5
    radius: float = 3
    seed: int = 0


class Sample(NamedTuple):
    """One image with its people; each annotation comes with the file and the id, for messages."""

    file: str  # below `images`
    size: tuple  # (H, W)
    unannotated: list
    bodies: list

    @property
    def name(self):
        """The image's base name without its ending."""
        return pathlib.PurePath(self.file).stem


def prepare(coco, densepose, out, train_splits, num_prototype_images, points, num_workers, overwrite=False):
    """Write images, part maps, point labels and lists under the data root `out`.

    `coco` is the folder with `train2014/`, `val2014/` and `annotations/instances_*.json`, `densepose` that with
    `densepose_coco_2014_*.json`. The union of `train_splits`, names of `SPLITS`, is trained on; the list for prototypes
    is a random choice of them. DataError: a file is missing, damaged, or of another form, or `out` holds VOC.
    """
    coco, out = pathlib.Path(coco), pathlib.Path(out)
    if (out / 'VOC2012').exists():
        raise DataError(f'{out}: holds VOC 2012, whose lists have the same names; choose another folder')
    samples = read_samples(coco / 'annotations', pathlib.Path(densepose), [*train_splits, 'minival'])
    train = sorted((sample for split in train_splits for sample in samples[split]), key=lambda sample: sample.name)
    val = sorted(samples['minival'], key=lambda sample: sample.name)
    items = {sample.name: sample for sample in train + val}
    folder = results(out / POINTS, points._asdict(),
                     lambda name: [out / 'images' / items[name].file, *_label_paths(out, items[name])],
                     # The annotations without their places in files.
                     lambda name: [coco / items[name].file, [[annotation for _, annotation in people] for people in (
                         items[name].unannotated, items[name].bodies)]], FileDigests())
    made = make(functools.partial(_convert, coco, out, points), items, [(folder, items)], num_workers, 'DensePose',
                overwrite)
    for place, what in ((TRUTH, 'part maps'), (POINTS, 'point labels')):
        summary(what, out / place, len(made), len(items))
    chosen = np.random.default_rng([points.seed, len(train)]).permutation(len(train))[:num_prototype_images]
    for name, place, listed in (('train_point', POINTS, train), ('val', TRUTH, val),
                                ('train_full', TRUTH, [train[index] for index in sorted(chosen)])):
        regions = TRUTH if name == 'val' else REGIONS
        path = write_lines(out, name, [f'images/{sample.file} {place}/{sample.name}.png {regions}/{sample.name}.png'
                                       for sample in listed])
        print(f'{len(listed)} images: {path}')
    if len(val) != VAL_SIZE:
        logger.warning('WARNING: minival has %d images, not %d as in the published results: the annotation file is not '
                       'the original', len(val), VAL_SIZE)


def read_samples(annotations, densepose, splits):
    """Return a dict from each of the splits to the list of its `Sample`s."""
    samples = {}
    for part in dict.fromkeys(SPLITS[split] for split in splits):
        contents = {split: _read_json(densepose / f'densepose_coco_2014_{split}.json')
                    for split in splits if SPLITS[split] == part}
        wanted = {record['id'] for content in contents.values() for record in content['images']}
        path = annotations / f'instances_{part}.json'
        people = [(f'{path}: annotation {person["id"]}', person) for person in _read_json(path)['annotations']
                  if person['image_id'] in wanted and person.get('category_id') == _PERSON]
        for split, content in contents.items():
            where = densepose / f'densepose_coco_2014_{split}.json'
            of_split = [(f'{where}: annotation {person["id"]}', person) for person in content['annotations']]
            samples[split] = _gather(part, content['images'], of_split, people)
    return samples


def _gather(part, records, of_split, people):
    """Return the `Sample`s of a split: its image records with its own annotations and those of COCO."""
    annotated = {person['id'] for _, person in of_split if person.get('dp_masks')}
    bodies, unannotated = collections.defaultdict(list), collections.defaultdict(list)
    for where, person in of_split:
        if person.get('dp_masks'):
            bodies[person['image_id']].append((where, person))
    for where, person in people:
        if person['id'] not in annotated:
            unannotated[person['image_id']].append((where, person.get('segmentation')))
    return [Sample(f'{part}/{record["file_name"]}', (record['height'], record['width']),
                   unannotated[record['id']], bodies[record['id']]) for record in records]


def _read_json(path):
    """Return a COCO JSON whose `images` and `annotations` are lists of dicts with the fields that are used here."""
    print(f'reading {path}', flush=True)
    content = read_json(path, 'fetch it again, or give other folders by --coco and --densepose')
    check_records(path, content, 'annotations', id=int, image_id=int)
    for record in check_records(path, content, 'images', id=int, file_name=str, height=int, width=int):
        if pathlib.PurePath(record['file_name']).name != record['file_name']:
            raise DataError(f'{path}: {record["file_name"]!r} is not a file name; fetch the file again')
    return content


def _label_paths(out, sample):
    return [out / folder / f'{sample.name}.png' for folder in (TRUTH, POINTS)]


def _convert(coco, out, points, sample):
    image = coco / sample.file
    size = image_size(image)
    check_size(image, size, 'the image that was annotated', sample.size, 'use the images of COCO 2014')
    labels = part_map(size, sample.unannotated, sample.bodies)
    # Seed by name: independent of the other images.
    seed = [points.seed, *sample.name.encode()]
    weak = point_map(labels, sample.bodies, points.per_part, points.background, points.radius, seed)
    for path, label in zip(_label_paths(out, sample), (labels, weak), strict=True):
        write_png(path, label)
    place_file(image, out / 'images' / sample.file)


def part_map(size, unannotated, bodies):
    """Return the (H, W) uint8 label map of an image: parts 1..14, 0 elsewhere, 255 on people without parts.

    `unannotated` is a list of (where, COCO segmentation) of people whom DensePose did not annotate, `bodies` one of
    (where, DensePose annotation). Where parts of several overlap, the later one's are kept.
    """
    labels = np.zeros(size, np.uint8)
    for where, segmentation in unannotated:
        labels[decode_mask(segmentation, size, where)] = VOID
    for where, annotation in bodies:
        left, top, width, height = _box(annotation, where)
        rows = np.arange(max(0, top), min(top + height, size[0]))[:, None]
        columns = np.arange(max(0, left), min(left + width, size[1]))
        if not rows.size or not columns.size:
            raise DataError(f'{where}: the box lies outside the image of {size[1]}x{size[0]} pixels; fetch the file '
                            'again')
        grid = _part_grid(annotation['dp_masks'], where)
        parts = grid[(rows - top) * GRID // height, (columns - left) * GRID // width]
        labels[rows, columns] = np.where(parts > 0, parts, labels[rows, columns])
    return labels


def point_map(labels, bodies, per_part, background, radius, seed):
    """Return the (H, W) uint8 map of some annotated points, each a disc within its part, the rest unlabelled.

    `labels` is what `part_map` returned, of which void stays void, and `bodies` as there. There are `per_part` points
    on each part of each person, fewer where there are fewer, and `background` ones on background in total; a point
    counts only where the part map agrees with it. `radius` is in pixels. Choices depend on the `seed`, a list of ints,
    and on the annotation's id alone.
    """
    dots = []
    for where, annotation in bodies:
        rng = np.random.default_rng([*seed, int(annotation['id'])])
        x, y, parts = _points(annotation, labels.shape, where)
        agreed = labels[y, x] == parts
        for part in range(1, NUM_PARTS + 1):
            # Annotated points of large grids may share a pixel of a small box; they are one then.
            places = np.unique(np.stack([x, y], 1)[agreed & (parts == part)], axis=0)
            dots += [(part, place[None].astype(float)) for place in rng.permutation(places)[:per_part]]
    rows, columns = np.nonzero(labels == 0)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:background]
    dots += [(0, np.array([[columns[index], rows[index]]], float)) for index in chosen]
    drawn = draw_strokes(dots, labels.shape, radius)
    return np.where(labels == VOID, VOID, np.where(drawn == labels, drawn, UNLABELLED)).astype(np.uint8)


def _part_grid(masks, where):
    """Return the (256, 256) uint8 parts of the masks; [] is a part that cannot be seen."""
    if not isinstance(masks, list) or len(masks) != NUM_PARTS:
        raise DataError(f'{where}: dp_masks must be a list of {NUM_PARTS} masks; fetch the file again')
    grid = np.zeros((GRID, GRID), np.uint8)
    for part, mask in enumerate(masks, start=1):
        if mask:
            grid[decode_mask(mask, (GRID, GRID), f'{where}, dp_masks {part}')] = part
    return grid


def _points(annotation, size, where):
    """Return x and y in pixels and the parts of the annotated points, three (N,) int arrays."""
    left, top, width, height = _box(annotation, where)
    values = [annotation.get(key) for key in ('dp_x', 'dp_y', 'dp_I')]
    good = all(isinstance(value, list) and len(value) == len(values[0]) and all(map(_is_finite, value))
               for value in values)
    x, y, surface = np.array(values, float).reshape(3, -1) if good else np.zeros((3, 1))
    if not good or not ((x >= 0) & (y >= 0) & (x <= GRID) & (y <= GRID) & np.isin(surface, range(1, 25))).all():
        raise DataError(f'{where}: dp_x and dp_y must be lists of numbers in 0..{GRID}, dp_I of surfaces in 1..24, all '
                        'of one length; fetch the file again')
    columns = left + np.minimum(x * width // GRID, width - 1).astype(int)
    rows = top + np.minimum(y * height // GRID, height - 1).astype(int)
    return (columns.clip(0, size[1] - 1), rows.clip(0, size[0] - 1),
            np.array(PART_OF_SURFACE)[surface.astype(int)])


def _box(annotation, where):
    """Return left, top, width and height in whole pixels, as DensePose's own code rounds them."""
    box = annotation.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)) or min(box[2:]) < 0:
        raise DataError(f'{where}: bbox must be [x, y, width, height]; fetch the file again')
    left, top, width, height = map(int, box)
    return left, top, max(1, width), max(1, height)


def _is_finite(value):
    return type(value) in (int, float) and math.isfinite(value)
