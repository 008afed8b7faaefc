"""Segmenting images from Python with trained networks.

    segmenter = spml.load_segmenter('snapshots/demo/spml_scribble')
    result = segmenter.predict('image.jpg')

What `predict` returns is what `pyscripts/inference/inference.py --predictor softmax` writes, pixel by pixel, with the
probabilities and the embedding as well as the labels.

Shape letters: H x W the image, C classes, D channels of the embedding.
"""
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from spml.data.readers import image_pixels, read_image
from spml.errors import CheckpointError
from spml.inference.outputs import CrfParameters, Finish, Prediction, finish, require_crf
from spml.inference.predictors import Embedder, SoftmaxPredictor, cut, for_finish, predict_pixels
from spml.inference.trained import Trained
from spml.inference.views import View, shrunk_size, single_scale_size
from spml.names import VOID
from spml.segsort.segments import nearest_resize
from spml.utils.device import pick_device
from spml.utils.files import newest_model
from spml.visualization.palette import class_colours

StrPath: TypeAlias = str | os.PathLike[str]
# A file, or the pixels themselves: (H, W, 3) uint8 RGB.
ImageLike: TypeAlias = StrPath | NDArray[np.uint8] | Image.Image


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What a Segmenter predicts for one image of H x W pixels.

    Attributes:
        labels: (H, W) uint8 class ids, at each pixel the class of the largest probability.
    """

    labels: NDArray[np.uint8]
    # (C, h, w) and (D, h, w), at the sizes at which they were computed: of a large photo, all of it takes gigabytes.
    _scores: NDArray[np.float32]
    _vectors: torch.Tensor

    @functools.cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(C, H, W) float32; they sum to 1 over the classes."""
        resized: NDArray[np.float32] = nearest_resize(torch.from_numpy(self._scores), self.labels.shape).numpy()
        return resized

    @functools.cached_property
    def embedding(self) -> NDArray[np.float32]:
        """(D, H, W) float32 unit vectors, from the image at a single scale."""
        resized: NDArray[np.float32] = nearest_resize(self._vectors, self.labels.shape).numpy()
        return resized


class Segmenter:
    """An embedding network with its softmax head, ready to label images.

    Attributes:
        config: the resolved configuration, an EasyDict of sections.
        class_names: C strings.
        colours: C tuples (R, G, B) in which pictures show the classes.
        has_background: whether class 0 is whatever no other class covers; otherwise it is a class as the others.
        void: what a label map has where a pixel is not a class and does not count; never predicted.
        device: torch.device it computes on.
        embedder: the embedding network with its sliding window.
    """

    void: Final = VOID

    def __init__(self, config: Any, embedder: Embedder, classifier: torch.nn.Module) -> None:
        """Take both networks, in eval mode and on one device."""
        self.config = config
        self.class_names: tuple[str, ...] = tuple(config.dataset.class_names)
        self.colours: tuple[tuple[int, int, int], ...] = tuple(
            class_colours(len(self.class_names), config.dataset.get('color_map')))
        self.has_background: bool = config.dataset.background
        self.device: torch.device = embedder.device
        self.embedder, self.classifier = embedder, classifier

    @overload
    def predict(self, image: ImageLike, *, multi_scale: bool = False,  # type: ignore[overload-overlap]  # str first
                crf: bool = False) -> Segmentation: ...

    @overload
    def predict(self, image: Sequence[ImageLike], *, multi_scale: bool = False,
                crf: bool = False) -> list[Segmentation]: ...

    def predict(self, image: ImageLike | Sequence[ImageLike], *, multi_scale: bool = False,
                crf: bool = False) -> Segmentation | list[Segmentation]:
        """Segment an image, or each of several, whose sizes may differ.

        Args:
            image: the path of a JPEG or PNG, (H, W, 3) uint8 RGB pixels or a PIL image; or a list of these, or
                (B, H, W, 3) pixels, for a list of results. The EXIF orientation of files and PIL images is applied:
                results are of upright pixels.
            multi_scale: average over scales 0.5 to 1.5 and their mirrors, instead of one scale (`test.image_size`).
            crf: sharpen the probabilities with DenseCRF at its published parameters.

        Raises:
            DataError: a file cannot be read; pixels are not 8-bit RGB, or a PIL image is one that is refused as a file.
            SpmlError: `crf` without pydensecrf.
        """
        if ((isinstance(image, Sequence) and not isinstance(image, str))
                or (isinstance(image, np.ndarray) and image.ndim == 4)):
            return [self._predict(_pixels(item), multi_scale, crf) for item in image]
        return self._predict(_pixels(image), multi_scale, crf)

    def _predict(self, pixels: NDArray[np.uint8], multi_scale: bool, crf: bool) -> Segmentation:
        if crf:
            require_crf()
        how, test = Finish(CrfParameters() if crf else None), self.config.test
        image_size = 0 if multi_scale else test.image_size
        looked_at = (single_scale_size(pixels.shape[:2], image_size) if image_size
                     else shrunk_size(pixels.shape[:2], test.max_pixels))
        predictor = _EmbeddingKeeper(self.embedder, self.classifier, looked_at)
        prediction: Prediction = predict_pixels(pixels, predictor, self.config, multi_scale)
        labels, scores = finish(for_finish(prediction, self.config, how), how)
        assert predictor.embedding is not None
        return Segmentation(labels, scores, predictor.embedding.cpu())


