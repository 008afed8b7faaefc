"""The stages of this benchmark that run parts of the program: CRF workers, a training step, data loading.

Their data are made up: smooth noise as images and scores, blocks as labels. The functions return rows for
`measure.judge`.
"""
import contextlib
import io
import pathlib
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from measure import Bar, Case, allocator_peak, measure, run_in_turn

from spml import config as configuration
from spml.data.datasets import SegmentationDataset
from spml.data.lists import read_list
from spml.data.loader import StreamSampler, build_loader
from spml.inference.jobs import Job, make_predictions, make_pseudo_labels
from spml.inference.outputs import CrfParameters, Finish, Prediction, write_label_maps
from spml.inference.predictors import SoftmaxPredictor, build_embedder
from spml.models.build import build_classifier, build_embedding
from spml.models.precision import ready_to_predict
from spml.names import PRECISIONS, RELATIONS
from spml.training.build import EMBEDDING_AUGMENTATION, build_embedding_task
from spml.training.optimizer import FoldedSGD, freeze_stages, parameter_groups
from spml.utils.device import convolutions
from spml.utils.formats import write_png, write_text
from spml.utils.workers import worker_pool

CLASSES = 21
VOC_SIZE = (375, 500)
# What makes inference faster at the cost of other values; and the least probability of a class that CRF looks at alone.
FAST = ('test.precision=bf16', 'test.trim=true', 'test.head_grid=embedding')
FAST_MERGE_BELOW = 1e-3


def crf_row(device, rates, maps=16, size=VOC_SIZE, repeats=(3, 3)):
    """Return the row of CRF over saved score maps: two workers against one."""
    with _noise_folder(maps, size, scores=True) as folder:
        case = Case(f'CRF: {maps} score maps {size[1]} x {size[0]} x {CLASSES}, 2 workers against 1',
                    lambda: _finish_saved(folder, maps, size, 2), lambda: _finish_saved(folder, maps, size, 1),
                    lambda two, one: None if two == one else 'the label maps differ')
        return measure(case, Bar(1.7), rates, device, repeats)


def overlap_row(device, images=64, size=VOC_SIZE, depth=101, crop=512, num_workers=16):
    """Return the row of multi-scale inference with CRF: together, against the slower of network and CRF alone."""
    config = _config(depth, images=1, crop=crop)
    task = build_embedding_task(config).to(device).eval()
    predictor = SoftmaxPredictor(build_embedder(task.embedding, config, device), task.classifier)
    with _noise_folder(images, size, scores=True) as folder:
        functions = {
            name: lambda name=name, crf=crf, workers=workers: make_predictions(
                Job(config, folder, folder / 'images.txt', folder / name, True, Finish(crf), workers), predictor, True)
            for name, crf, workers in (('network', None, 0), ('both', CrfParameters(), num_workers))}
        functions['crf'] = lambda: _finish_saved(folder, images, size, num_workers)
        # The runs announce where their label maps are, but those are gone soon.
        with contextlib.redirect_stdout(io.StringIO()):
            write_text(folder / 'first.txt', '0.jpg\n')
            make_predictions(Job(config, folder, folder / 'first.txt', folder / 'first'), predictor, True)
            seconds, _ = run_in_turn(functions, dict.fromkeys(functions, 1), device)
    slower = max(seconds['network'], seconds['crf'])
    return {'title': f'multi scale + CRF of {images} images, {num_workers} workers, against the slower of network '
                     f'({seconds["network"]:.1f} s) and CRF ({seconds["crf"]:.1f} s) alone', 'fast': seconds['both'],
            'direct': slower, 'ratio': slower / seconds['both'], 'bar': Bar(1 / 1.15), 'difference': None}


def pipeline_rows(device, images=1, size=VOC_SIZE, depth=101, crop=512, num_workers=0):
    """Yield the rows of inference and of pseudo labels: with FAST and as by default, the same weights.

    The softmax head is made to see four classes, as a trained one does in an image.
    """
    plain, fast = ({**_networks(depth, crop, device, overrides), 'merge_below': merge_below}
                   for overrides, merge_below in (((), 0.0), (FAST, FAST_MERGE_BELOW)))
    tasks = {'multi scale + CRF of': ('', Bar(2.5 if device.type == 'cpu' else 1.5)),
             'softmax_random_walk pseudo labels of': ('_labels', Bar(2) if device.type == 'cpu' else None)}
    with _noise_folder(images, size) as folder:
        for title, (what, bar) in tasks.items():
            functions = {name: lambda place=f'{name}{what}', how=how: _predict(folder, place, num_workers, **how)
                         for name, how in (('direct', plain), ('fast', fast))}
            with contextlib.redirect_stdout(io.StringIO()):
                seconds, _ = run_in_turn(functions, dict.fromkeys(functions, 1), device)
            yield {'title': f'{title} {images} x {size[1]} x {size[0]}, deeplab-{depth}: '
                            f'{images / seconds["fast"]:.3g} images/s, by default {images / seconds["direct"]:.3g}',
                   **seconds, 'ratio': seconds['direct'] / seconds['fast'], 'bar': bar, 'difference': None}


