"""From a command line or a checked configuration to a training.

With `loop`, this is what reads configuration keys in `spml.training`.
"""
import argparse
import logging
import pathlib

from torch import nn

from spml.cli import arguments
from spml.config import images_per_process
from spml.data.check import check_sample
from spml.data.datasets import SegmentationDataset
from spml.data.lists import check_files, digest, read_list
from spml.data.loader import StreamSampler, build_loader
from spml.data.readers import describe_tags, read_tags, sharing_pairs
from spml.errors import ConfigError, DataError
from spml.models.build import build_cam_network, build_classifier, build_embedding, first_tag, starting_weights
from spml.models.heads import HEADS
from spml.models.weights import load_embedding
from spml.names import RELATIONS, split_architecture
from spml.segsort.criterion import RelationCriterion, Settings
from spml.segsort.memory_bank import MemoryBank
from spml.training.loop import exit_together, train
from spml.training.optimizer import FoldedSGD, freeze_stages, parameter_groups
from spml.training.tasks import CamTask, ClassifierTask, EmbeddingTask, Training
from spml.utils import distributed, launch
from spml.utils.device import convolutions, seed_everything, steady_convolutions
from spml.utils.files import model_path
from spml.utils.workers import processors

logger = logging.getLogger(__name__)

# METHOD.md, "Augmentation".
EMBEDDING_AUGMENTATION = {'scale_range': (0.5, 1.5)}
CLASSIFIER_AUGMENTATION = {'scale_range': (0.5, 2.0), 'grey_probability': 0.3, 'blur_probability': 0.5}


def train_embedding(config, data_dir, data_list, snapshot_dir, device, resume=False, accept_changes=False):
    """Train the embedding network and the joint softmax head on the images and weak labels of a list file."""
    entries = _read_entries(config, 'segsort', data_dir, data_list, fields=(3,))
    seed_everything(config.seed)
    task = build_embedding_task(config, _too_common(config, entries)).to(device)
    _start_backbone(task.embedding, config)
    # With kinds of labels the task has weighted its losses already, each by the kinds of its pixels.
    loss_weights = dict.fromkeys(_weights(config.train), 1.0) if config.train.kinds else _weights(config.train)
    named = {entry.kind for entry in entries} - {None}
    if config.train.kinds and named and not named & config.train.kinds.keys():
        logger.warning('train.kinds has no effect: it says nothing of the kinds that %s names (%s)', data_list,
                       ', '.join(sorted(named)))
    _train(config, entries, task, [task.embedding.head, task.classifier], loss_weights, EMBEDDING_AUGMENTATION,
           snapshot_dir, device, resume, accept_changes)


def train_classifier(config, data_dir, data_list, snapshot_dir, device, resume=False, accept_changes=False,
                     embedding=None):
    """Train a fresh softmax head on an embedding, frozen unless the configuration says otherwise.

    The embedding is `network.pretrained`, or `embedding` where that is empty.
    """
    entries = _read_entries(config, 'softmax_classifier', data_dir, data_list, fields=(2, 3))
    weights = starting_weights(config, embedding)
    if weights is None:
        raise ConfigError('network.pretrained is empty; name a trained embedding, its model-*.pth or its folder, with '
                          '--embedding')
    seed_everything(config.seed)
    frozen = config.train.freeze_embedding
    task = ClassifierTask(build_embedding(config), build_classifier(config), config.dataset.num_classes,
                          config.train.precision, frozen)
    load_embedding(task.embedding, weights)
    task.to(device)
    if not frozen:
        freeze_stages(task.embedding.backbone, config.network.frozen_stages)
    heads = [task.classifier] if frozen else [task.embedding.head, task.classifier]
    _train(config, entries, task, heads, {'softmax_loss': 1.0}, CLASSIFIER_AUGMENTATION, snapshot_dir, device, resume,
           accept_changes)


def train_cam(config, data_dir, data_list, snapshot_dir, device, resume=False, accept_changes=False):
    """Train the classifier of image tags whose activation maps are CAMs, from the tags of a list file."""
    entries = _read_entries(config, 'cam', data_dir, data_list, fields=(2, 3))
    check_files(entries)
    _check_tags(config, entries, data_list)
    seed_everything(config.seed)
    task = build_cam_task(config).to(device)
    _start_backbone(task.embedding, config)
    loss_weights = {'tag_loss': 1.0, 'equivariance_loss': config.train.equivariance_loss_weight}
    _train(config, entries, task, [task.classifier], loss_weights, EMBEDDING_AUGMENTATION, snapshot_dir, device, resume,
           accept_changes)


