"""Working through a list of images: prototypes, predictions, pseudo labels.

The network runs in this process; argmax or CRF and the writing of files follow in worker processes, image by image, so
that the CPU sharpens one image while the network looks at the next. With several processes each takes every W-th image.
"""
import dataclasses
import math
import pathlib

import numpy as np
from tqdm import tqdm

from spml import config as configuration
from spml.data.cam_labels import cam_path
from spml.data.lists import check_files, check_maps, check_output, format_list, read_list
from spml.data.readers import entry_tags, read_cam, read_entry
from spml.errors import ConfigError, DataError
from spml.inference.outputs import Finish, require_crf, unlabelled, write_label_maps
from spml.inference.predictors import for_finish, image_prototypes, normalised_for_views, predict_pixels
from spml.inference.resume import Results, describe
from spml.inference.sources import SOURCES
from spml.inference.views import shrink
from spml.names import UNLABELLED, VOID
from spml.utils import distributed
from spml.utils.files import remove_abandoned
from spml.utils.formats import write_npz, write_png, write_text
from spml.utils.maps import nearest_resize
from spml.utils.memory import memory_advice
from spml.utils.workers import worker_pool

# The keys on which memory depends, those of large images first; test.crop_size always counts.
_SIZES = 'test.walk_cells', 'test.max_pixels', 'test.image_size', 'test.crop_size'


@dataclasses.dataclass(frozen=True)
class Job:
    """A list of images, where its results go, and what does not depend on the networks."""

    config: dict
    data_dir: pathlib.Path
    data_list: pathlib.Path
    save_dir: pathlib.Path
    overwrite: bool = False  # make again what is there already, see `spml.inference.resume`
    finish: Finish = dataclasses.field(default_factory=Finish)  # the colours are the configuration's, though
    num_workers: int = 0  # for CRF alongside the network, divided among the processes that run that; 0: both in one

    def entries(self, fields=None):
        """Return the entries of the list, whose lines may have so many `fields` (default: any), their files checked."""
        dataset = self.config.dataset
        entries = read_list(self.data_list, self.data_dir, fields, allow_absolute=dataset.allow_absolute_paths,
                            num_classes=dataset.num_classes)
        check_files(entries)
        return entries

    def path(self, folder, name):
        """Return the path of an image's result in a folder such as `semantic_gray`."""
        return pathlib.Path(self.save_dir) / folder / f'{name}.{"npz" if folder == "semantic_prototype" else "png"}'

    def remaining(self, results, entries):
        """Iterate over this process's share of the images to be made, with a bar in the first process."""
        todo = results.remaining(entries, self.overwrite)
        if distributed.rank() == 0:
            write_text(pathlib.Path(self.save_dir) / 'config.yaml', configuration.dump(self.config))
        share = todo[distributed.rank()::distributed.world_size()]
        return tqdm(share, desc=results.recipe.values['result'], unit='image', dynamic_ncols=True,
                    disable=distributed.rank() != 0)

    def memory_advice(self, entry, settings):
        """Return a context in which exhausted memory is an error that names the image and what to lower.

        That is what decides on the sizes among `settings`, the keys that results depend on.
        """
        sizes = [f'{key} (now {settings[key]})' for key in _SIZES if settings.get(key)]
        return memory_advice(f'{entry.place}: {entry.image}',
                             f'lower {", ".join(sizes[:-1])} or {sizes[-1]}, or give --device cpu')


