"""Running inference over a list of images: the one place of `spml.inference` that reads configuration keys.

The network runs in this process; argmax or CRF and the writing of files follow in worker processes, image by image, so
that the CPU sharpens one image while the network looks at the next. With several processes each takes every W-th image.
"""
import dataclasses
import math
import pathlib

import numpy as np
from tqdm import tqdm

from spml import config as configuration
from spml.data.lists import check_files, format_list, read_list
from spml.data.readers import read_cam, read_entry
from spml.data.transforms import normalise
from spml.errors import ConfigError, DataError, SpmlError
from spml.inference import pseudo_labels
from spml.inference.crf import require_crf
from spml.inference.outputs import denormalise, finish, nearest_resize
from spml.inference.predictors import MULTI_SCALE_RATIOS, Embedder, RetrievalPredictor, SoftmaxPredictor, predict
from spml.inference.prototypes import image_prototypes, read_memory
from spml.inference.resume import describe, fingerprint, remaining
from spml.inference.sources import SOURCES
from spml.models.build import build_classifier, build_embedding
from spml.models.weights import load_classifier, load_embedding
from spml.utils import distributed
from spml.utils.atomic import remove_abandoned
from spml.utils.formats import write_npz, write_png, write_text
from spml.utils.memory import memory_advice
from spml.utils.model_files import model_path
from spml.utils.workers import worker_pool


def checkpoint_path(config, snapshot_dir, checkpoint=None):
    """Return the weights to use: `checkpoint`, or the last snapshot of the configured training in `snapshot_dir`."""
    if checkpoint is not None:
        return pathlib.Path(checkpoint)
    if snapshot_dir is None:
        raise SpmlError('name the weights: --snapshot_dir FOLDER or --checkpoint FILE')
    return model_path(snapshot_dir, config.train.max_iteration - 1)


def build_embedder(config, checkpoint, device):
    """Return the Embedder of `config` with the weights of `checkpoint`."""
    network = build_embedding(config)
    load_embedding(network, checkpoint)
    return Embedder(network.to(device).eval(), tuple(config.test.crop_size), tuple(config.test.stride), device)


def build_softmax(config, embedder, checkpoint):
    """Return the SoftmaxPredictor of `config` with the head's weights of `checkpoint`."""
    classifier = build_classifier(config)
    load_classifier(classifier, checkpoint)
    return SoftmaxPredictor(embedder, classifier.to(embedder.device).eval())


def build_retrieval(config, embedder, memory_dir, grid):
    """Return the RetrievalPredictor over the prototypes in `memory_dir`."""
    prototypes, labels = read_memory(memory_dir, config.network.embedding_dim, config.dataset.num_classes)
    return RetrievalPredictor(embedder, prototypes, labels, config.dataset.num_classes, grid,
                              config.network.kmeans_iterations)


def run_prototypes(config, data_dir, data_list, save_dir, embedder, grid, multi_scale, overwrite=False):
    """Write the prototypes of each image of a list.

    `semantic_prototype/<name>.npz` and, at the single scale, `semantic_cluster/<name>.png`. Those that stand already
    are left, see `restart`, unless `overwrite` is set.
    """
    save_dir = pathlib.Path(save_dir)
    entries = _read_entries(config, data_list, data_dir, (2, 3))
    _save_config(config, save_dir)
    arguments = describe('prototypes', config, entries, data_dir, weights=_weights(embedder.network), grid=grid,
                         multi_scale=multi_scale)

    def outputs(name):
        clusters = [] if multi_scale else [save_dir / 'semantic_cluster' / f'{name}.png']
        return [save_dir / 'semantic_prototype' / f'{name}.npz', *clusters]

    todo = remaining(entries, save_dir, arguments, outputs, lambda entry: [entry.image, entry.semantic], overwrite,
                     exclusive=True)
    for entry in _progress(todo, 'prototypes'):
        image, label, _ = read_entry(entry, with_instance=False)
        with _memory_advice(entry, config):
            prototypes, labels, clusters = image_prototypes(
                embedder, _normalised(image, config), label, grid, config.network.kmeans_iterations,
                config.test.image_size, multi_scale)
        if not multi_scale:
            clusters = nearest_resize(clusters, image.shape[:2])
            write_png(save_dir / 'semantic_cluster' / f'{entry.name}.png', clusters.astype(np.uint16))
        write_npz(save_dir / 'semantic_prototype' / f'{entry.name}.npz', prototype=prototypes, prototype_label=labels)


