"""TensorBoard during training: curves, and pictures of what one image goes through.

Training must not depend on TensorBoard: where it isn't installed, or its files cannot be written, one notice is printed
and every call does nothing.
"""
import contextlib
import sys

import torch

from spml.utils.maps import nearest_resize
from spml.visualization.palette import colourise, colourise_ids

# A component this much weaker than the first, or than the embedding itself, is rounding, which stretching to 0..255
# would show as structure.
_NEGLIGIBLE_TO_FIRST = 1e-10
_NEGLIGIBLE_TO_ENERGY = 1e-20


class TrainingWriter:
    """Writes event files under `log_dir`, or nothing where TensorBoard isn't installed.

    `start` is the first iteration that will be written; what an earlier run wrote from there on is no longer shown.
    """

    def __init__(self, log_dir, start=0):
        try:
            from torch.utils.tensorboard import SummaryWriter  # late: it takes seconds and may be missing
        except ImportError:
            print('notice: tensorboard is not installed, so no curves and pictures are written; '
                  '`pip install tensorboard` brings them', file=sys.stderr)
            self._writer = None
        else:
            self._writer = SummaryWriter(str(log_dir), purge_step=start or None)
            self._log_dir = log_dir

    def scalars(self, iteration, values):
        """Write a dict of numbers, each under its key."""
        if self._writer is not None:
            with self._giving_up_on_disk_trouble():
                for name, value in values.items():
                    self._writer.add_scalar(name, float(value), iteration)

    def images(self, iteration, image, means, stds, num_classes, *, color_map=None, semantic_label=None,
               regions=None, clusters=None, embedding=None):
        """Write the pictures of one image; what is None is left out. All are shown in the size of the image.

        Args:
            iteration: the step they belong to.
            image, means, stds: (3, H, W) float tensor, normalised: (RGB in 0..1 - means) / stds; three floats each.
            num_classes, color_map: as in `colourise`.
            semantic_label, regions: (h, w) int tensors, the weak label and the over-segmentation; any h, w.
            clusters: (h, w) int tensor of cluster ids; negative where pixels were dropped.
            embedding: (D, h, w) float tensor, shown by its principal components.
        """
        if self._writer is None:
            return
        pixels = image.detach().cpu().double().permute(1, 2, 0)
        rgb = pixels * torch.as_tensor(stds, dtype=torch.float64) + torch.as_tensor(means, dtype=torch.float64)
        pictures = {'image': (rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()}
        if semantic_label is not None:
            pictures['weak_label'] = colourise(semantic_label.cpu().numpy(), num_classes, color_map)
        for name, ids in (('over_segmentation', regions), ('clusters', clusters)):
            if ids is not None:
                pictures[name] = colourise_ids(ids.cpu().numpy())
        if embedding is not None:
            pictures['embedding_pca'] = embedding_pca(embedding)
        with self._giving_up_on_disk_trouble():
            for name, picture in pictures.items():
                picture = nearest_resize(picture, image.shape[-2:])
                self._writer.add_image(f'images/{name}', picture, iteration, dataformats='HWC')

    def close(self):
        """Flush and close the event file."""
        if self._writer is not None:
            with self._giving_up_on_disk_trouble():
                self._writer.close()

    @contextlib.contextmanager
    def _giving_up_on_disk_trouble(self):
        try:
            yield
        except OSError as error:
            self._writer = None
            print(f'notice: {self._log_dir}: {error.strerror or error}; no more curves and pictures are written',
                  file=sys.stderr)


def embedding_pca(embedding):
    """Return the first three principal components of one image's embedding as an RGB picture, (H, W, 3) uint8.

    The embedding is a (D, H, W) float tensor or array, on any device, with or without gradient. Each component is
    stretched to the full range; one without variance is mid-grey. A component's sign is chosen so that its largest
    weight is positive, which makes the result a function of the input alone.
    """
    embedding = torch.as_tensor(embedding).detach().to('cpu', torch.float64)
    channels, height, width = embedding.shape
    pixels = embedding.reshape(channels, -1).T
    energy = pixels.square().sum()
    pixels = pixels - pixels.mean(0)
    variance, axes = torch.linalg.eigh(pixels.T @ pixels)  # ascending
    variance, axes = variance.flip(0)[:3], axes.flip(1)[:, :3]
    largest = axes.abs().argmax(0, keepdim=True)
    components = pixels @ (axes * axes.gather(0, largest).sign())

    rgb = torch.full((height * width, 3), 128, dtype=torch.uint8)
    negligible = torch.maximum(_NEGLIGIBLE_TO_FIRST * variance[0], _NEGLIGIBLE_TO_ENERGY * energy)
    for index in torch.nonzero(variance > negligible).flatten().tolist():
        values = components[:, index]
        low, high = values.min(), values.max()
        rgb[:, index] = ((values - low) / (high - low) * 255).round().to(torch.uint8)
    return rgb.reshape(height, width, 3).numpy()