def _networks(depth, crop, device, overrides):
    """Return configuration, embedder and softmax head with the weights of one seed."""
    config = _config(depth, images=1, crop=crop, overrides=overrides)
    torch.manual_seed(0)
    embedding, classifier = build_embedding(config), build_classifier(config)
    with torch.no_grad():
        classifier.semantic_classifier[-1].bias[4:] -= 15
    return {'config': config, 'embedder': build_embedder(embedding, config, device),
            'classifier': ready_to_predict(classifier.to(device), config.test.precision)}


def _predict(folder, place, num_workers, config, embedder, classifier, merge_below):
    job = Job(config, folder, folder / 'images.txt', folder / place, True,
              Finish(CrfParameters(merge_below=merge_below)), num_workers)
    if place.endswith('labels'):
        make_pseudo_labels(job, 'softmax_random_walk', {'embedder': embedder, 'classifier': classifier})
    else:
        make_predictions(job, SoftmaxPredictor(embedder, classifier), True)


def step_row(device, rates, images, side, depth=101, repeats=(3, 3)):
    """Return the row of a training step against forward and backward of its networks alone."""
    task, batch, weights, optimizer = _training(device, depth, images, side)

    def step():
        losses, extras = task(batch)
        optimizer.zero_grad()
        sum(weights[name] * loss for name, loss in losses.items()).backward()
        optimizer.step(1e-4)
        task.after_step(extras)

    def networks():
        task.zero_grad()
        embeddings = task.embedding(batch['image'])
        (embeddings.mean() + task.classifier(embeddings.detach()).mean()).backward()

    # The memory bank fills.
    for _ in range(3):
        step()
    case = Case(f'training step: deeplab-{depth}, {images} x {side} x {side}, against its networks alone', step,
                networks, lambda fast, direct: None)
    return measure(case, Bar(1 / 1.15) if device.type != 'cpu' else None, rates, device, repeats)


def precision_rows(device, images, side, depth=101, repeats=3):
    """Yield, by `train.precision`, time and memory of forward and backward, and what changes against fp32.

    A deep network of random weights amplifies rounding: the row of fp32 on images rounded to bfloat16 says how much.
    """
    task, batch, weights, _ = _training(device, depth, images, side)
    rounded = {**batch, 'image': batch['image'].bfloat16().to(batch['image'].dtype)}
    reference = None
    for title, precision, used in (('fp32', 'fp32', batch), ('fp32, images rounded to bfloat16', 'fp32', rounded),
                                   *((name, name, batch) for name in PRECISIONS[1:])):
        task.precision = precision

        def run(used=used):
            task.zero_grad()
            # The same dropout every time.
            torch.manual_seed(0)
            losses, extras = task(used)
            total = sum(weights[name] * loss for name, loss in losses.items())
            total.backward()
            grads = torch.cat([p.grad.flatten() for p in task.embedding.parameters() if p.grad is not None])
            return total.detach(), F.normalize(extras['embedding'], dim=1).flatten(), grads

        with convolutions(precision, device):
            run()
            seconds, results = run_in_turn({'step': run}, {'step': repeats}, device)
            # What the last run left is part of what a run takes.
            task.zero_grad()
            peak = allocator_peak(run, device)
        found = results['step']
        reference = reference or found
        yield {'precision': title, 'seconds': seconds['step'], 'bytes': peak,
               'loss_change': (found[0] / reference[0] - 1).item(),
               **{f'{name}_cosine': F.cosine_similarity(one.double(), other.double(), dim=0).item()
                  for name, one, other in zip(('embedding', 'gradient'), found[1:], reference[1:], strict=True)}}


