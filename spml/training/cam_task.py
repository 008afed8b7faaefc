"""One step of training the tag classifier whose activation maps are CAMs (METHOD.md, "Class activation maps")."""
import torch.nn.functional as F
from torch import nn

from spml.models.cam import equivariance_loss, tag_loss, tag_scores
from spml.training.task import Task
from spml.utils.device import autocast


class CamTask(nn.Module, Task):
    """Backbone and CAM head, trained by the tags of whole images.

    Args:
        embedding: FeatureNetwork.
        classifier: CamHead; its K classes are those from `first_class` on.
        scale: of the copies of the images whose maps are to be those of the images, scaled; None: no copies.
        precision: of the two networks' forward, of PRECISIONS; the losses are float32.
    """

    result = 'cam'
    needs_regions = False
    trains_all = True
    frozen = ()

    def __init__(self, embedding, classifier, first_class=1, scale=None, precision='fp32'):
        super().__init__()
        self.embedding, self.classifier = embedding, classifier
        self.first_class, self.scale, self.precision = first_class, scale, precision

    def forward(self, batch):
        """Return the dict of losses and the extras of a batch, as EmbeddingTask does."""
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

    def accuracy(self, extras):
        """Return the share of decisions on a class in an image that are right."""
        return extras['accuracy']
