import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from naive_layers import backbone, bilinear, bn, deeplab, embedding_network, pspnet, randomise_batch_norms

from spml.models.build import build_classifier, build_embedding
from spml.models.heads import DeepLabHead, PyramidPooling, SoftmaxClassifier, pspnet_head, softmax_loss
from spml.models.networks import ColourFeatures
from spml.segsort.segments import location_features


@torch.no_grad()
def test_deeplab_head_is_the_sum_of_four_convolutions():
    head = DeepLabHead(7, 5).double()
    x = torch.randn(2, 7, 9, 30, dtype=torch.float64)
    torch.testing.assert_close(head(x), deeplab(head.state_dict(), x))
    assert {module.__class__ for module in head.modules()} == {DeepLabHead, torch.nn.Sequential, torch.nn.Conv2d}


@torch.no_grad()
@pytest.mark.parametrize('size', [(9, 13), (6, 6), (4, 5)])
def test_pspnet_head_equals_functional_reference(size):
    head = pspnet_head(7, 5, width=4).double().eval()
    randomise_batch_norms(head)
    x = torch.randn(2, 7, *size, dtype=torch.float64)
    torch.testing.assert_close(head(x), pspnet(head.state_dict(), x))


def test_heads_have_default_initialisation_and_batch_norm_momentum():
    networks = DeepLabHead(64, 32), pspnet_head(64, 32, width=16), SoftmaxClassifier(16, 8, 0.5)
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, torch.nn.Conv2d):
            # PyTorch's default: uniform within 1 / sqrt(fan in).
            bound = 1 / math.sqrt(module.in_channels * module.kernel_size[0] * module.kernel_size[1])
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert module.bias is None or module.bias.abs().max() <= bound
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert module.momentum == 0.1


@torch.no_grad()
@pytest.mark.parametrize('head', ['deeplab', 'pspnet'])
def test_embedding_is_upsampled_twice_and_then_to_the_input(head):
    model = embedding_network(14, head, 3).eval()
    randomise_batch_norms(model)
    # 37 / 8 rounds up to 5, so twice that is not a quarter of the input, nor is the input a multiple of it.
    images = torch.randn(1, 3, 37, 48)
    state = model.state_dict()
    features = backbone({key.removeprefix('resnet_backbone.'): value for key, value in state.items()}, images, 14)
    if head == 'deeplab':
        raw = deeplab({key.removeprefix('aspp.'): value for key, value in state.items()}, features)
    else:
        raw = pspnet({key.removeprefix('pspp.'): value for key, value in state.items()}, features)
    assert raw.shape[-2:] == (5, 6)
    grid = bilinear(raw.double().numpy(), (10, 12))
    scale = 1e-4 * np.abs(grid).max()
    np.testing.assert_allclose(model(images), grid, rtol=1e-4, atol=scale)
    np.testing.assert_allclose(model(images, resize_as_input=True), bilinear(grid, (37, 48)), rtol=1e-4, atol=scale)


@torch.no_grad()
def test_softmax_head_equals_functional_reference():
    head = SoftmaxClassifier(6, 4, 0.65).double().eval()
    randomise_batch_norms(head)
    state = head.state_dict()
    assert set(state) == {'semantic_classifier.0.weight', 'semantic_classifier.4.weight', 'semantic_classifier.4.bias',
                          *(f'semantic_classifier.1.{part}' for part in (
                              'weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'))}
    assert state['semantic_classifier.0.weight'].shape == (12, 6, 3, 3)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64) * 9
    unit = x / x.pow(2).sum(dim=1, keepdim=True).sqrt()
    y = F.relu(bn(F.conv2d(unit, state['semantic_classifier.0.weight'], padding=1), state, 'semantic_classifier.1'))
    want = F.conv2d(y, state['semantic_classifier.4.weight'], state['semantic_classifier.4.bias'])
    torch.testing.assert_close(head(x), want)


def naive_softmax_loss(logits, labels, num_classes):
    """Return mean cross-entropy and accuracy over labelled pixels, pixel by pixel."""
    upsampled = bilinear(logits, labels.shape[-2:])
    losses, hits = [], []
    for b, y, x in np.ndindex(*labels.shape):
        if labels[b, y, x] < num_classes:
            scores = upsampled[b, :, y, x]
            losses.append(math.log(sum(math.exp(score) for score in scores)) - scores[labels[b, y, x]])
            hits.append(scores.argmax() == labels[b, y, x])
    return np.mean(losses), np.mean(hits)


def test_softmax_loss_equals_naive(rng):
    logits, labels = rng.standard_normal((2, 3, 4, 5)) * 3, rng.choice([0, 1, 2, 3, 200, 255], (2, 9, 13))
    loss, accuracy = softmax_loss(torch.from_numpy(logits), torch.from_numpy(labels), 3)
    want_loss, want_accuracy = naive_softmax_loss(logits, labels, 3)
    assert loss.item() == pytest.approx(want_loss)
    assert accuracy.item() == pytest.approx(want_accuracy)