def loader_rows(needed, images=96, size=VOC_SIZE, crop=512, num_workers=4):
    """Yield the rows of data loading: one worker's seconds an image, with and without augmentation.

    `needed` are the seconds an image that the training step takes; `num_workers` workers, as many as a process has by
    default, have to be as fast together.
    """
    with _noise_folder(images, size) as folder:
        entries = read_list(folder / 'images.txt', folder, fields=(3,))
        for augmented in (True, False):
            dataset = SegmentationDataset(entries, (crop, crop), CLASSES, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
                                          *3 * [augmented], **EMBEDDING_AUGMENTATION)

            def load(dataset=dataset):
                for _ in build_loader(dataset, StreamSampler(images, 4, num_steps=images // 4), num_workers=1):
                    pass

            seconds, _ = run_in_turn({'load': load}, {'load': 3}, torch.device('cpu'))
            each = seconds['load'] / images
            yield {'title': f'data loading {"with" if augmented else "without"} augmentation: {1 / each:.1f} '
                            f'images/s a worker, {num_workers} workers against the step, per image',
                   'fast': each / num_workers, 'direct': needed, 'ratio': needed * num_workers / each,
                   'bar': Bar(1.0), 'difference': None}


def _finish_saved(folder, maps, size, num_workers):
    """Run CRF over the score maps of a folder; returns the bytes of the label maps."""
    target = folder / f'workers_{num_workers}'
    with worker_pool(num_workers, 'CRF') as submit:
        for index in range(maps):
            prediction = Prediction(np.load(folder / f'{index}.npy'), _picture(*size, seed=index), size)
            submit(write_label_maps, prediction, Finish(CrfParameters()), None, str(index), str(target))
    return [(target / 'semantic_gray' / f'{index}.png').read_bytes() for index in range(maps)]


@contextlib.contextmanager
def _noise_folder(images, size, scores=False):
    """Yield a folder of pictures (JPEG), class and region labels (PNG), score maps and `images.txt`, their list."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        folder, lines = pathlib.Path(name), []
        for index in range(images):
            Image.fromarray(_picture(*size, seed=index)).save(folder / f'{index}.jpg', quality=90)
            for labels in ('class', 'region'):
                write_png(folder / f'{labels}_{index}.png', _blocks(*size, seed=index).numpy().astype(np.uint8))
            if scores:
                np.save(folder / f'{index}.npy', _smooth(CLASSES, *size, seed=index).softmax(dim=0).numpy())
            lines.append(f'{index}.jpg class_{index}.png region_{index}.png\n')
        write_text(folder / 'images.txt', ''.join(lines))
        yield folder


def _smooth(channels, height, width, seed):
    """Return (channels, height, width) smooth noise with a little rough noise on it."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, channels, 8, 10, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode='bicubic')[0]
    return smooth + 0.05 * torch.randn(smooth.shape, generator=generator)


def _picture(height, width, seed):
    """Return (height, width, 3) uint8."""
    return (128 + 60 * _smooth(3, height, width, seed)).clamp(0, 255).byte().permute(1, 2, 0).numpy()


def _blocks(height, width, seed, side=40):
    """Return (height, width) int64 blocks: background, two classes, and unlabelled (CLASSES)."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.tensor([0, *torch.randint(1, CLASSES, (2,), generator=generator), CLASSES])
    blocks = classes[torch.randint(0, 4, (-(-height // side), -(-width // side)), generator=generator)]
    return blocks.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width]


def _config(depth, images, crop=512, overrides=()):
    relations = {f'{name}_loss_types': 'none' if name == 'feat_aff' else 'segsort' for name in RELATIONS}
    return configuration.resolve({
        'dataset': {'num_classes': CLASSES}, 'train': {'max_iteration': 1, 'batch_size': images, **relations},
        'network': {'backbone_types': f'panoptic_deeplab_{depth}', 'embedding_dim': 64},
        'test': {'crop_size': [crop, crop]}}, overrides)


def _training(device, depth, images, side):
    """Return task, batch, weights of the losses, and optimizer of the published VOC training."""
    config = _config(depth, images)
    torch.manual_seed(0)
    task = build_embedding_task(config).to(device).train()
    freeze_stages(task.embedding.backbone, config.network.frozen_stages)
    labels = torch.stack([_blocks(side, side, seed=index) for index in range(images)])
    batch = {'image': torch.stack([_smooth(3, side, side, seed=index) for index in range(images)]),
             'semantic_label': labels, 'tags': F.one_hot(labels, 256).amax(dim=(1, 2)).bool(),
             'instance_label': torch.stack([_blocks(side, side, seed=100 + index) for index in range(images)])}
    weights = {f'{name}_loss': config.train[f'{name}_loss_weight'] for name in RELATIONS} | {'softmax_loss': 1.0}
    groups = parameter_groups(task.embedding.backbone, [task.embedding.head, task.classifier], 5e-4)
    return task, {name: value.to(device) for name, value in batch.items()}, weights, FoldedSGD(groups, 0.9)