def build_cam_task(config):
    """Return the CamTask that `config` describes, with random weights."""
    scale = config.train.equivariance_scale if config.train.equivariance_loss_weight else None
    return CamTask(*build_cam_network(config), first_tag(config), scale, config.train.precision)


def build_embedding_task(config, left_out=()):
    """Return the EmbeddingTask that `config` describes, with random weights, without the relations `left_out`."""
    settings, processes = config.train, distributed.world_size()
    active = {name: settings[f'{name}_concentration'] for name in RELATIONS
              if settings[f'{name}_loss_types'] != 'none' and name not in left_out}
    criterion = RelationCriterion(active, config.dataset.num_classes, settings.img_sim_with_location,
                                  _by_kind(settings, active) if settings.kinds else None, config.dataset.background)
    bank = MemoryBank(settings.memory_bank_size, images_per_process(config, processes) * processes)
    return EmbeddingTask(build_embedding(config), build_classifier(config), criterion, bank,
                         config.network.kmeans_num_clusters, config.network.kmeans_iterations,
                         settings.embedding_scale, settings.detach_softmax, settings.precision)


def _weights(keys):
    """Return dict from the names of the embedding's losses to their weights."""
    weights = {f'{name}_loss': keys[f'{name}_loss_weight'] for name in RELATIONS}
    return {**weights, 'softmax_loss': keys['sem_ann_loss_weight']}


def _by_kind(keys, relations):
    """Return dict from kinds of labels, and '' for the rest, to the Settings that `train.kinds` gives them."""
    return {kind: Settings({name: own[f'{name}_concentration'] for name in relations}, _weights(own))
            for kind, own in {'': keys, **{kind: {**keys, **own} for kind, own in keys.kinds.items()}}.items()}


def _too_common(config, entries):
    """Return ('sem_occ',) if co-occurrence is on but too many pairs of images share a class, else nothing."""
    largest = config.train.sem_occ_largest_share
    if config.train.sem_occ_loss_types == 'none' or largest == 1:
        return ()
    share = sharing_pairs(read_tags(entries)[:, int(config.dataset.background):config.dataset.num_classes])
    left_out = share > largest
    if distributed.rank() == 0:
        print(f'semantic co-occurrence is {"left out" if left_out else "used"}: {100 * share:.0f} % of the pairs of '
              f'images have a foreground class in common (train.sem_occ_largest_share: {largest:g})', flush=True)
    return ('sem_occ',) if left_out else ()


def _read_entries(config, needed, data_dir, data_list, fields):
    found = config.network.prediction_types
    if found != needed:  # the dropout of the head would be wrong, and nobody would know
        raise ConfigError(f'network.prediction_types is {found}, this training needs {needed}; name its own YAML file')
    return read_list(data_list, data_dir, fields, unique_names=False,
                     allow_absolute=config.dataset.allow_absolute_paths, num_classes=config.dataset.num_classes)


def _check_tags(config, entries, data_list):
    """Count the tags of the list, a share in each process, and say what was found; DataError if there are none."""
    first, counts, problem = first_tag(config), None, ''
    share = entries[distributed.rank()::distributed.world_size()]
    try:
        counts = read_tags(share)[:, first:config.dataset.num_classes].sum(axis=0) if share else 0
    except DataError as error:
        problem = str(error)
    everyones = distributed.gather_objects((counts, problem))
    problem = next((text for _, text in everyones if text), '')
    if not problem:
        counts = sum(counts for counts, _ in everyones)
        problem = '' if counts.any() else (
            f'{data_list}: no image has a tag, neither a class in its label map nor one in the fourth field '
            f'(`image - regions 1,15`){" (0 is background, no tag)" * first}; give the list that has the tags')
    if problem:
        exit_together(DataError(problem), report=distributed.rank() == 0)
    if distributed.rank() == 0:
        print(describe_tags(counts, len(entries), config.dataset.class_names[first:]))


def _start_backbone(network, config):
    """Freeze the stages and load the weights that the configuration names into a network with a backbone."""
    freeze_stages(network.backbone, config.network.frozen_stages)
    weights = starting_weights(config)
    if weights is not None:
        load_embedding(network, weights, lenient=True)
    elif config.network.frozen_stages:
        logger.warning('network.pretrained is empty and %s frozen: those stages stay random; '
                       'set network.frozen_stages=[] to train from random weights', config.network.frozen_stages)