def make_prototypes(job, embedder, grid, multi_scale):
    """Write `semantic_prototype/<name>.npz` of each image of a list, and its clusters as `semantic_cluster/<name>.png`.

    The latter at the single scale, not with the three of `multi_scale`. `grid` is (ky, kx) initial clusters.
    """
    config, entries = job.config, job.entries((2, 3))
    folders = ['semantic_prototype'] if multi_scale else ['semantic_prototype', 'semantic_cluster']
    settings = configuration.effective(config, 'prototypes', multi_scale=multi_scale)
    recipe = describe('prototypes', settings, embedder=embedder, grid=grid, multi_scale=multi_scale)
    results = Results(job.save_dir, recipe, lambda name: [job.path(folder, name) for folder in folders],
                      lambda entry: [entry.image, entry.label_source], exclusive=True)
    for entry in job.remaining(results, entries):
        image, label, _ = read_entry(entry, with_regions=False)
        with job.memory_advice(entry, settings):
            pixels = normalised_for_views(image, config, multi_scale)
            prototypes, labels, clusters = image_prototypes(
                embedder, pixels, nearest_resize(label, pixels.shape[:2]), grid, config.network.kmeans_iterations,
                config.test.image_size, multi_scale)
        if not multi_scale:
            clusters = nearest_resize(clusters, image.shape[:2])
            write_png(job.path('semantic_cluster', entry.name), clusters.astype(np.uint16))
        write_npz(job.path('semantic_prototype', entry.name), prototype=prototypes, prototype_label=labels)
        results.note(entry.name)


def make_predictions(job, predictor, multi_scale):
    """Write the label maps of a list's images (of images alone, too) by a RetrievalPredictor or SoftmaxPredictor."""
    def one(entry):
        image, _, _ = read_entry(entry, with_semantic=False, with_regions=False)
        return predict_pixels(image, predictor, job.config, multi_scale), None

    settings = configuration.effective(job.config, 'inference', multi_scale=multi_scale,
                                       clusters='grid' in predictor.ingredients,
                                       head='grid' not in predictor.ingredients)
    recipe = describe('inference', settings, predictor=predictor, multi_scale=multi_scale,
                      **dataclasses.asdict(job.finish))
    _make_label_maps(job, job.entries(), recipe, settings, lambda entry: [entry.image], one)


def make_pseudo_labels(job, source, parts, cam_dir=None, list_out=None, keep_labels=False):
    """Write pseudo labels for each image of a list.

    Args:
        job: Job; its parameters of CRF count where the source asks for CRF.
        source: a name of `SOURCES`.
        parts: dict of what the source takes that is the same for all images: networks, `grid`, `tagged_only`,
            `normalise`.
        cam_dir: folder of the CAMs, for a source that takes them.
        list_out: where to write the list with its label column replaced, or None.
        keep_labels: pixels of a class, or void, in the weak label keep their value. Of an image whose kind is `mask`
            that is all there is; no network looks at it.

    ConfigError: `tagged_only` or `normalise` for a source that does not take it.
    """
    name, source, config = source, SOURCES[source], job.config
    _check_parts(name, source, parts)
    if not source.crf:
        job = dataclasses.replace(job, finish=dataclasses.replace(job.finish, crf=None))
    entries = job.entries((3,) if 'regions' in source.takes else (2, 3))
    # Made first: a path that no list can express is better found before the work than after it.
    check_maps(entries, lambda entry: job.path('semantic_gray', entry.name))
    if list_out:
        check_output(list_out, job.data_list)
    listing = list_out and format_list(
        list_out, entries, semantic=lambda entry: job.path('semantic_gray', entry.name).resolve())
    for entry in entries if 'cams' in source.takes else ():
        if not _is_truth(entry, keep_labels) and not cam_path(cam_dir, entry).is_file():
            raise DataError(f'{cam_path(cam_dir, entry)}: no CAMs for the image of {entry.place}; check '
                            '--cam_dir')

    def one(entry):
        return _pseudo_label(entry, source, config, parts, cam_dir, keep_labels)

    def made_from(entry):
        return [*source.made_from(entry, cam_dir), *([[entry.kind]] if keep_labels else [])]

    settings = configuration.effective(config, 'pseudo labels', multi_scale=True,
                                       whole_image='predictor' not in source.takes,
                                       clusters='kmeans_num_clusters' in source.options,
                                       head='classifier' in source.takes)
    recipe = describe('pseudo labels', settings, source=name, **dataclasses.asdict(job.finish),
                      **{key: parts[key] for key in source.takes if key in parts},
                      **({'keep_labels': True} if keep_labels else {}))  # results without it are those of old
    _make_label_maps(job, entries, recipe, settings, made_from, one)
    if list_out is not None and distributed.rank() == 0:
        write_text(list_out, listing)


