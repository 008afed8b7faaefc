"""CAMs of single images against a naive sum over views, and the files that a job writes."""
import types

import cv2
import naive_inference as naive
import numpy as np
import pytest
import torch
from PIL import Image

from spml.data.readers import read_cam
from spml.errors import CheckpointError, ConfigError
from spml.inference import cams
from spml.inference.cams import CamPredictor, make_cams
from spml.inference.jobs import Job
from spml.inference.trained import Trained
from spml.inference.views import shrunk_size
from spml.models.build import build_cam_network, build_embedding

CPU = torch.device('cpu')
pytestmark = pytest.mark.usefixtures('one_thread')


def predictor(first_class=1):
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 8, stride=8, padding=4), torch.nn.Tanh())
    return CamPredictor(features, torch.nn.Conv2d(5, 4, 1, bias=False), first_class, CPU)


def naive_maps(model, image, classes):
    """Sum over views in float64, one at a time, mirrors done by hand."""
    total = {label: np.zeros(image.shape[:2]) for label in classes}
    for ratio in (0.5, 1, 1.5, 2):
        size = [int(ratio * side) for side in image.shape[:2]]
        view = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR) if ratio != 1 else image
        for step in (1, -1):
            with torch.no_grad():
                pixels = torch.from_numpy(view[:, ::step].copy()).permute(2, 0, 1)[None]
                maps = model.head(model.features(pixels))[0].double().numpy()
            for label in classes:
                total[label] += naive.resize(maps[label - model.first_class][:, ::step], image.shape[:2])
    total = {label: np.maximum(values, 0) for label, values in total.items()}
    return {label: values / values.max() for label, values in total.items()}


@pytest.mark.parametrize('first_class', [1, 0])
def test_maps_are_the_sum_over_scales_and_mirrors(first_class, rng):
    model, image = predictor(first_class), rng.standard_normal((43, 58, 3)).astype(np.float32)
    classes = [first_class + 2, first_class]
    found = model.maps(image, classes)
    assert list(found) == classes
    for label, wanted in naive_maps(model, image, classes).items():
        assert found[label].dtype == np.float32
        np.testing.assert_allclose(found[label], wanted, atol=2e-5)
        assert found[label].max() == 1
    assert model.maps(image, []) == {}


def test_a_class_that_is_nowhere_positive_is_zero(rng):
    model = predictor()
    model.head.weight.data[1] = 0
    found = model.maps(rng.standard_normal((16, 24, 3)).astype(np.float32), [2, 3])
    assert not found[2].any()
    assert found[3].any()


def test_large_photos_are_looked_at_scaled_down(monkeypatch, rng):
    monkeypatch.setattr(cams, 'MOST_PIXELS', 40 * 30)
    assert [shrunk_size(size, 1200) for size in ((40, 30), (400, 300), (1, 9999999))] == [(40, 30), (40, 30), (1, 1200)]
    model, seen = predictor(), []
    model.features.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[-2] * inputs[0].shape[-1]))
    found = model.maps(rng.standard_normal((160, 120, 3)).astype(np.float32), [1])
    assert found[1].shape == (160, 120)
    assert max(seen) == 4 * 40 * 30


@pytest.fixture
def place(tmp_path, small_data, small_config, capsys):
    """Small data, a checkpoint of a tag classifier, and a function that makes CAMs and returns what was written."""
    config = small_config('network.prediction_types=cam')
    path = tmp_path / 'model-3.pth'

    def save(config, kind=build_cam_network):
        networks = kind(config)
        torch.save({'embedding_model': networks[0].state_dict(), 'prediction_model': networks[1].state_dict()}, path)

    def make(**options):
        before = {file: file.stat().st_mtime_ns for file in (tmp_path / 'out').rglob('*.npy')}
        job = Job(config, small_data.folder, options.pop('data_list', small_data.list), tmp_path / 'out', **options)
        make_cams(job, Trained(path, config).cam_predictor(CPU))
        return sorted(file.stem for file in (tmp_path / 'out' / 'cam_npy').glob('*.npy')
                      if before.get(file) != file.stat().st_mtime_ns)

    save(config)
    return types.SimpleNamespace(folder=tmp_path, data=small_data, config=config, path=path, save=save, make=make,
                                 said=lambda: capsys.readouterr().out)


def test_files_hold_the_maps_of_the_tags(place):
    rows = place.data.list.read_text().splitlines()
    place.data.list.write_text(f'{rows[0]} 2\nimage/b.png - - 1 tag\n{rows[2]}\n')
    assert place.make() == ['a', 'b', 'c']
    # The label of a holds class 1, its line says 2 as well; c has no foreground.
    for name, keys in (('a', {0, 1}), ('b', {0}), ('c', set())):
        found = read_cam(place.folder / 'out' / 'cam_npy' / f'{name}.npy', 3, (40, 36))
        assert found.keys() == keys


def test_what_is_made_is_left_until_something_changes(place):
    assert place.make() == ['a', 'b', 'c']
    assert place.make() == []
    assert '3 of 3 images are done already' in place.said()
    (place.folder / 'out' / 'cam_npy' / 'b.npy').unlink()
    assert place.make() == ['b']
    rows = place.data.list.read_text().splitlines()
    place.data.list.write_text('\n'.join([f'{rows[0]} 2', *rows[1:]]))
    assert place.make() == ['a']  # other tags
    assert place.make(overwrite=True) == ['a', 'b', 'c']
    place.save(place.config)
    assert place.make() == ['a', 'b', 'c']  # other weights


def test_wrong_checkpoints_are_named(place, small_config):
    place.save(small_config('network.prediction_types=cam', 'dataset.num_classes=5'))
    with pytest.raises(CheckpointError, match=r'model-3.*cam_classifier.*\(4, .*needed \(2, .*dataset.num_classes'):
        place.make()
    embedding = small_config()
    place.save(embedding, lambda config: (build_embedding(config), torch.nn.Conv2d(3, 3, 1)))
    with pytest.raises(CheckpointError, match=r'model-3.*cam_classifier\.weight is missing'):
        place.make()
    with pytest.raises(ConfigError, match=r'model-3.*prediction_types is segsort.*train_cam\.py'):
        Trained(place.path, embedding).cam_predictor(CPU)


def test_maps_of_nothing_are_counted(place, caplog):
    features, head = build_cam_network(place.config)
    head.cam_classifier.weight.data.zero_()
    torch.save({'embedding_model': features.state_dict(), 'prediction_model': head.state_dict()}, place.path)
    place.make()
    assert '2 maps are 0 everywhere, the first of class_1 in a' in caplog.text


def test_images_of_one_pixel_a_side(place):
    for kind in ('image', 'semantic'):
        pixels = np.full((1, 1, 3) if kind == 'image' else (1, 1), 1, np.uint8)
        Image.fromarray(pixels).save(place.data.folder / kind / 'a.png')
    place.make()
    assert read_cam(place.folder / 'out' / 'cam_npy' / 'a.npy', 3, (1, 1)).keys() == {0}