def _loader_maker(config, entries, task, device, augmentation):
    """Check the files of a list and return the function `make_loader` of a Training."""
    check_files(entries)
    check_sample(entries, config.dataset.num_classes, with_regions=task.needs_regions)
    settings, rank, processes = config.train, distributed.rank(), distributed.world_size()
    dataset = SegmentationDataset(
        entries, settings.crop_size, config.dataset.num_classes, config.network.pixel_means, config.network.pixel_stds,
        random_mirror=settings.random_mirror, random_scale=settings.random_scale, random_crop=settings.random_crop,
        swap_parts=config.dataset.swap_parts, seed=config.seed, with_regions=task.needs_regions, **augmentation)

    def make_loader(start):
        sampler = StreamSampler(len(entries), images_per_process(config, processes), rank, processes, settings.shuffle,
                                config.seed, start, settings.max_iteration - start)
        # More than there are processors only take memory, and torch warns of them in each training.
        return build_loader(dataset, sampler, min(config.num_threads, processors()),
                            pin_memory=device.type == 'cuda', seed=config.seed + rank)

    return make_loader


def _train(config, entries, task, heads, loss_weights, augmentation, snapshot_dir, device, resume, accept_changes):
    """Train a task on a list's entries: the backbone, unless the embedding is frozen, and the modules `heads`."""
    settings, backbone = config.train, None if task.frozen else task.embedding.backbone
    optimizer = FoldedSGD(parameter_groups(backbone, heads, settings.weight_decay), settings.momentum)
    if backbone is not None:
        task = _with_batch_norm(task, config, device)
    make_loader = _loader_maker(config, entries, task, device, augmentation)
    training = Training(task, optimizer, loss_weights, make_loader, config, pathlib.Path(snapshot_dir), device,
                        digest(entries))
    with convolutions(settings.precision, device):
        train(training, resume or settings.resume, accept_changes)
    if distributed.rank() == 0:
        print(f'snapshot: {model_path(training.snapshot_dir, settings.max_iteration - 1)}')


def _with_batch_norm(task, config, device):
    """Return the task, batch norms synchronised where asked for and possible; ConfigError if one had a single value."""
    wanted = config.network.use_syncbn and distributed.world_size() > 1
    synchronised = wanted and device.type == 'cuda'
    head, _ = split_architecture(config.network.backbone_types)
    images = images_per_process(config, distributed.world_size())
    fewest = 1 if config.network.prediction_types == 'cam' else HEADS[head].fewest_images
    if images < fewest and not synchronised:
        key = 'total_batch_size' if config.train.total_batch_size else 'batch_size'
        raise ConfigError(f'train.{key}={config.train[key]}: the {head} head normalises one value per image and '
                          f'channel, which needs at least {fewest} images per process; raise it')
    if wanted and not synchronised:
        logger.warning('network.use_syncbn: batch norm is synchronised on GPUs only; '
                       'each process uses its own statistics')
    if not synchronised:
        return task
    if all(type(module) is nn.BatchNorm2d for module in task.modules() if isinstance(module, nn.BatchNorm2d)):
        return nn.SyncBatchNorm.convert_sync_batchnorm(task)
    # timm's batch norms hold their activation, which torch's conversion drops.
    from timm.layers import convert_sync_batchnorm
    return convert_sync_batchnorm(task)


def run_training(doc, train, needs_embedding=False):
    """Parse the command line and call `train` with what it says, here or in the processes that are to train."""
    parser = arguments.build_parser(doc)
    arguments.add_data_arguments(parser)
    parser.add_argument('--snapshot_dir', type=pathlib.Path, required=True,
                        help='folder for snapshots, logs and config.yaml')
    parser.add_argument('--resume', action=argparse.BooleanOptionalAction, default=False,
                        help='continue from the newest complete snapshot in --snapshot_dir, if there is one')
    parser.add_argument('--accept_changes', action='store_true',
                        help='with --resume: continue even if settings, list or number of processes have changed')
    if needs_embedding:
        parser.add_argument('--embedding', type=pathlib.Path, metavar='PATH',
                            help='trained embedding, a model-*.pth or the folder of its training, used where '
                                 'network.pretrained is empty')
    arguments.add_process_argument(parser, 'one on each GPU of the key gpus, 1 without CUDA')
    args, config = arguments.parse(parser)
    steady_convolutions(config.train.precision)
    options = {'embedding': args.embedding} if needs_embedding else {}
    return launch.execute(lambda device: train(config, args.data_dir, args.data_list, args.snapshot_dir, device,
                                               args.resume, args.accept_changes, **options),
                          args.device, args.num_processes, config.gpus)
