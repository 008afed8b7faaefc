"""What `test.trim`, `test.head_grid` and `test.precision` change, and that the rest stays as it is."""
import naive_inference as naive
import numpy as np
import pytest
import torch
from torch import nn

from spml.inference.predictors import (
    MULTI_SCALE_RATIOS,
    Embedder,
    RetrievalPredictor,
    SoftmaxPredictor,
    predict,
    predict_pixels,
)
from spml.models.build import build_classifier, build_embedding
from spml.models.precision import fold_batch_norms, ready_to_predict

CPU = torch.device('cpu')
CROP, STRIDE = (32, 40), (16, 20)


@pytest.mark.parametrize(('size', 'window'), [((9, 17), (16, 24)), ((16, 33), (16, 40)), ((50, 12), (32, 16)),
                                              ((1, 1), (8, 8)), ((60, 70), CROP)])
def test_trimmed_windows_are_the_view_rounded_up_to_the_stride(size, window):
    network, head, image = naive.FakeNetwork(), naive.FakeHead(), naive.random_image(*size)
    embedder = Embedder(network, CROP, STRIDE, CPU, trim_to=8)
    found = predict(image, SoftmaxPredictor(embedder, head), 0)
    assert {shape[-2:] for shape in network.shown} == {window}
    logits = naive.windows(lambda crop: head.logits(network.embed(crop)), image.transpose(2, 0, 1), window,
                           [min(pair) for pair in zip(window, STRIDE, strict=True)])
    np.testing.assert_allclose(found.probability, naive.softmax(logits[:, :size[0], :size[1]]), atol=1e-5)


def test_trimming_leaves_the_grids_of_clusters_as_they_were(rng):
    """They span the view padded to the whole window."""
    stored, labels = naive.unit(rng.normal(size=(60, 5)), 1), rng.integers(0, 3, 60)
    image = naive.random_image(16, 24)
    embedder = Embedder(naive.FakeNetwork(), CROP, STRIDE, CPU, trim_to=8)
    found = predict(image, RetrievalPredictor(embedder, torch.from_numpy(stored), torch.from_numpy(labels), 3, (4, 5),
                                              2), 0)
    embedding = naive.windows(lambda crop: naive.unit(embedder.network.embed(crop), 0), image.transpose(2, 0, 1),
                              (16, 24), (16, 20))
    spanned = np.zeros((5, *CROP))
    spanned[:, :16, :24] = embedding
    np.testing.assert_array_equal(found.clusters, naive.cluster(spanned, (16, 24), (4, 5), 2, span=CROP))


class Quarter:
    """An embedding network whose grid is a quarter of its input."""

    def __init__(self):
        self.weight = np.random.default_rng().normal(size=(5, 3))

    def embed(self, image):
        height, width = image.shape[1] // 4, image.shape[2] // 4
        means = image[:, :4 * height, :4 * width].reshape(3, height, 4, width, 4).mean(axis=(2, 4))
        return np.einsum('dc,chw->dhw', self.weight, means)

    def __call__(self, images, resize_as_input=False):
        values = [self.embed(image) for image in images.numpy()]
        if resize_as_input:
            values = [naive.resize(value, images.shape[-2:]) for value in values]
        return torch.from_numpy(np.stack(values))


@pytest.mark.parametrize('head_grid', ['input', 'embedding'])
def test_the_head_predicts_before_or_after_the_resizing(head_grid):
    network, head, image = Quarter(), naive.FakeHead(), naive.random_image(*CROP)
    embedder = Embedder(network, CROP, STRIDE, CPU, head_grid=head_grid)
    found = predict(image, SoftmaxPredictor(embedder, head), 0)
    embedding = network.embed(image.transpose(2, 0, 1))
    logits = (head.logits(naive.resize(embedding, CROP)) if head_grid == 'input'
              else naive.resize(head.logits(embedding), CROP))
    np.testing.assert_allclose(found.probability, naive.softmax(logits), atol=1e-6)


