"""COCO 2014 and DensePose-COCO as their owners publish them, to the DensePose layout: images, part maps, points, lists.

A person of COCO whom DensePose did not annotate is void.
"""
import collections
import functools
import logging
import pathlib
from typing import NamedTuple

import numpy as np

from spml.data.readers import check_size, image_size
from spml.data.voc_layout import write_lines
from spml.errors import DataError
from spml.prepare.coco_masks import check_records
from spml.prepare.densepose_parts import is_annotated, part_map, point_map
from spml.prepare.runner import make, results, summary
from spml.recipe import FileDigests
from spml.utils.files import place_file
from spml.utils.formats import read_json, write_png

logger = logging.getLogger(__name__)

TRUTH, POINTS, REGIONS = 'segcls/densepose/gray', 'segcls/densepose_points/gray', 'seginst/pmi_0.1_256'
# DensePose's splits, and the part of COCO 2014 whose images each takes
SPLITS = {'train': 'train2014', 'valminusminival': 'val2014', 'minival': 'val2014'}
VAL_SIZE = 1508
_PERSON = 1  # COCO's category


class PointOptions(NamedTuple):
    """How many points the weak labels have (see `densepose_parts.point_map`)."""

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
    annotated = {person['id'] for _, person in of_split if is_annotated(person)}
    bodies, unannotated = collections.defaultdict(list), collections.defaultdict(list)
    for where, person in of_split:
        if is_annotated(person):
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
