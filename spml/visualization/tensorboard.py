"""TensorBoard during training: curves, and pictures of what one image goes through.

Training must not depend on TensorBoard: where it isn't installed, or its files cannot be written, one notice is printed
and every call does nothing.
"""
import contextlib
import sys

import torch

from spml.utils.maps import nearest_resize
from spml.visualization.embedding_pca import embedding_pca
from spml.visualization.palette import colourise, colourise_ids


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
