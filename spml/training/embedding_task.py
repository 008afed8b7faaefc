"""One step of embedding training, from a batch to named losses (METHOD.md, "Relations").

images -> embedding -> k-means and segments -> segments of all processes and of the memory bank -> relations;
alongside, the softmax head learns on the embeddings, by default detached.
"""
import torch
from torch import nn

from spml.models.heads.softmax import softmax_loss
from spml.names import VOID
from spml.segsort.criterion import retrieval_accuracy
from spml.segsort.gather import gather_segments
from spml.segsort.segments import make_segments, nearest_resize
from spml.training.task import Task
from spml.utils import distributed
from spml.utils.device import autocast


class EmbeddingTask(nn.Module, Task):
    """Embedding network, relations and the joint softmax head.

    Args:
        grid: (ky, kx) initial clusters.
        embedding_scale: of the vectors with location, see `make_segments`.
        detach_softmax: whether the softmax head's loss stops at the embeddings.
        precision: of the two networks' forward, of PRECISIONS; all that follows is float32.
    """

    result = 'embedding'
    needs_regions = True
    frozen = ()

    def __init__(self, embedding, classifier, criterion, bank, grid, kmeans_iterations, embedding_scale=1.0,
                 detach_softmax=True, precision='fp32'):
        super().__init__()
        self.embedding, self.classifier = embedding, classifier
        self.criterion, self.bank = criterion, bank
        self.grid, self.kmeans_iterations = tuple(grid), kmeans_iterations
        self.embedding_scale, self.detach_softmax, self.precision = embedding_scale, detach_softmax, precision

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
        """Return what a resume needs besides weights and momentum."""
        return self.bank.state_dict()

    def load_memory(self, state, device):
        """Restore what `memory` returned."""
        self.bank.load_state_dict(state, device)