def run_inference(config, data_dir, data_list, save_dir, predictor, multi_scale, crf, num_workers, overwrite=False):
    """Predict each image of a list (of images alone, too).

    Args:
        config: the resolved configuration.
        data_dir, data_list, save_dir: paths.
        predictor: RetrievalPredictor or SoftmaxPredictor.
        multi_scale: the pyramid of METHOD.md, "Inference", instead of the single scale.
        crf: CrfParameters or None.
        num_workers: processes that finish images while the network runs, shared out over the processes that run
            it; 0 finishes them here.
        overwrite: predict again what is there already, see `restart`.
    """
    entries = _read_entries(config, data_list, data_dir, None)
    ratios = MULTI_SCALE_RATIOS if multi_scale else None

    def one(entry):
        image, _, _ = read_entry(entry, with_semantic=False, with_instance=False)
        return predict(_normalised(image, config), predictor, config.test.image_size, ratios), None

    arguments = describe('inference', config, entries, data_dir, weights=_weights(predictor.embedder.network),
                         predictor=_predictor_arguments(predictor), multi_scale=multi_scale, crf=_as_dict(crf))
    todo = _remaining_maps(entries, save_dir, arguments, lambda entry: [entry.image], overwrite)
    _run(config, entries, todo, save_dir, one, crf, num_workers, 'inference')


def run_pseudo_labels(config, data_dir, data_list, save_dir, source, crf, num_workers, *, embedder, classifier=None,
                      predictor=None, cam_dir=None, grid=None, list_out=None, tagged_only=False, threshold=None,
                      overwrite=False):
    """Write pseudo labels of a source (a name of `SOURCES`) for each image of a list.

    Args:
        config, data_dir, data_list, save_dir, crf, num_workers, overwrite: as in `run_inference`; crf holds the
            parameters to use where the source asks for CRF.
        source: its name.
        embedder: Embedder.
        classifier, predictor, cam_dir, grid: what the source needs, see `SOURCES`.
        list_out: where to write the list with its label column replaced, or None.
        tagged_only: see `pseudo_labels.retrieval`, the only source that takes it.
        threshold: see `outputs.finish`.

    Raises:
        ConfigError: tagged_only with another source.
    """
    if tagged_only and source != 'retrieval':
        raise ConfigError(f'--tagged_classes_only belongs to --source retrieval; leave it out with {source} '
                          '(the softmax sources and densepose_random_walk keep only tagged classes anyway)')
    traits = SOURCES[source]
    num_classes = config.dataset.num_classes
    with_instance = source == 'densepose_random_walk'
    entries = _read_entries(config, data_list, data_dir, (3,) if with_instance else (2, 3))
    # Made first: a path that no list can express is better found before the work than after it.
    listing = list_out and _list_of_maps(list_out, entries, save_dir)
    cams = {entry.name: _cam_path(cam_dir, entry) for entry in entries} if traits.needs_cam else {}
    crf = crf if traits.crf else None

    def one(entry):
        image, label, instance = read_entry(entry, with_instance=with_instance)
        image, tags = _normalised(image, config), pseudo_labels.tags_of(label, num_classes)
        if source == 'cam_random_walk':
            prediction = pseudo_labels.cam_random_walk(
                embedder, image, read_cam(cams[entry.name], num_classes, image.shape[:2]), num_classes)
        elif source == 'softmax':
            prediction = pseudo_labels.softmax_once(embedder, classifier, image, tags)
        elif source == 'softmax_random_walk':
            prediction = pseudo_labels.softmax_random_walk(embedder, classifier, image, tags)
        elif source == 'retrieval':
            prediction = pseudo_labels.retrieval(predictor, image, tags, tagged_only)
        else:
            prediction = pseudo_labels.densepose_random_walk(embedder, image, label, instance, num_classes, grid,
                                                             config.network.kmeans_iterations)
        return prediction, label == 255 if traits.keeps_void else None

    def inputs(entry):
        labels = [entry.semantic, entry.instance] if with_instance else [entry.semantic]
        return [entry.image, *labels, *([cams[entry.name]] if cams else [])]

    arguments = describe(
        'pseudo labels', config, entries, data_dir, source=source, weights=_weights(embedder.network),
        head=classifier and _weights(classifier), predictor=predictor and _predictor_arguments(predictor),
        cam_dir=cam_dir and str(pathlib.Path(cam_dir).resolve()), grid=grid, crf=_as_dict(crf),
        tagged_only=tagged_only, threshold=threshold)
    todo = _remaining_maps(entries, save_dir, arguments, inputs, overwrite)
    _run(config, entries, todo, save_dir, one, crf, num_workers, 'pseudo labels', threshold)
    if list_out is not None and distributed.rank() == 0:
        write_text(list_out, listing)


