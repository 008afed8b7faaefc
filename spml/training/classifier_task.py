"""One step of training the softmax classifier on a trained embedding (METHOD.md, "Softmax head")."""
import torch
from torch import nn

from spml.models.heads.softmax import softmax_loss
from spml.training.task import Task
from spml.utils.device import autocast


class ClassifierTask(nn.Module, Task):
    """A softmax head on an embedding network, which stays in eval mode unless it is to learn as well.

    Args:
        embedding: EmbeddingNetwork, trained.
        precision: of the two networks' forward, of PRECISIONS; the loss is float32.
        freeze_embedding: whether the embedding network stays as it is.
    """

    result = 'classifier'
    needs_regions = False
    trains_all = True

    def __init__(self, embedding, classifier, num_classes, precision='fp32', freeze_embedding=True):
        super().__init__()
        self.embedding, self.classifier = embedding, classifier
        self.num_classes, self.precision, self.freeze_embedding = num_classes, precision, freeze_embedding
        self.frozen = ('embedding_model',) if freeze_embedding else ()
        if freeze_embedding:
            embedding.requires_grad_(False)

    def train(self, mode=True):
        """Set the mode of what learns; a frozen embedding's batch norms keep their statistics in both modes."""
        super().train(mode)
        if self.freeze_embedding:
            self.embedding.eval()
        return self

    def forward(self, batch):
        """Return the dict of losses and the extras of a batch, as EmbeddingTask does."""
        images = batch['image']
        with autocast(self.precision, images.device):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_embedding):
                embeddings = self.embedding(images)
            logits = self.classifier(embeddings)
        loss, accuracy = softmax_loss(logits.to(images.dtype), batch['semantic_label'], self.num_classes)
        return {'softmax_loss': loss}, {'accuracy': accuracy, 'embedding': embeddings.detach().to(images.dtype)}

    def accuracy(self, extras):
        """Return the accuracy over labelled pixels."""
        return extras['accuracy']