@dataclasses.dataclass
class _EmbeddingKeeper(SoftmaxPredictor):
    """A softmax predictor that keeps the unit embedding, (D, h, w), of the plain view of a size: no second pass."""

    size: tuple[int, ...] = ()
    embedding: torch.Tensor | None = None

    def scores(self, view: View, span_padded: bool = True) -> torch.Tensor:
        """Return (1, C, h, w) logits, averaged over windows."""
        def both(images: torch.Tensor) -> torch.Tensor:
            embedding, logits = self.embedder.embed_and_classify(images, self.classifier)
            return torch.cat([logits, F.normalize(embedding, dim=1)], dim=1)

        if view.size == self.size and not view.mirrored:
            values = cut(self.embedder.windows(view, both), view.size)
            num_classes: int = values.shape[1] - self.embedder.network.embedding_dim
            self.embedding = F.normalize(values[0, num_classes:], dim=0)
            logits: torch.Tensor = values[:, :num_classes]
        else:
            logits = super().scores(view)
        return logits


def load_segmenter(source: StrPath, device: str | torch.device | None = None,
                   config: StrPath | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> Segmenter:
    """Load a trained embedding network and its softmax head.

    Args:
        source: a `model-*.pth`; the folder of a training, whose newest one is taken; or that of a pipeline's run, whose
            last classifier is taken, or the embedding with its joint head where there is none yet.
        device: `cuda`, `cuda:1`, `cpu` ...; by default CUDA where there is one.
        config: a YAML file, or a dict of sections, to use instead of the configuration that a checkpoint carries.
        overrides: strings `section.key=value`, for example `test.image_size=0`.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or it does not fit its configuration.
        ConfigError: the configuration, an override or the device cannot be used.
    """
    trained, device = Trained(find_checkpoint(source), config, overrides), pick_device(device)
    return Segmenter(trained.config, trained.embedder(device), trained.classifier(device))


def find_checkpoint(source: StrPath) -> pathlib.Path:
    """Return the checkpoint that `source` means, see `load_segmenter`."""
    source = pathlib.Path(source)
    if not source.is_dir():
        return source
    classifiers = (folder for folder in source.glob('classifier*') if re.fullmatch(r'classifier(_\d+)?', folder.name))
    for folder in (source, *sorted(classifiers, reverse=True), source / 'stage1'):
        newest: pathlib.Path | None = newest_model(folder)
        if newest is not None:
            return newest
    raise CheckpointError(f'{source}: holds no model-*.pth, nor does its stage1/ or classifier/; train first, or name '
                          'the folder of a run or a file')


def _pixels(image: ImageLike) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8 RGB."""
    pixels: NDArray[np.uint8] = (read_image if isinstance(image, str | os.PathLike) else image_pixels)(image)
    return pixels
