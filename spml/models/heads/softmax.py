"""Softmax classifier on unit embeddings (METHOD.md, "Softmax head"); keys `semantic_classifier.{0,1,4}.*`."""
import torch
import torch.nn.functional as F
from torch import nn

from spml.models.precision import compute_in

# When it learns alongside the embedding, and when it is trained alone.
JOINT_DROPOUT, ALONE_DROPOUT = 0.75, 0.65


class SoftmaxClassifier(nn.Module):
    """Two-layer pixel classifier."""

    def __init__(self, embedding_dim, num_classes, dropout):
        super().__init__()
        self.dtype = None  # of the layers, where it is not that of the embeddings
        self.semantic_classifier = nn.Sequential(
            nn.Conv2d(embedding_dim, 2 * embedding_dim, 3, padding=1, bias=False), nn.BatchNorm2d(2 * embedding_dim),
            nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Conv2d(2 * embedding_dim, num_classes, 1))

    def forward(self, embeddings):
        """Map (B, D, h, w) embeddings of any length to (B, C, h, w) logits; they are unit-normalised first."""
        return compute_in(self.dtype, self.semantic_classifier, F.normalize(embeddings, dim=1))


def softmax_loss(logits, labels, num_classes, weights=None):
    """Cross-entropy and pixel accuracy over labelled pixels.

    Args:
        logits: (B, C, h, w), upsampled bilinearly to the label map.
        labels: (B, H, W) int64; values >= num_classes (unlabelled, void) are ignored.
        weights: of the images, a list of B floats, by which their pixels' losses are multiplied; None: 1.

    Returns:
        Scalar loss (0, still differentiable, when no pixel is labelled) and scalar accuracy in 0..1.
    """
    logits = F.interpolate(logits, size=labels.shape[-2:], mode='bilinear', align_corners=False)
    labelled = labels < num_classes
    target = torch.where(labelled, labels, -1)
    count = labelled.sum().clamp(min=1)
    if weights is None or len(set(weights)) == 1:
        loss = F.cross_entropy(logits, target, ignore_index=-1, reduction='sum') / count
        loss = loss if weights is None else weights[0] * loss
    else:
        losses = F.cross_entropy(logits, target, ignore_index=-1, reduction='none').sum(dim=(1, 2))
        loss = (losses * losses.new_tensor(weights)).sum() / count
    accuracy = (logits.detach().argmax(1) == target).sum() / count
    return loss, accuracy