def test_softmax_loss_weighs_the_pixels_of_each_image(rng):
    logits, labels = rng.standard_normal((3, 3, 4, 5)) * 3, rng.choice([0, 1, 2, 3, 255], (3, 9, 13))
    weights, counts = [0.3, 1.0, 0.1], (labels < 3).sum(axis=(1, 2))
    alone = [naive_softmax_loss(logits[b:b + 1], labels[b:b + 1], 3)[0] for b in range(3)]
    loss, _ = softmax_loss(torch.from_numpy(logits), torch.from_numpy(labels), 3, weights)
    assert loss.item() == pytest.approx(np.dot(np.multiply(weights, counts), alone) / counts.sum())
    alike = softmax_loss(torch.from_numpy(logits), torch.from_numpy(labels), 3, [0.3] * 3)[0]
    assert torch.equal(alike, 0.3 * softmax_loss(torch.from_numpy(logits), torch.from_numpy(labels), 3)[0])


def test_softmax_loss_without_labelled_pixels():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    loss, accuracy = softmax_loss(logits, torch.full((2, 8, 10), 255), 3)
    loss.backward()
    assert loss.item() == accuracy.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_networks_are_built_from_a_configuration(small_config):
    config = small_config('network.backbone_types=panoptic_pspnet_14', 'network.embedding_dim=5',
                          'network.bn_momentum=0.2')
    embedding, classifier = build_embedding(config), build_classifier(config)
    assert isinstance(embedding.head[0], PyramidPooling)
    assert embedding.head[1].out_channels == 5
    assert embedding.lfn is None
    assert embedding.backbone.res5[0].bn1.momentum == 0.2
    assert classifier.semantic_classifier[4].weight.shape == (config.dataset.num_classes, 10, 1, 1)


@pytest.mark.parametrize(('trained', 'dropout', 'more'), [
    ('segsort', 0.75, []), ('segsort', 0.2, ['network.head_dropout=0.2']), ('softmax_classifier', 0.65, []),
    ('softmax_classifier', 0.65, ['network.head_dropout=0.2'])])
def test_dropout_depends_on_what_learns_beside_the_head(small_config, trained, dropout, more):
    classifier = build_classifier(small_config(f'network.prediction_types={trained}', *more))
    assert classifier.semantic_classifier[3].p == dropout


def test_densepose_networks_see_colour(small_config):
    assert build_embedding(small_config('dataset.dataset=Densepose')).lfn is not None


def naive_location(height, width):
    """Return (2, height, width): y, then x."""
    out = np.zeros((2, height, width))
    for i, j in np.ndindex(height, width):
        out[:, i, j] = (i / (height - 1) if height > 1 else 0) - 0.5, (j / (width - 1) if width > 1 else 0) - 0.5
    return out


def naive_colour(images, size):
    """Smooth without padding, resize, centre and scale (B, 3, H, W) images."""
    kernel = np.array([[math.hypot(i - 2, j - 2) for j in range(5)] for i in range(5)])
    kernel /= kernel.sum()
    batch, channels, height, width = images.shape
    smooth = np.zeros((batch, channels, height - 4, width - 4))
    for i, j in np.ndindex(height - 4, width - 4):
        smooth[:, :, i, j] = (images[:, :, i:i + 5, j:j + 5] * kernel).sum(axis=(2, 3))
    out = bilinear(smooth, size)
    for b, c in np.ndindex(batch, channels):
        out[b, c] -= out[b, c].mean()
        out[b, c] /= np.abs(out[b, c]).max()
    return out


@pytest.mark.parametrize('size', [(4, 7), (1, 3), (5, 1), (33, 32)])
def test_location_features(size):
    np.testing.assert_allclose(location_features(*size), naive_location(*size), atol=1e-6)


@pytest.mark.parametrize('size', [(4, 7), (20, 9)])
def test_colour_features(size):
    images = np.random.default_rng().standard_normal((2, 3, 17, 22)) * 2 + 1
    got = ColourFeatures().double()(torch.from_numpy(images), size)
    # The kernel is kept in float32.
    np.testing.assert_allclose(got, naive_colour(images, size), atol=1e-5)


def test_the_kernel_is_fixed_and_stored():
    features = ColourFeatures()
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert features.state_dict()['smooth_kernel.weight'].shape == (3, 1, 5, 5)


def test_an_image_of_one_colour_has_finite_features():
    got = ColourFeatures()(torch.full((1, 3, 12, 12), 0.25), (3, 3))
    assert torch.isfinite(got).all()


def test_order_of_the_features_in_the_network():
    images = np.random.default_rng().standard_normal((2, 3, 16, 20))
    tensor = torch.from_numpy(images).float()
    plain = embedding_network(14, 'deeplab', 2).local_features(tensor, (4, 5))
    np.testing.assert_allclose(plain, np.broadcast_to(naive_location(4, 5), (2, 2, 4, 5)), atol=1e-6)
    coloured = embedding_network(14, 'deeplab', 2, colour=True).local_features(tensor, (4, 5))
    np.testing.assert_allclose(coloured[:, :2], plain)
    np.testing.assert_allclose(coloured[:, 2:], naive_colour(images, (4, 5)), atol=1e-4)
