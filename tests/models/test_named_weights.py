"""The stem that torchvision's weights need, held to torchvision's own ResNet, and how the weights are fetched."""
import pathlib
import urllib.error

import pytest
import torch
import torchvision
from naive_layers import embedding_network, randomise_batch_norms

from spml.errors import CheckpointError, ConfigError
from spml.models.build import build_embedding, starting_weights, torchvision_checkpoint
from spml.models.weights import load_embedding

SETTINGS = ('network.stem=7x7', 'network.pretrained=torchvision', 'network.backbone_types=panoptic_deeplab_50')


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's folder for downloaded weights, empty."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    return tmp_path / 'hub' / 'checkpoints'


@pytest.fixture
def offline(monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError('no route to host')
    monkeypatch.setattr(torch.hub, 'urlopen', fail)


def torchvision_resnet():
    """torchvision's ResNet-50 of random weights, dilated as in METHOD.md, "Network", and its features."""
    model = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    randomise_batch_norms(model)
    return model, torch.nn.Sequential(*list(model.children())[:-2])


@torch.no_grad()
def test_features_are_those_of_torchvisions_network(small_config, hub):
    source, features = torchvision_resnet()
    hub.mkdir(parents=True)
    torch.save(source.state_dict(), hub / 'resnet50-0676ba61.pth')
    config = small_config(*SETTINGS)
    model = build_embedding(config).eval()
    load_embedding(model, starting_weights(config), lenient=True)
    images = torch.randn(1, 3, 65, 97)
    want = features(images)
    assert want.shape == (1, 2048, 9, 13)
    torch.testing.assert_close(model.backbone(images), want, rtol=1e-4, atol=1e-4 * want.abs().max().item())
    assert model.backbone.conv1(images).shape == (1, 64, 17, 25)


def test_all_keys_but_the_stems_are_those_of_the_release():
    with torch.device('meta'):
        deep, plain = (embedding_network(101, 'deeplab', 64, stem=stem).state_dict() for stem in ('deep', '7x7'))
    stem = 'resnet_backbone.conv1.conv1.'
    norm = {'weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'}
    assert set(deep) - set(plain) == {f'{stem}{i}.weight' for i in (0, 3, 6)} | {
        f'{stem}{i}.{part}' for i in (1, 4) for part in norm}
    assert set(plain) - set(deep) == {f'{stem}weight'}
    assert plain[f'{stem}weight'].shape == (64, 3, 7, 7)
    changed = {key for key in set(deep) & set(plain) if deep[key].shape != plain[key].shape}
    assert changed == {f'resnet_backbone.conv1.bn1.{part}' for part in norm - {'num_batches_tracked'}} | {
        'resnet_backbone.res2.0.conv1.weight', 'resnet_backbone.res2.0.downsample.0.weight'}


@pytest.mark.parametrize(('stem', 'other'), [('deep', '7x7'), ('7x7', 'deep')])
def test_a_checkpoint_of_the_other_stem_is_an_error_that_names_the_key(tmp_path, stem, other):
    path = tmp_path / 'model-3.pth'
    torch.save({'embedding_model': embedding_network(14, 'deeplab', 8, stem=stem).state_dict()}, path)
    with pytest.raises(CheckpointError, match=r'conv1\.conv1\..*network\.stem') as caught:
        load_embedding(embedding_network(14, 'deeplab', 8, stem=other), path)
    path.unlink()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('weights', 'name'), [('ResNet50_Weights', 'resnet50-0676ba61.pth'),
                                               ('ResNet101_Weights', 'resnet101-63fe2227.pth')])
def test_offline_one_line_says_which_file_to_put_where(hub, offline, weights, name):
    with pytest.raises(CheckpointError) as caught:
        torchvision_checkpoint(weights)
    message = str(caught.value)
    assert message.startswith(f'{hub / name}: ')
    assert f'https://download.pytorch.org/models/{name}' in message
    assert 'no route to host' in message
    assert '\n' not in message
    assert not (hub / name).exists()
    (hub / name).write_text('put there')
    assert torchvision_checkpoint(weights) == hub / name


def test_a_file_is_fetched_once_and_its_content_checked(hub, monkeypatch):
    asked = []

    def download(url, path, hash_prefix):
        asked.append((url, hash_prefix))
        pathlib.Path(path).write_text('weights')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        assert torchvision_checkpoint('ResNet101_Weights').read_text() == 'weights'
    assert asked == [('https://download.pytorch.org/models/resnet101-63fe2227.pth', '63fe2227')]


@pytest.mark.parametrize(('overrides', 'naming'), [
    (['network.stem=deep'], 'network.stem'), (['network.backbone_types=panoptic_pspnet_14'], 'network.backbone_types'),
    (['network.prediction_types=softmax_classifier'], 'network.pretrained')])
def test_what_does_not_go_with_torchvisions_weights(small_config, overrides, naming):
    with pytest.raises(ConfigError, match=naming) as caught:
        small_config(*SETTINGS, *overrides)
    assert 'torchvision' in str(caught.value)
