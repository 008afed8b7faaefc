"""What a training consists of: the task, which differs between the trainings, and what belongs to all of them.

A step of the embedding's training (METHOD.md, "Relations"): images -> embedding -> k-means and segments -> segments of
all processes and of the memory bank -> relations; alongside, the softmax head learns on the embeddings, by default
detached. The classifier's trains that head on a trained embedding (METHOD.md, "Softmax head"), that of CAMs a
classifier of image tags (METHOD.md, "Class activation maps").
"""
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from spml.models.heads import softmax_loss
from spml.models.networks import equivariance_loss, tag_loss, tag_scores
from spml.names import VOID
from spml.segsort.criterion import retrieval_accuracy
from spml.segsort.segments import gather_segments, make_segments, nearest_resize
from spml.training.optimizer import FoldedSGD
from spml.utils import distributed
from spml.utils.device import autocast


class Task(nn.Module):
    """What a step of a training computes.

    Called with a batch, a dict, it returns a dict of scalar losses by their names, and extras for the methods below and
    for pictures. `embedding` and `classifier` are its networks, whose forward runs in `precision`, of PRECISIONS; all
    that follows is float32.
    """

    result = ''  # what the training ends with, as `spml.config.effective` names it
    needs_regions = False  # whether batches hold the over-segmentation
    trains_all = True  # whether every parameter gets a gradient in every step, if only of zeros
    frozen = ()  # names of the `models` that stay as they were loaded

    def __init__(self, embedding, classifier, precision):
        super().__init__()
        self.embedding, self.classifier, self.precision = embedding, classifier, precision

    def after_step(self, extras):
        """Remember what later steps need; by default nothing."""

    def accuracy(self, extras):
        """Return the scalar accuracy of a step."""
        return extras['accuracy']

    def models(self):
        """Return the networks by their names in a checkpoint."""
        return {'embedding_model': self.embedding, 'prediction_model': self.classifier}

    def memory(self):
        """Return the list of what a resume needs besides weights and momentum; by default nothing."""
        return []

    def load_memory(self, state, device):
        """Restore what `memory` returned."""


@dataclasses.dataclass(frozen=True)
class Training:
    """One training."""

    task: Task
    optimizer: FoldedSGD
    weights: Mapping[str, float]  # from the name of a loss to its weight
    make_loader: Callable[[int], Iterable[Any]]  # from the first iteration to batches, whose iterator can be closed
    config: Any
    snapshot_dir: pathlib.Path
    device: torch.device
    data: str | None = None  # digest of the training list, noted in snapshots; None if it is not known


class EmbeddingTask(Task):
    """Embedding network, relations and the joint softmax head.

    Args:
        grid: (ky, kx) initial clusters.
        embedding_scale: of the vectors with location, see `make_segments`.
        detach_softmax: whether the softmax head's loss stops at the embeddings.
    """

    result = 'embedding'
    needs_regions = True

    def __init__(self, embedding, classifier, criterion, bank, grid, kmeans_iterations, embedding_scale=1.0,
                 detach_softmax=True, precision='fp32'):
        super().__init__(embedding, classifier, precision)
        self.criterion, self.bank = criterion, bank
        self.grid, self.kmeans_iterations = tuple(grid), kmeans_iterations
        self.embedding_scale, self.detach_softmax = embedding_scale, detach_softmax

    def forward(self, batch):
        """Return losses and extras: `segments`, all in play, `step_segments`, and what pictures show.

        The losses are weighted where the criterion treats kinds of labels differently.
        """
        images, labels = batch['image'], batch['semantic_label']
        with autocast(self.precision, images.device):
            embeddings = self.embedding(images)
        embeddings = embeddings.to(images.dtype)
        size = embeddings.shape[-2:]
        semantic = nearest_resize(labels, size)
        pixels, local = make_segments(
            embeddings, self.embedding.local_features(images, size), semantic,
            nearest_resize(batch['instance_label'], size), batch['tags'], grid=self.grid,
            iterations=self.kmeans_iterations, image_offset=distributed.rank() * len(images),
            embedding_scale=self.embedding_scale)
        step_segments, own_start = gather_segments(local)
        everyone = self.bank.extend(step_segments)
        settings = self.criterion.settings(batch.get('kind', [''] * len(images)))
        losses = self.criterion(pixels, local, everyone, own_start, settings)

        with autocast(self.precision, images.device):
            logits = self.classifier(embeddings.detach() if self.detach_softmax else embeddings)
        weights = settings and [one.weights['softmax_loss'] for one in settings]
        losses['softmax_loss'], _ = softmax_loss(logits.to(images.dtype), labels, self.criterion.num_classes, weights)
        extras = {'segments': everyone.map(torch.Tensor.detach),
                  'step_segments': step_segments.map(torch.Tensor.detach),
                  'embedding': embeddings.detach(), 'clusters': pixels.clusters.masked_fill(semantic == VOID, -1)}
        return losses, extras

    @property
    def trains_all(self):
        """Whether every parameter gets a gradient in every step, if only of zeros."""
        return bool(self.criterion.concentrations) or not self.detach_softmax

    def after_step(self, extras):
        """Remember this step's segments."""
        self.bank.append(extras['step_segments'])

    def accuracy(self, extras):
        """Return the share of nearest segments that have a segment's label."""
        return retrieval_accuracy(extras['segments'])

    def memory(self):
        """Return the segments of earlier steps."""
        return self.bank.state_dict()

    def load_memory(self, state, device):
        """Restore what `memory` returned."""
        self.bank.load_state_dict(state, device)