def trained(config):
    """Networks whose batch norms have statistics and scales as after a training."""
    networks = build_embedding(config), build_classifier(config)
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 2),
                                      (module.weight.data, 0.5, 1.5), (module.bias.data, -0.2, 0.2)):
                tensor.uniform_(low, high)
    return [network.eval() for network in networks]


@pytest.mark.parametrize('backbone', ['panoptic_deeplab_14', 'panoptic_pspnet_14'])
def test_folded_batch_norms_change_nothing_but_rounding(small_config, backbone):
    network, _ = trained(small_config(f'network.backbone_types={backbone}'))
    images = torch.randn(2, 3, 40, 56)
    with torch.inference_mode():
        before = network(images)
        fold_batch_norms(network, torch.zeros(1, 3, 64, 64))
        after = network(images)
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * before.abs().max().item())


def test_only_a_batch_norm_right_after_a_convolution_is_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.alone = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.second(self.conv(self.first(self.conv(self.alone(x)))))

    network = Twice().eval()
    for module in (network.first, network.second, network.alone):
        module.running_mean.uniform_(-1, 1)
    images = torch.randn(1, 3, 5, 4)
    before = network(images)
    fold_batch_norms(network, images)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 3
    assert torch.equal(network(images), before)


def test_bf16_predicts_nearly_the_same_and_fp32_exactly(small_config, rng):
    config = small_config()
    networks = trained(config)
    pixels = rng.integers(0, 256, (40, 36, 3), np.uint8)

    def result(embedding, classifier):
        embedder = Embedder(embedding, (32, 32), (16, 16), CPU)
        return (predict_pixels(pixels, SoftmaxPredictor(embedder, classifier), config, True).probability,
                embedder.embed(torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(255))[None]))

    with torch.inference_mode():
        plain = result(*networks)
        same = result(*(ready_to_predict(network, 'fp32') for network in networks))
        rounded = result(*(ready_to_predict(network, 'bf16') for network in networks))
    np.testing.assert_array_equal(same[0], plain[0])
    assert {parameter.dtype for network in networks for parameter in network.parameters()} == {torch.bfloat16}
    assert rounded[1].dtype == torch.float32
    assert rounded[0].dtype == np.float32
    cosine = torch.cosine_similarity(plain[1], rounded[1]).min().item()
    assert 0.99 < cosine < 1
    assert 0 < np.abs(plain[0] - rounded[0]).max() < 0.05


def test_images_of_a_pixel_or_a_few_are_predicted(small_config, rng):
    """Mirrored, they have no stride of their own."""
    config = small_config()
    predictor = SoftmaxPredictor(Embedder(naive.FakeNetwork(dtype=np.float32), (8, 8), (4, 4), CPU),
                                 naive.FakeHead(dtype=np.float32))
    for size in ((1, 1), (1, 3), (40, 1), (2, 2), (3, 50)):
        found = predict_pixels(rng.integers(0, 256, (*size, 3), np.uint8), predictor, config, True)
        assert found.probability.shape == (3, *size)


def test_a_large_image_is_seen_scaled_down(small_config, rng):
    """Each pixel is the mean of those in it; what is smaller stays as it is."""
    config = small_config('test.max_pixels=240')
    network, head = naive.FakeNetwork(dtype=np.float32), naive.FakeHead(dtype=np.float32)
    predictor = SoftmaxPredictor(Embedder(network, (8, 8), (4, 4), CPU), head)
    small = rng.integers(0, 256, (12, 20, 3), np.uint8)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    for multi_scale in (False, True):
        wanted, found = (predict_pixels(pixels, predictor, config, multi_scale) for pixels in (small, large))
        assert (wanted.size, found.size) == ((12, 20), (36, 60))
        np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-4)
    assert max(np.prod(shape[-2:]) for shape in network.shown) <= 240 * max(MULTI_SCALE_RATIOS) ** 2
    # At a single scale of its own, an image is as large as that says.
    fitted = small_config('test.max_pixels=64', 'test.image_size=20')
    found = predict_pixels(large, predictor, fitted, False)
    assert found.probability.shape == (3, 12, 20)
    assert found.size == (36, 60)
