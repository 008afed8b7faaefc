"""From a view of an image to scores: by retrieval of prototypes, or by the softmax head (METHOD.md, "Inference").

A predictor turns a View into (1, C, h, w) scores of the unpadded view; `to_probability` turns scores, after any
resizing, into probabilities. `predict` runs one over a single scale or a pyramid, so every variant of inference is one
code path. The prototypes that retrieval looks up are made and read here, too.

Shape letters: C classes, D channels, H x W the padded view, h x w the view.
"""
import dataclasses
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from spml.data.readers import read_prototypes
from spml.data.transforms import normalise
from spml.errors import DataError
from spml.inference.outputs import Prediction, denormalise
from spml.inference.views import (
    bilinear,
    pad_to_crop,
    pyramid,
    resize_view,
    shrink,
    shrunk_size,
    single_scale_size,
    sliding_window,
)
from spml.models.precision import ready_to_predict
from spml.segsort.clustering import cluster_image
from spml.segsort.retrieval import NEIGHBOURS, cluster_prototypes, majority_labels, nearest_label_counts
from spml.segsort.segments import location_features, nearest_resize

MULTI_SCALE_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5)
PROTOTYPE_RATIOS = (0.5, 1.0, 1.5)


@dataclasses.dataclass
class Embedder:
    """An embedding network in eval mode with the window it looks through."""

    network: torch.nn.Module
    crop_size: tuple  # (h, w) of the sliding window
    stride: tuple  # likewise
    device: torch.device
    trim_to: int | None = None  # to multiples of which a smaller view's sides trim windows, rounded up; None: never
    head_grid: str = 'input'  # where a softmax head predicts, see `test.head_grid`

    @property
    def ingredients(self):
        """What embeddings depend on, see `resume.describe`."""
        return {'weights of the embedding': self.network}

    def window(self, size):
        """Return the (h, w) of the windows on a view of `size`."""
        if self.trim_to is None:
            return self.crop_size
        return tuple(min(crop, -(-side // self.trim_to) * self.trim_to)
                     for crop, side in zip(self.crop_size, size, strict=True))

    def padded_size(self, size):
        """Return the (H, W) of a view of `size` that is padded to the untrimmed window."""
        return tuple(max(crop, side) for crop, side in zip(self.crop_size, size, strict=True))

    def embed(self, images):
        """Return the raw (B, D, H, W) embeddings of (B, 3, H, W) images."""
        return self.network(images, resize_as_input=True)

    def embed_and_classify(self, images, classifier):
        """Return raw (B, D, H, W) embeddings of (B, 3, H, W) images, and the (B, C, H, W) logits of a softmax head."""
        if self.head_grid == 'input':
            embeddings = self.embed(images)
            return embeddings, classifier(embeddings)
        embeddings = self.network(images)
        return bilinear(embeddings, images.shape[-2:]), bilinear(classifier(embeddings), images.shape[-2:])

    def windows(self, view, function=None):
        """Return (1, X, H, W): the window average of `function` of images (default: their unit embeddings)."""
        function = function or (lambda images: F.normalize(self.embed(images), dim=1))
        return sliding_window(function, self.padded(view), self.window(view.size), self.stride)

    def padded(self, view):
        """Return the view as (1, 3, H, W), padded to at least a window."""
        return pad_to_crop(view, self.window(view.size), self.device)


def build_embedder(network, config, device):
    """Return the Embedder of an EmbeddingNetwork, which goes to a torch.device and is made ready as `config` says."""
    test = config.test
    network = ready_to_predict(network.to(device), test.precision)
    return Embedder(network, tuple(test.crop_size), tuple(test.stride), device,
                    network.backbone.stride if test.trim else None, test.head_grid)


def cut(values, size):
    """Cut (..., H, W) to its first h rows and w columns."""
    return values[..., :size[0], :size[1]]


def cluster_view(embedding, size, grid, iterations, span):
    """Return (h, w) int64 clusters of a view's unpadded pixels, by embedding and location alone.

    `embedding` is that of the padded view, (1, D, H, W); `size` the view's (h, w); `grid` (ky, kx); `span` the (h, w)
    from the first pixel on that the grids of locations and initial clusters span.
    """
    location = cut(location_features(*span, device=embedding.device, dtype=embedding.dtype), size)
    # One copy of the embedding, normalised where it is: a large view's takes gigabytes.
    vectors = torch.cat([cut(embedding[0], size), location])
    for part in (vectors[:-len(location)], vectors):
        F.normalize(part, dim=0, out=part)
    return cluster_image(vectors.permute(1, 2, 0), grid, iterations, span)[0]


@dataclasses.dataclass
class RetrievalPredictor:
    """Label each cluster by its nearest stored prototypes."""

    embedder: Embedder
    prototypes: torch.Tensor  # (M, D) float32 unit vectors, on the embedder's device like their labels
    labels: torch.Tensor  # (M,) int64 in 0..C-1
    num_classes: int
    grid: tuple  # (ky, kx) initial clusters
    iterations: int
    clusters: torch.Tensor | None = None  # (h, w) int64, of the view seen last

    @property
    def ingredients(self):
        """What predictions depend on, see `resume.describe`."""
        stored = {'prototypes': self.prototypes, 'labels': self.labels}
        return {**self.embedder.ingredients, 'prototypes': stored, 'grid': self.grid}

    def scores(self, view, span_padded):
        """Return (1, C, h, w): the share of each class among the nearest prototypes of the pixel's cluster."""
        embedding = self.embedder.windows(view)
        span = self.embedder.padded_size(view.size) if span_padded else view.size
        self.clusters = cluster_view(embedding, view.size, self.grid, self.iterations, span)
        queries, ids = cluster_prototypes(cut(embedding[0], view.size).flatten(1).T, self.clusters.reshape(-1))
        counts = nearest_label_counts(queries, self.prototypes, self.labels, self.num_classes)
        return (counts / NEIGHBOURS)[ids].T.reshape(1, self.num_classes, *view.size)

    def to_probability(self, scores):
        """Shares are probabilities already."""
        return scores


@dataclasses.dataclass
class SoftmaxPredictor:
    """Label each pixel by the softmax head, a SoftmaxClassifier."""

    embedder: Embedder
    classifier: torch.nn.Module
    clusters = None

    @property
    def ingredients(self):
        """What predictions depend on, see `resume.describe`."""
        return {**self.embedder.ingredients, 'weights of the softmax head': self.classifier}

    def scores(self, view, span_padded=True):
        """Return (1, C, h, w) logits, averaged over windows."""
        return cut(self.embedder.windows(view, self.logits), view.size)

    def logits(self, images):
        """Return the (B, C, H, W) logits of images."""
        return self.embedder.embed_and_classify(images, self.classifier)[1]

    def to_probability(self, scores):
        """Softmax over classes."""
        return scores.softmax(dim=1)


@torch.inference_mode()
def predict(image, predictor, image_size, ratios=None):
    """Return the Prediction for one image, at the single scale's size or the original one.

    Args:
        image: (H, W, 3) float32, normalised.
        predictor: RetrievalPredictor or SoftmaxPredictor.
        image_size: of the single scale; 0 keeps the size.
        ratios: of a pyramid at whose views and their mirrors predictions are made, resized to the original size and
            averaged; None for the single scale.
    """
    size = image.shape[:2]
    if ratios is None:
        view = resize_view(image, single_scale_size(size, image_size))
        probability = predictor.to_probability(predictor.scores(view, span_padded=True))
        clusters = None if predictor.clusters is None else predictor.clusters.cpu().numpy()
        return Prediction(probability[0].cpu().numpy(), view.image, size, clusters)
    total, count = 0, 0
    for view in pyramid(image, ratios, mirrors=True):
        scores = view.unmirror(predictor.scores(view, span_padded=False))
        total, count = total + predictor.to_probability(bilinear(scores, size)), count + 1
    return Prediction((total / count)[0].cpu().numpy(), image, size)


def normalised(pixels, config):
    """Return (H, W, 3) uint8 RGB pixels as the float32 image that the configuration's networks expect."""
    return normalise(pixels.astype(np.float32) / 255, config.network.pixel_means, config.network.pixel_stds)


def normalised_for_views(pixels, config, multi_scale):
    """Return the normalised image of pixels, scaled down to `test.max_pixels` where views are of its own size."""
    image = normalised(pixels, config)
    if multi_scale or config.test.image_size == 0:
        image = shrink(image, shrunk_size(image.shape[:2], config.test.max_pixels))
    return image


def predict_pixels(pixels, predictor, config, multi_scale):
    """Predict (H, W, 3) uint8 RGB pixels at the configuration's single scale, or multi-scale; returns a Prediction."""
    found = predict(normalised_for_views(pixels, config, multi_scale), predictor, config.test.image_size,
                    MULTI_SCALE_RATIOS if multi_scale else None)
    return dataclasses.replace(found, size=pixels.shape[:2])


def for_finish(prediction, config, how):
    """Return the Prediction with its image as `finish` takes it: as RGB bytes for CRF, otherwise without one."""
    image = None
    if how.crf is not None:
        image = denormalise(prediction.image, config.network.pixel_means, config.network.pixel_stds)
    return dataclasses.replace(prediction, image=image)


@torch.inference_mode()
def image_prototypes(embedder, image, label, grid, iterations, image_size, multi_scale):
    """Return the prototypes of one image's clusters and their labels.

    Args:
        image: (H, W, 3) float32, normalised.
        label: (H, W) uint8; 255 competes for a cluster's majority too.
        grid: (ky, kx) initial clusters.
        image_size: of the single scale; 0 keeps the size. With `multi_scale`, 0.5, 1 and 1.5 of the original instead.

    Returns:
        (S, D) float32 prototypes, (S,) int64 labels, and the (h, w) int64 clusters of the last view.
    """
    if multi_scale:
        views = pyramid(image, PROTOTYPE_RATIOS, mirrors=False)
    else:
        views = [resize_view(image, single_scale_size(image.shape[:2], image_size))]
    label = torch.from_numpy(label.astype(np.int64)).to(embedder.device)
    prototypes, labels = [], []
    for view in views:
        embedding = embedder.windows(view)
        clusters = cluster_view(embedding, view.size, grid, iterations, embedder.padded_size(view.size))
        found, ids = cluster_prototypes(cut(embedding[0], view.size).flatten(1).T, clusters.reshape(-1))
        prototypes.append(found)
        labels.append(majority_labels(ids, nearest_resize(label, view.size).reshape(-1), len(found)))
    return torch.cat(prototypes).cpu().numpy(), torch.cat(labels).cpu().numpy(), clusters.cpu().numpy()


def load_prototypes(directory, embedding_dim, num_classes):
    """Read all prototypes of a folder of `.npz` files; those whose label is not a class are dropped.

    That is void and, which the release leaves open, unlabelled: a label that is not a class cannot be counted. Returns
    (M, D) float32 unit vectors and (M,) int64 labels in 0..C-1. DataError: no folder or no files, a damaged file,
    another D, or fewer than 20 prototypes.
    """
    directory = pathlib.Path(directory)
    paths = sorted(directory.glob('*.npz')) if directory.is_dir() else []
    if not paths:
        raise DataError(f'{directory}: no prototypes (*.npz) in it; '
                        'name the semantic_prototype folder that prototype.py wrote')
    pairs = [read_prototypes(path, dim=embedding_dim) for path in paths]
    prototypes, labels = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*pairs, strict=True))
    keep = labels < num_classes
    if int(keep.sum()) < NEIGHBOURS:
        raise DataError(f'{directory}: {int(keep.sum())} prototypes have a class below {num_classes}, retrieval needs '
                        f'{NEIGHBOURS}; make prototypes of more images or with more clusters')
    return F.normalize(prototypes[keep], dim=1), labels[keep]