class ClassifierTask(Task):
    """A softmax head on a trained embedding network, which stays in eval mode unless it is to learn as well."""

    result = 'classifier'

    def __init__(self, embedding, classifier, num_classes, precision='fp32', freeze_embedding=True):
        super().__init__(embedding, classifier, precision)
        self.num_classes, self.freeze_embedding = num_classes, freeze_embedding
        if freeze_embedding:
            self.frozen = ('embedding_model',)
            embedding.requires_grad_(False)

    def train(self, mode=True):
        """Set the mode of what learns; a frozen embedding's batch norms keep their statistics in both modes."""
        super().train(mode)
        if self.freeze_embedding:
            self.embedding.eval()
        return self

    def forward(self, batch):
        """Return the dict of losses and the extras of a batch; the accuracy is over labelled pixels."""
        images = batch['image']
        with autocast(self.precision, images.device):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_embedding):
                embeddings = self.embedding(images)
            logits = self.classifier(embeddings)
        loss, accuracy = softmax_loss(logits.to(images.dtype), batch['semantic_label'], self.num_classes)
        return {'softmax_loss': loss}, {'accuracy': accuracy, 'embedding': embeddings.detach().to(images.dtype)}


class CamTask(Task):
    """Backbone and CAM head, a FeatureNetwork and a CamHead, trained by the tags of whole images.

    Args:
        first_class: the K classes of the head are those from this one on.
        scale: of the copies of the images whose maps are to be those of the images, scaled; None: no copies.
    """

    result = 'cam'

    def __init__(self, embedding, classifier, first_class=1, scale=None, precision='fp32'):
        super().__init__(embedding, classifier, precision)
        self.first_class, self.scale = first_class, scale

    def forward(self, batch):
        """Return the dict of losses and the extras; the accuracy is of decisions on a class in an image."""
        images = batch['image']
        features, maps = self._maps(images)
        tags = batch['tags'][:, self.first_class:self.first_class + maps.shape[1]].to(maps.dtype)
        losses = {'tag_loss': tag_loss(maps, tags)}
        if self.scale is not None:
            size = [max(1, round(self.scale * side)) for side in images.shape[-2:]]
            copies = F.interpolate(images, size=size, mode='bilinear', align_corners=False)
            _, scaled = self._maps(copies)
            losses['tag_loss'] = (losses['tag_loss'] + tag_loss(scaled, tags)) / 2
            losses['equivariance_loss'] = equivariance_loss(maps, scaled, tags)
        accuracy = ((tag_scores(maps.detach()) > 0) == (tags > 0)).to(maps.dtype).mean()
        return losses, {'accuracy': accuracy, 'embedding': features}

    def _maps(self, images):
        """Return features and activation maps, both in the images' type."""
        with autocast(self.precision, images.device):
            features = self.embedding(images)
            maps = self.classifier(features)
        return features.detach().to(images.dtype), maps.to(images.dtype)
