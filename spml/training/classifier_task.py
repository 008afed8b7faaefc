"""One step of training the softmax classifier alone, on a frozen embedding (METHOD.md, "Softmax head")."""
import torch
from torch import nn

from spml.models.heads.softmax import softmax_loss


class ClassifierTask(nn.Module):
    """A softmax head on an embedding network that stays in eval mode and receives no gradient.

    Args:
        embedding: EmbeddingNetwork, trained.
        classifier: SoftmaxClassifier.
        num_classes: C.
    """

    def __init__(self, embedding, classifier, num_classes):
        super().__init__()
        self.embedding = embedding.requires_grad_(False)
        self.classifier = classifier
        self.num_classes = num_classes

    def train(self, mode=True):
        """Set the mode of the head; batch norms of the embedding keep their statistics in either."""
        super().train(mode)
        self.embedding.eval()
        return self

    def forward(self, batch):
        """Return the dict of losses and the extras of a batch, as EmbeddingTask does."""
        with torch.no_grad():
            embeddings = self.embedding(batch['image'])
        loss, accuracy = softmax_loss(self.classifier(embeddings), batch['semantic_label'], self.num_classes)
        return {'softmax_loss': loss}, {'accuracy': accuracy, 'embedding': embeddings}

    @property
    def trains_all(self):
        """The head's parameters all get a gradient in every step."""
        return True

    def after_step(self, extras):
        """Nothing is remembered between steps."""

    def accuracy(self, extras):
        """Return the accuracy over labelled pixels."""
        return extras['accuracy']

    def models(self):
        """Return the networks by their names in a checkpoint."""
        return {'embedding_model': self.embedding, 'prediction_model': self.classifier}

    def memory(self):
        """Nothing beside weights and momentum."""
        return []

    def load_memory(self, state, device):
        """Nothing to restore."""
