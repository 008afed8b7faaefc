"""Building and running a training from a checked configuration: the one place of `spml.training` that reads keys."""
import logging
import pathlib

from torch import nn

from spml.config import images_per_process
from spml.data.check import check_sample
from spml.data.datasets import SegmentationDataset
from spml.data.lists import check_files, digest, read_list
from spml.data.loader import StreamSampler, build_loader
from spml.errors import ConfigError
from spml.models.build import build_classifier, build_embedding, starting_weights
from spml.models.weights import load_embedding
from spml.segsort.criterion import RELATIONS, RelationCriterion
from spml.segsort.memory_bank import MemoryBank
from spml.training.classifier_task import ClassifierTask
from spml.training.embedding_task import EmbeddingTask
from spml.training.loop import train
from spml.training.optimizer import FoldedSGD, freeze_stages, parameter_groups
from spml.utils import distributed
from spml.utils.device import convolutions
from spml.utils.seeding import seed_everything

logger = logging.getLogger(__name__)

# METHOD.md, "Augmentation".
EMBEDDING_AUGMENTATION = {'scale_range': (0.5, 1.5)}
CLASSIFIER_AUGMENTATION = {'scale_range': (0.5, 2.0), 'grey_probability': 0.3, 'blur_probability': 0.5}


def train_embedding(config, data_dir, data_list, snapshot_dir, device, resume=False, accept_changes=False):
    """Train the embedding network and the joint softmax head on the images and weak labels of a list file."""
    _check_training(config, 'segsort')
    _share_out_batch(config)
    entries = _read_entries(config, data_dir, data_list, fields=(3,))
    seed_everything(config.seed)
    task = build_embedding_task(config).to(device)
    freeze_stages(task.embedding.backbone, config.network.frozen_stages)
    if config.network.pretrained:
        load_embedding(task.embedding, starting_weights(config), lenient=True)
    elif config.network.frozen_stages:
        logger.warning('network.pretrained is empty and %s frozen: those stages stay random; '
                       'set network.frozen_stages=[] to train from random weights', config.network.frozen_stages)
    optimizer = FoldedSGD(parameter_groups(task.embedding.backbone, [task.embedding.head, task.classifier],
                                           config.train.weight_decay), config.train.momentum)
    weights = {f'{name}_loss': config.train[f'{name}_loss_weight'] for name in RELATIONS}
    weights['softmax_loss'] = config.train.sem_ann_loss_weight
    synchronised = config.network.use_syncbn and distributed.world_size() > 1 and device.type == 'cuda'
    if config.train.batch_size == 1 and not synchronised and 'pspnet' in config.network.backbone_types:
        raise ConfigError('train.batch_size=1: the PSP head normalises one value per image and channel, which needs at '
                          'least 2 images; raise it')
    if config.network.use_syncbn:
        task = _with_synchronised_batch_norm(task, device)
    _run(task, optimizer, weights, config, entries, snapshot_dir, device, resume, accept_changes,
         EMBEDDING_AUGMENTATION)


def train_classifier(config, data_dir, data_list, snapshot_dir, device, resume=False, accept_changes=False):
    """Train a fresh softmax head on the frozen embedding `network.pretrained`."""
    _check_training(config, 'softmax_classifier')
    _share_out_batch(config)
    entries = _read_entries(config, data_dir, data_list, fields=(2, 3))
    if not config.network.pretrained:
        raise ConfigError('network.pretrained is empty; name the model-*.pth of a trained embedding')
    seed_everything(config.seed)
    task = ClassifierTask(build_embedding(config), build_classifier(config), config.dataset.num_classes,
                          config.train.precision)
    load_embedding(task.embedding, starting_weights(config))
    task.to(device)
    optimizer = FoldedSGD(parameter_groups(None, [task.classifier], config.train.weight_decay), config.train.momentum)
    _run(task, optimizer, {'softmax_loss': 1.0}, config, entries, snapshot_dir, device, resume, accept_changes,
         CLASSIFIER_AUGMENTATION)


def _read_entries(config, data_dir, data_list, fields):
    return read_list(data_list, data_dir, fields, unique_names=False,
                     allow_absolute=config.dataset.allow_absolute_paths)


def _check_training(config, kind):
    """Refuse the configuration of the other training: the head's dropout would be wrong without a word."""
    found = config.network.prediction_types
    if found != kind:
        raise ConfigError(f'network.prediction_types is {found}, this training needs {kind}; name its own YAML file')


def _share_out_batch(config):
    """Set `train.batch_size`, the images of each process, from `train.total_batch_size` where that is given."""
    total, processes = config.train.total_batch_size, distributed.world_size()
    if total:
        config.train.batch_size = images_per_process(config, processes)
        used = config.train.batch_size * processes
        if distributed.rank() == 0:
            print(f'training on {processes} {"process" if processes == 1 else "processes"} x {config.train.batch_size} '
                  f'images' + ('' if used == total else f' = {used}: {total} cannot be shared out evenly'))


def build_embedding_task(config):
    """Return the EmbeddingTask that `config` describes, with random weights."""
    settings = config.train
    active = {name: settings[f'{name}_concentration'] for name in RELATIONS if settings[f'{name}_loss_types'] != 'none'}
    criterion = RelationCriterion(active, config.dataset.num_classes, settings.img_sim_with_location)
    bank = MemoryBank(settings.memory_bank_size, settings.batch_size * distributed.world_size())
    return EmbeddingTask(build_embedding(config), build_classifier(config), criterion, bank,
                         config.network.kmeans_num_clusters, config.network.kmeans_iterations,
                         settings.embedding_scale, settings.detach_softmax, settings.precision)


def _run(task, optimizer, weights, config, entries, snapshot_dir, device, resume, accept_changes, augmentation):
    check_files(entries)
    check_sample(entries, config.dataset.num_classes, with_instance=isinstance(task, EmbeddingTask))
    snapshot_dir = pathlib.Path(snapshot_dir)
    settings = config.train
    dataset = SegmentationDataset(
        entries, settings.crop_size, config.dataset.num_classes, config.network.pixel_means, config.network.pixel_stds,
        random_mirror=settings.random_mirror, random_scale=settings.random_scale, random_crop=settings.random_crop,
        swap_parts=config.dataset.swap_parts, seed=config.seed,
        with_instance=isinstance(task, EmbeddingTask), **augmentation)

    def make_loader(start):
        sampler = StreamSampler(len(entries), settings.batch_size, distributed.rank(), distributed.world_size(),
                                settings.shuffle, config.seed, start, settings.max_iteration - start)
        return build_loader(dataset, sampler, config.num_threads, pin_memory=device.type == 'cuda',
                            seed=config.seed + distributed.rank())

    with convolutions(settings.precision, device):
        train(task, optimizer, make_loader, weights, config, snapshot_dir, device, resume or settings.resume,
              accept_changes, digest(entries))
    if distributed.rank() == 0:
        print(f'snapshot: {snapshot_dir / f"model-{settings.max_iteration - 1}.pth"}')


def _with_synchronised_batch_norm(task, device):
    if distributed.world_size() == 1:
        return task
    if device.type != 'cuda':
        logger.warning('network.use_syncbn: batch norm is synchronised on GPUs only; '
                       'each process uses its own statistics')
        return task
    return nn.SyncBatchNorm.convert_sync_batchnorm(task)