def _check_parts(name, source, parts):
    """Raise ConfigError where options are given for a source that does not take them."""
    why = ' (the softmax sources and densepose_random_walk keep only tagged classes anyway)'
    for part, option, more in (('tagged_only', 'tagged_classes_only', why), ('normalise', 'normalise', '')):
        if parts.get(part) and part not in source.takes:
            others = ' and '.join(other for other, one in SOURCES.items() if part in one.takes)
            raise ConfigError(f'--{option} belongs to --source {others}; leave it out with {name}{more}')


def _is_truth(entry, keep_labels):
    """Whether an image's label is the full truth and stays."""
    return keep_labels and entry.kind == 'mask'


def _pseudo_label(entry, source, config, parts, cam_dir, keep_labels):
    """Return the Prediction of one image, and the (H, W) uint8 label that stays as it is or None."""
    number, background = config.dataset.num_classes, config.dataset.background
    image, label, regions = read_entry(entry, with_regions='regions' in source.takes)
    stays = (label == VOID) & (keep_labels or source.keeps_void) | (label < number) & keep_labels
    known = np.where(stays, label, np.uint8(UNLABELLED)) if stays.any() else None
    tags = entry_tags(entry, label, number)
    if entry.tags and background:  # people tag what an image shows, and hardly add that it has a background
        tags[0] = True
    if _is_truth(entry, keep_labels) or (entry.is_unlabelled and not tags.any()):
        return unlabelled(number, label.shape), known
    cams = None
    if 'cams' in source.takes:
        cams = read_cam(cam_path(cam_dir, entry), number, label.shape, background=background)
        if entry.tags:
            cams = {key: cam for key, cam in cams.items() if tags[key + int(background)]}
    pixels = normalised_for_views(image, config, True)
    size = pixels.shape[:2]
    if cams is not None:
        cams = {key: shrink(cam, size) for key, cam in cams.items()}
    prediction = source({
        **parts, 'image': pixels, 'label': nearest_resize(label, size), 'cams': cams, 'tags': tags,
        'regions': regions if regions is None else nearest_resize(regions, size), 'num_classes': number,
        'background': background, 'iterations': config.network.kmeans_iterations,
        'walk_cells': config.test.walk_cells, 'max_pixels': config.test.max_pixels})
    return dataclasses.replace(prediction, size=image.shape[:2]), known


def _make_label_maps(job, entries, recipe, settings, inputs, one):
    """Make the label maps that are missing, by `one` from an entry to its Prediction and what is known, or None."""
    how = dataclasses.replace(job.finish, color_map=job.config.dataset.color_map)
    if how.crf is not None:
        require_crf()
    results = Results(job.save_dir, recipe,
                      lambda name: [job.path(folder, name) for folder in ('semantic_gray', 'semantic_color')], inputs)
    # Without CRF a result takes no time worth another process.
    own_workers = math.ceil(job.num_workers / distributed.local_world_size()) if how.crf is not None else 0
    with worker_pool(own_workers, 'CRF', results.note) as submit:
        for entry in job.remaining(results, entries):
            with job.memory_advice(entry, settings):
                prediction, known = one(entry)
            # There is nothing to sharpen where no network has looked.
            own = how if prediction.image is not None else dataclasses.replace(how, crf=None)
            submit(write_label_maps, for_finish(prediction, job.config, own), own, known, entry.name,
                   str(job.save_dir))
    # Wait until every process has written its share, which may take one an hour longer than another.
    distributed.gather_objects(None)
    if distributed.rank() == 0:
        # The workers of a killed process outlive it by a moment, in which this one may have begun.
        remove_abandoned(job.save_dir)
        print(f'{len(entries)} label maps: {pathlib.Path(job.save_dir) / "semantic_gray"}')
