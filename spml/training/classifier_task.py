"""One step of training the softmax classifier alone, on a frozen embedding (METHOD.md, "Softmax head")."""
import torch
from torch import nn

from spml.models.heads.softmax import softmax_loss
from spml.training.task import Task
from spml.utils.device import autocast


class ClassifierTask(nn.Module, Task):
    """A softmax head on an embedding network that stays in eval mode.

    Args:
        embedding: EmbeddingNetwork, trained.
        precision: of the two networks' forward, of PRECISIONS; the loss is float32.
    """

    result = 'classifier'
    needs_regions = False
    trains_all = True
    frozen = ('embedding_model',)

    def __init__(self, embedding, classifier, num_classes, precision='fp32'):
        super().__init__()
        self.embedding, self.classifier = embedding.requires_grad_(False), classifier
        self.num_classes, self.precision = num_classes, precision

    def train(self, mode=True):
        """Set the mode of the head; the embedding's batch norms keep their statistics in both modes."""
        super().train(mode)
        self.embedding.eval()
        return self

    def forward(self, batch):
        """Return the dict of losses and the extras of a batch, as EmbeddingTask does."""
        images = batch['image']
        with autocast(self.precision, images.device):
            with torch.no_grad():
                embeddings = self.embedding(images)
            logits = self.classifier(embeddings)
        loss, accuracy = softmax_loss(logits.to(images.dtype), batch['semantic_label'], self.num_classes)
        return {'softmax_loss': loss}, {'accuracy': accuracy, 'embedding': embeddings.to(images.dtype)}

    def accuracy(self, extras):
        """Return the accuracy over labelled pixels."""
        return extras['accuracy']
