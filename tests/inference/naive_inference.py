"""METHOD.md, "Inference", written out naively in float64, for the tests to compare with. Nothing of spml is used.

Maps are (channels, height, width) arrays. Sizes that are clustered should be even: halves in the initial grid then
never occur, which float32 and float64 round differently.
"""
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from naive_layers import bilinear as resize


class FakeNetwork:
    """A 1x1 convolution plus the mean of its input, so that windows matter; records the sizes of its inputs."""

    def __init__(self, dim=5, dtype=np.float64):
        self.weight = np.random.default_rng().normal(size=(dim, 3)).astype(dtype)
        self.shown = []

    def embed(self, image):
        return np.einsum('dc,chw->dhw', self.weight, image) + image.mean()

    def __call__(self, images, resize_as_input=False):
        assert resize_as_input
        self.shown.append(tuple(images.shape))
        return torch.from_numpy(np.stack([self.embed(image) for image in images.numpy()]).astype(images.numpy().dtype))


class FakeHead:
    """A pointwise function of the embedding with three classes."""

    def __init__(self, dim=5, dtype=np.float64):
        self.weight = np.random.default_rng().normal(size=(3, dim)).astype(dtype)

    def logits(self, embedding):
        return np.einsum('cd,dhw->chw', self.weight, np.tanh(embedding))

    def __call__(self, embeddings):
        return torch.from_numpy(np.stack([self.logits(embedding) for embedding in embeddings.numpy()]))


def random_image(height, width):
    """A smooth (H, W, 3) float64 image without two equal pixels: resizing makes borders constant, which are cut off."""
    whole = resize(np.random.default_rng().normal(size=(3, 7, 8)), (2 * height, 2 * width))
    return whole[:, height // 2:, width // 2:][:, :height, :width].transpose(1, 2, 0).copy()


def unit(vectors, axis):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=axis, keepdims=True), 1e-12)


def ends(size, crop, stride):
    count = math.ceil(Fraction(size - crop, stride)) + 1
    return [crop if count == 1 else crop + math.floor(Fraction(i * (size - crop), count - 1)) for i in range(count)]


def pad(image, crop):
    height, width = (max(side, least) for side, least in zip(image.shape[1:], crop, strict=True))
    padded = np.zeros((3, height, width))
    padded[:, :image.shape[1], :image.shape[2]] = image
    return padded


def windows(function, image, crop, stride):
    """The padded image's window average of `function`."""
    padded = pad(image, crop)
    height, width = padded.shape[1:]
    total, count = 0, np.zeros((height, width))
    for bottom in ends(height, crop[0], stride[0]):
        for right in ends(width, crop[1], stride[1]):
            values = function(padded[:, bottom - crop[0]:bottom, right - crop[1]:right])
            placed = np.zeros((len(values), height, width))
            placed[:, bottom - crop[0]:bottom, right - crop[1]:right] = values
            total = total + placed
            count[bottom - crop[0]:bottom, right - crop[1]:right] += 1
    return total / count


def views(image, ratios, mirrors=True):
    """Yield (3, h, w) views and whether they are mirrored."""
    image = image.transpose(2, 0, 1)
    for ratio in ratios:
        view = resize(image, [int(ratio * side) for side in image.shape[1:]])
        yield view, False
        if mirrors:
            yield view[:, :, ::-1], True


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def location(height, width):
    return np.stack(np.meshgrid(np.linspace(0, 1, height) - 0.5, np.linspace(0, 1, width) - 0.5, indexing='ij'))


def initial_clusters(height, width, grid):
    y, x = (np.round(np.linspace(0, k - 1, size)).astype(int) for k, size in zip(grid, (height, width), strict=True))
    return np.unique(y[:, None] + grid[0] * x[None], return_inverse=True)[1].reshape(height, width)


def cluster(embedding, size, grid, iterations, span):
    """K-means with location of the first `size` pixels of a map; its grids span `span`."""
    height, width = size
    vectors = np.concatenate([unit(embedding[:, :height, :width], 0), location(*span)[:, :height, :width]])
    vectors = unit(vectors, 0).reshape(len(vectors), -1).T
    labels = initial_clusters(*span, grid)
    count = labels.max() + 1
    labels = labels[:height, :width].ravel()
    for _ in range(iterations):
        sums = np.stack([vectors[labels == k].sum(axis=0) for k in range(count)])
        labels = (vectors @ unit(sums, 1).T).argmax(axis=1)
    return labels.reshape(height, width)


def prototypes(embedding, clusters):
    """{cluster: normalised sum of its unit embeddings}."""
    vectors = unit(embedding, 0)
    return {k: unit(vectors[:, clusters == k].sum(axis=1), 0) for k in np.unique(clusters)}


def retrieve(embedding, clusters, stored, stored_labels, num_classes=3):
    """(C, h, w) shares of the classes among the 20 nearest prototypes of each pixel's cluster."""
    shares = np.zeros((num_classes, *clusters.shape))
    for k, query in prototypes(embedding, clusters).items():
        order = sorted(range(len(stored)), key=lambda i: -float(stored[i] @ query))[:20]
        for i in order:
            shares[stored_labels[i], clusters == k] += 1 / 20
    return shares


def retrieve_pyramid(image, network, crop, stride, grid, iterations, ratios, stored, stored_labels, num_classes=3):
    """Multi-scale retrieval: grids span the unpadded views."""
    total = []
    for view, mirrored in views(image, ratios):
        size = view.shape[1:]
        embedding = windows(lambda x: unit(network.embed(x), 0), view, crop, stride)[:, :size[0], :size[1]]
        clusters = cluster(embedding, size, grid, iterations, size)
        shares = retrieve(embedding, clusters, stored, stored_labels, num_classes)
        total.append(resize(shares[:, :, ::-1] if mirrored else shares, image.shape[:2]))
    return np.mean(total, axis=0)


def transition(embeddings, grid):
    """The random walk's matrix between the cells of a grid: affinities whose columns sum to 1."""
    total = 0
    for embedding in embeddings:
        vectors = unit(resize(embedding, grid), 0).reshape(len(embedding), -1)
        total = total + np.exp(5 * (vectors.T @ vectors - 1)) / len(embeddings)
    powered = total ** 20
    return powered / powered.sum(axis=0)


def crf(probability, image, iter_max=10, pos_xy_std=1, pos_w=3, bi_xy_std=67, bi_rgb_std=3, bi_w=4):
    """Marginals (C, h, w) of pydensecrf called directly, the unary written out; skips without the library."""
    densecrf = pytest.importorskip('pydensecrf.densecrf')
    field = densecrf.DenseCRF2D(*probability.shape[:0:-1], len(probability))
    unary = -np.log(np.clip(probability, 1e-5, 1)).reshape(len(probability), -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary.astype(np.float32)))
    field.addPairwiseGaussian(sxy=pos_xy_std, compat=pos_w)
    field.addPairwiseBilateral(sxy=bi_xy_std, srgb=bi_rgb_std, rgbim=np.ascontiguousarray(image), compat=bi_w)
    return np.array(field.inference(iter_max)).reshape(probability.shape)
