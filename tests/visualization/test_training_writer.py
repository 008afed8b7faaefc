import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from spml.visualization.palette import colourise, colourise_ids
from spml.visualization.tensorboard import TrainingWriter, embedding_pca

MEANS, STDS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_events(folder):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    events = accumulator.EventAccumulator(str(folder), size_guidance={'images': 0, 'scalars': 0})
    events.Reload()
    return events


def picture(events, name):
    encoded = events.Images(f'images/{name}')[0].encoded_image_string
    return np.asarray(Image.open(io.BytesIO(encoded)))


def test_events_hold_scalars_and_pictures(tmp_path, rng):
    rgb = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = torch.from_numpy((rgb / 255 - MEANS) / STDS).permute(2, 0, 1).float()
    weak = torch.from_numpy(rng.choice(np.array([0, 3, 254, 255]), (12, 16)))
    clusters = torch.from_numpy(rng.integers(-1, 9, (6, 8)))
    segments = torch.from_numpy(rng.integers(0, 255, (12, 16)))

    writer = TrainingWriter(tmp_path / 'log')
    writer.scalars(3, {'loss': 1.5, 'lr': torch.tensor(0.25)})
    writer.scalars(7, {'loss': 1.25})
    writer.images(7, image, MEANS, STDS, 5, semantic_label=weak, regions=segments, clusters=clusters,
                  embedding=torch.randn(4, 6, 8, requires_grad=True))
    writer.close()

    events = load_events(tmp_path / 'log')
    assert [(event.step, event.value) for event in events.Scalars('loss')] == [(3, 1.5), (7, 1.25)]
    assert [(event.step, event.value) for event in events.Scalars('lr')] == [(3, 0.25)]
    assert set(events.Tags()['images']) == {
        f'images/{name}' for name in ('image', 'weak_label', 'over_segmentation', 'clusters', 'embedding_pca')}
    np.testing.assert_array_equal(picture(events, 'image'), rgb)
    np.testing.assert_array_equal(picture(events, 'weak_label'), colourise(weak.numpy(), 5))
    np.testing.assert_array_equal(picture(events, 'over_segmentation'), colourise_ids(segments.numpy()))
    np.testing.assert_array_equal(picture(events, 'clusters'),
                                  colourise_ids(clusters.numpy()).repeat(2, axis=0).repeat(2, axis=1))
    assert picture(events, 'embedding_pca').shape == (12, 16, 3)


def test_without_tensorboard_it_says_so_once_and_does_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    writer = TrainingWriter(tmp_path / 'log')
    writer.scalars(0, {'loss': 1.0})
    writer.images(0, torch.zeros(3, 4, 4), MEANS, STDS, 5, semantic_label=torch.zeros(4, 4, dtype=torch.long))
    writer.close()
    assert capsys.readouterr().err.count('tensorboard is not installed') == 1
    assert not (tmp_path / 'log').exists()


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')  # of TensorBoard's own thread
def test_a_full_disk_ends_the_curves_and_not_the_training(tmp_path, capfd, file_size_limit):
    pytest.importorskip('tensorboard')
    writer = TrainingWriter(tmp_path / 'log')
    with file_size_limit(5000):
        for iteration in range(3000):
            writer.scalars(iteration, {'loss': 1.0})
        writer.images(1, torch.zeros(3, 8, 8), MEANS, STDS, 5)
        writer.close()
    notice = f'notice: {tmp_path / "log"}: File too large; no more curves and pictures are written\n'
    assert capfd.readouterr().err.count(notice) == 1


def test_a_run_that_goes_on_hides_what_it_does_again(tmp_path):
    for start in (0, 4):
        writer = TrainingWriter(tmp_path / 'log', start)
        for iteration in range(start, 6):
            writer.scalars(iteration, {'loss': start + iteration})
        writer.close()
    found = load_events(tmp_path / 'log').Scalars('loss')
    assert [(event.step, event.value) for event in found] == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 8), (5, 9)]


def naive_pca(embedding):
    """Return the picture by numpy's singular value decomposition instead of the covariance's eigenvectors."""
    pixels = embedding.reshape(len(embedding), -1).T.astype(np.float64)
    pixels = pixels - pixels.mean(0)
    axes = np.linalg.svd(pixels, full_matrices=False)[2][:3]
    axes = np.array([axis * np.sign(axis[np.abs(axis).argmax()]) for axis in axes])
    components = pixels @ axes.T
    low, high = components.min(0), components.max(0)
    return ((components - low) / (high - low) * 255).reshape(*embedding.shape[1:], 3)


def test_equals_singular_value_decomposition():
    embedding = np.random.default_rng().standard_normal((7, 9, 5)) * np.array([5, 4, 3, 1, 1, .5, .2])[:, None, None]
    rgb = embedding_pca(torch.from_numpy(embedding).requires_grad_())
    np.testing.assert_array_equal(embedding_pca(embedding), rgb)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (9, 5, 3))
    assert np.abs(rgb - naive_pca(embedding)).max() <= 0.501
    assert rgb.min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert rgb.max(axis=(0, 1)).tolist() == [255, 255, 255]


@pytest.mark.parametrize('value', [0.0, 0.1, 1e6])
def test_constant_embedding_is_grey(value):
    assert (embedding_pca(torch.full((6, 4, 4), value)) == 128).all()


def test_missing_components_are_grey():
    line = torch.rand(1, 6, 6)
    rgb = embedding_pca(torch.cat([line, 2 * line, -line]))
    assert (rgb[..., 1:] == 128).all()
    assert np.ptp(rgb[..., 0]) == 255
    assert embedding_pca(line).shape == (6, 6, 3)
