"""The Python API, against the networks called by hand."""
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exif import save_turned
from PIL import Image, ImageOps

import spml
from spml import config as configuration
from spml.api import find_checkpoint
from spml.errors import CheckpointError, ConfigError, DataError
from spml.models.build import build_classifier, build_embedding

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def networks(small_config):
    """A configuration and both networks with random weights, in eval mode; batch norms change their input."""
    config = small_config('dataset.class_names=[sky, cat, dog]')
    models = build_embedding(config).eval(), build_classifier(config).eval()
    for module in (module for model in models for module in model.modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return config, *models


@pytest.fixture
def checkpoint(networks, tmp_path, save_model):
    return save_model(tmp_path / 'run' / 'stage1' / 'model-3.pth', *networks)


def random_image(height, width):
    return np.random.default_rng().integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_import_is_light_and_names_come_when_used():
    code = ('import sys, spml\n'
            'heavy = {"torch", "numpy", "PIL", "cv2", "yaml"} & set(sys.modules)\nassert not heavy, heavy\n'
            'assert spml.segsort.make_segments and spml.load_segmenter and spml.Segmenter and spml.Segmentation\n'
            'assert "torch" in sys.modules and set(spml.__all__) <= set(dir(spml))')
    subprocess.run([sys.executable, '-c', code], check=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    with pytest.raises(AttributeError, match='no_such_name'):
        spml.no_such_name  # noqa: B018


def test_the_package_says_that_it_is_typed():
    assert (ROOT / 'spml' / 'py.typed').is_file()


@torch.no_grad()
def test_prediction_is_what_the_networks_say(networks, checkpoint):
    _, embedding, classifier = networks
    pixels = random_image(32, 32)
    result = spml.load_segmenter(checkpoint, device='cpu').predict(pixels)
    normalised = (torch.from_numpy(pixels) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([
        0.229, 0.224, 0.225])
    raw = embedding(normalised.permute(2, 0, 1)[None].float(), resize_as_input=True)
    probabilities = classifier(raw).softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(result.probabilities, probabilities, atol=1e-5)
    np.testing.assert_allclose(result.embedding, F.normalize(raw, dim=1)[0].numpy(), atol=1e-5)
    np.testing.assert_array_equal(result.labels, result.probabilities.argmax(axis=0))
    assert (result.labels.dtype, result.probabilities.dtype, result.embedding.dtype) == ('uint8', 'float32', 'float32')


def test_batches_lists_files_and_pictures_give_what_single_images_give(checkpoint, tmp_path):
    segmenter = spml.load_segmenter(checkpoint, device='cpu')
    batch = np.stack([random_image(40, 36), random_image(40, 36)])
    single = [segmenter.predict(pixels) for pixels in batch]
    Image.fromarray(batch[0]).save(tmp_path / 'a.png')
    other = segmenter.predict([tmp_path / 'a.png', str(tmp_path / 'a.png'), Image.fromarray(batch[0])])
    for result, expected in zip([*segmenter.predict(batch), *segmenter.predict(list(batch)), *other],
                                [*single, *single, single[0], single[0], single[0]], strict=True):
        for field in ('labels', 'probabilities', 'embedding'):
            np.testing.assert_array_equal(getattr(result, field), getattr(expected, field))
    assert segmenter.predict([]) == []


def test_photos_that_are_stored_turned_are_segmented_upright(checkpoint, tmp_path):
    segmenter, pixels = spml.load_segmenter(checkpoint, device='cpu'), random_image(24, 36)
    expected = segmenter.predict(pixels)
    assert expected.labels.shape == (24, 36)
    for value in (2, 3, 6):
        path = save_turned(tmp_path / f'{value}.png', pixels, value)
        with Image.open(path) as opened:
            for result in segmenter.predict([path, opened, ImageOps.exif_transpose(opened)]):
                np.testing.assert_array_equal(result.probabilities, expected.probabilities)


def test_what_a_segmenter_tells_of_itself(checkpoint):
    segmenter = spml.load_segmenter(checkpoint.parent.parent, torch.device('cpu'), overrides=['test.image_size=77'])
    assert segmenter.class_names == ('sky', 'cat', 'dog')
    assert segmenter.device == torch.device('cpu')
    assert segmenter.config.test.image_size == 77


def test_which_checkpoint_a_folder_means(tmp_path):
    def put(name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
        return tmp_path / name

    with pytest.raises(CheckpointError, match=r'model-\*\.pth'):
        find_checkpoint(tmp_path)
    put('stage1/model-9.pth')
    newest = put('stage1/model-10.pth')
    put('stage1/model-10.state.pth')
    put('classifier.previous-1/model-30.pth')
    assert find_checkpoint(tmp_path) == find_checkpoint(tmp_path / 'stage1') == newest
    assert find_checkpoint(tmp_path / 'stage1' / 'model-9.pth') == tmp_path / 'stage1' / 'model-9.pth'
    assert find_checkpoint(tmp_path) != put('classifier_1/model-5.pth') == find_checkpoint(tmp_path)
    assert find_checkpoint(tmp_path) != put('classifier_2/model-5.pth') == find_checkpoint(tmp_path)


def test_a_configuration_may_be_given(networks, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content['config']
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=r'model-3\.pth: carries no configuration'):
        spml.load_segmenter(checkpoint)
    config = configuration.resolve(configuration.to_dict(networks[0]), ['test.image_size=50'])
    path = tmp_path / 'mine.yaml'
    path.write_text(configuration.dump(config))
    for given in (path, str(path), configuration.to_dict(config)):
        assert spml.load_segmenter(checkpoint, 'cpu', config=given).config == config


def test_mistakes_are_named(checkpoint, tmp_path):
    for source in (tmp_path / 'none.pth', tmp_path / 'nowhere'):
        with pytest.raises(CheckpointError, match=str(source)):
            spml.load_segmenter(source)
    with pytest.raises(ConfigError, match='no_such_device'):
        spml.load_segmenter(checkpoint, 'no_such_device')
    with pytest.raises(ConfigError, match=r'test\.no_such'):
        spml.load_segmenter(checkpoint, 'cpu', overrides=['test.no_such=1'])
    segmenter = spml.load_segmenter(checkpoint, 'cpu')
    with pytest.raises(DataError, match=r'none\.jpg'):
        segmenter.predict(tmp_path / 'none.jpg')
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(DataError, match=r'uint8 \(H, W, 3\)'):
            segmenter.predict(wrong)