def _list_of_maps(list_out, entries, save_dir):
    """Return the text of the list in which the label maps made stand for the labels."""
    folder = (pathlib.Path(save_dir) / 'semantic_gray').resolve()
    return format_list(list_out, entries, semantic=lambda entry: folder / f'{entry.name}.png')


def _remaining_maps(entries, save_dir, arguments, inputs, overwrite):
    """Return the entries whose label maps are still to be made, see `remaining`."""
    def outputs(name):
        # `finish` writes the grey map last.
        return [pathlib.Path(save_dir) / kind / f'{name}.png' for kind in ('semantic_gray', 'semantic_color')]

    return remaining(entries, save_dir, arguments, outputs, inputs, overwrite)


def _run(config, entries, todo, save_dir, one, crf, num_workers, title, threshold=None):
    """Map `one(entry) -> (Prediction, void or None)` over the entries to do and finish each result in the pool."""
    if crf is not None:
        require_crf()
    _save_config(config, save_dir)
    means, stds = config.network.pixel_means, config.network.pixel_stds
    # Without CRF a result takes no time worth another process.
    own_workers = math.ceil(num_workers / distributed.local_world_size()) if crf is not None else 0
    with worker_pool(own_workers, 'CRF') as submit:
        for entry in _progress(todo, title):
            with _memory_advice(entry, config):
                prediction, void = one(entry)
            rgb = denormalise(prediction.image, means, stds) if crf is not None else None
            # Workers need the bytes of the image, not the floats.
            submit(finish, dataclasses.replace(prediction, image=None), rgb, crf, void, entry.name, str(save_dir),
                   threshold, config.dataset.color_map)
    # What is announced, and listed by the caller, should stand: every process's share.
    distributed.gather_objects(None)
    if distributed.rank() == 0:
        # Workers outlive a killed run by a moment, in which this one may have begun.
        remove_abandoned(save_dir)
        print(f'{len(entries)} label maps: {pathlib.Path(save_dir) / "semantic_gray"}')


def _read_entries(config, data_list, data_dir, fields):
    entries = read_list(data_list, data_dir, fields, allow_absolute=config.dataset.allow_absolute_paths)
    check_files(entries)
    return entries


def _progress(entries, title):
    """Iterate over this process's share of the entries with a bar on rank 0."""
    share = entries[distributed.rank()::distributed.world_size()]
    return tqdm(share, desc=title, unit='image', dynamic_ncols=True, disable=distributed.rank() != 0)


def _memory_advice(entry, config):
    """Return a context in which exhausted memory is an error that names the image and what to lower."""
    return memory_advice(f'{entry.place}: {entry.image}',
                         f'lower test.crop_size (now {config.test.crop_size}) or test.image_size (now '
                         f'{config.test.image_size}; 0 is the size of the image), scale the image down, or give '
                         '--device cpu')


def _weights(network):
    return fingerprint(network.state_dict())


def _predictor_arguments(predictor):
    """Return what the predictions depend on beside the embedding."""
    if isinstance(predictor, SoftmaxPredictor):
        return {'softmax': _weights(predictor.classifier)}
    return {'retrieval': fingerprint({'prototypes': predictor.prototypes, 'labels': predictor.labels}),
            'grid': predictor.grid, 'iterations': predictor.iterations}


def _as_dict(crf):
    return None if crf is None else dataclasses.asdict(crf)


def _normalised(image, config):
    return normalise(image.astype(np.float32) / 255, config.network.pixel_means, config.network.pixel_stds)


def _cam_path(cam_dir, entry):
    path = pathlib.Path(cam_dir) / f'{entry.name}.npy'
    if not path.is_file():
        raise DataError(f'{path}: no CAMs for the image of {entry.place}; check --cam_dir')
    return path


def _save_config(config, save_dir):
    if distributed.rank() == 0:
        write_text(pathlib.Path(save_dir) / 'config.yaml', configuration.dump(config))
