import logging
import pathlib
import pickle

import pytest
import torch
from naive_layers import embedding_network

from spml.errors import CheckpointError
from spml.models.backbones import build_backbone
from spml.models.build import starting_weights
from spml.models.heads import SoftmaxClassifier
from spml.models.weights import load_classifier, load_embedding, read_checkpoint

DIM = 4


def network(head='deeplab', dim=DIM, colour=False, depth=14):
    """Return an embedding network whose random tensors, statistics too, are all unlike those of another."""
    model = embedding_network(depth, head, dim, colour=colour)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and 'smooth_kernel' not in name:
            value.normal_()
    return model


def assert_same(model, state, prefix=''):
    """Assert that the model's floating tensors whose key starts with `prefix` are those of `state`."""
    own = {key: value for key, value in model.state_dict().items() if key.startswith(prefix)}
    assert own
    for key, value in own.items():
        assert torch.equal(value, state[key]), key


def to_imagenet(state):
    """Name the backbone's tensors as a flat ImageNet state dict does."""
    out = {}
    for key, value in state.items():
        if key.startswith('resnet_backbone.conv1.'):
            out[key.removeprefix('resnet_backbone.conv1.')] = value
        elif key.startswith('resnet_backbone.res'):
            stage = int(key[len('resnet_backbone.res')])
            out[f'layer{stage - 1}' + key[len('resnet_backbone.res2'):]] = value
    return out


@pytest.fixture
def saved(tmp_path):
    """A function that writes an object with torch.save and returns the path."""
    path = tmp_path / 'model-3.pth'

    def save(content):
        torch.save(content, path)
        return path

    yield save
    # Tens of megabytes each, which pytest would keep for three runs.
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(('head', 'colour', 'prefix', 'config'), [
    ('deeplab', False, 'module.', {}), ('deeplab', False, '', {'config': {'seed': 1}}), ('pspnet', True, '', {})])
def test_a_snapshot_loads_whole(saved, head, colour, prefix, config, caplog):
    source, model = network(head, colour=colour), network(head, colour=colour)
    classifier, other = SoftmaxClassifier(DIM, 3, 0.5), SoftmaxClassifier(DIM, 3, 0.5)
    path = saved({'embedding_model': {prefix + key: value for key, value in source.state_dict().items()},
                  'prediction_model': {prefix + key: value for key, value in classifier.state_dict().items()},
                  **config})
    with caplog.at_level(logging.WARNING):
        load_embedding(model, path)
        load_classifier(other, path)
    assert_same(model, source.state_dict())
    assert_same(other, classifier.state_dict())
    assert not caplog.records


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_imagenet_weights_fill_the_backbone_and_warn_of_the_head(saved, prefix, caplog):
    source, model = network(), network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flat = {**to_imagenet(source.state_dict()), 'fc.weight': torch.zeros(1000, 2048)}
    with caplog.at_level(logging.WARNING):
        load_embedding(model, saved({prefix + key: value for key, value in flat.items()}), lenient=True)
    assert_same(model, source.state_dict(), 'resnet_backbone.')
    assert_same(model, before, 'aspp.')
    assert any('aspp.aspp_1.0.weight is missing' in record.getMessage() for record in caplog.records)
    assert any('fc.weight' in record.getMessage() for record in caplog.records)


def test_keys_with_the_models_names_load_unchanged(saved):
    source, model = network(), network()
    flat = to_imagenet(source.state_dict())
    flat.update({key: value for key, value in source.state_dict().items() if key.startswith('aspp.')})
    load_embedding(model, saved(flat))
    assert_same(model, source.state_dict())


@pytest.mark.parametrize('key', ['layer3.0.conv2.weight', 'conv1.0.weight', 'bn1.running_mean', 'layer1.0.bn2.bias'])
def test_a_missing_backbone_tensor_is_an_error_that_names_it_even_when_lenient(saved, key):
    flat = to_imagenet(network().state_dict())
    del flat[key]
    path = saved(flat)
    with pytest.raises(CheckpointError) as caught:
        load_embedding(network(), path, lenient=True)
    assert str(path) in str(caught.value)
    assert f'resnet_backbone.{build_backbone("14").foreign_key(key)} is missing' in str(caught.value)


def test_a_misshapen_backbone_tensor_is_an_error_even_when_lenient(saved):
    state = network().state_dict()
    state['resnet_backbone.res2.0.conv1.weight'] = torch.zeros(64, 128, 3, 3)
    with pytest.raises(CheckpointError, match=r'res2\.0\.conv1\.weight.*\(64, 128, 3, 3\).*\(64, 128, 1, 1\)'):
        load_embedding(network(), saved({'embedding_model': state}), lenient=True)


@pytest.mark.parametrize('lenient', [True, False])
def test_weights_of_another_depth_are_refused(saved, lenient):
    path = saved({'embedding_model': network().state_dict()})
    with torch.device('meta'):
        deeper = embedding_network(50, 'deeplab', DIM)
    with pytest.raises(CheckpointError, match=r'res2\.1\.conv1\.weight is missing.* more'):
        load_embedding(deeper, path, lenient)
    # Those of a deeper one hold all that is needed, and more.
    for state in (deeper.state_dict(), to_imagenet(deeper.state_dict())):
        content = {key: torch.tensor(0.0).expand(value.shape) for key, value in state.items()}
        with pytest.raises(CheckpointError, match=r'it has resnet_backbone\.res2\.1\.conv1\.weight.*backbone_types'):
            load_embedding(network(), path, lenient=True, content=content)


def test_weights_to_start_from(tmp_path, small_config, monkeypatch):
    config, folder = small_config('network.pretrained=stage1'), tmp_path / 'stage1'
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r'stage1: this folder holds no model-\*\.pth'):
        starting_weights(config)
    for name in ('model-9.pth', 'model-10.pth', 'model-11.state.pth'):
        (folder / name).touch()
    assert starting_weights(config, 'other.pth').resolve() == folder / 'model-10.pth'
    assert starting_weights(small_config(), folder) == folder / 'model-10.pth'
    assert starting_weights(small_config(f'network.pretrained={folder / "model-9.pth"}')) == folder / 'model-9.pth'
    assert starting_weights(small_config()) is None
    # A relative path that is not in the working directory is one of the project's.
    assert starting_weights(small_config('network.pretrained=configs/voc12/base.yaml')).is_file()


def test_batch_counts_may_be_missing(saved):
    source, model = network(), network()
    state = {key: value for key, value in source.state_dict().items() if not key.endswith('num_batches_tracked')}
    load_embedding(model, saved({'embedding_model': state}))
    assert_same(model, source.state_dict())


@pytest.mark.parametrize(('head', 'dim', 'wrong'), [
    ('pspnet', DIM, 'aspp.aspp_1.0.weight is missing'), ('deeplab', 6, '(6, 2048, 3, 3), needed (4, 2048, 3, 3)')])
def test_another_head_is_an_error_unless_lenient(saved, head, dim, wrong, caplog):
    source, model = network(head, dim), network()
    path = saved({'embedding_model': source.state_dict(),
                  'prediction_model': SoftmaxClassifier(dim, 5, 0.5).state_dict()})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_embedding(model, path)
    for part in (str(path), 'aspp.aspp_1.0.weight', wrong, 'network.embedding_dim'):
        assert part in str(caught.value)
    assert '\n' not in str(caught.value)
    assert_same(model, before)
    with caplog.at_level(logging.WARNING):
        load_embedding(model, path, lenient=True)
    assert_same(model, source.state_dict(), 'resnet_backbone.')
    assert_same(model, before, 'aspp.')
    assert wrong in caplog.text
    assert ('not used: pspp.' in caplog.text) == (head == 'pspnet')
    # Of a softmax head everything has to fit: embedding dimension and number of classes.
    with pytest.raises(CheckpointError, match=rf'classifier\.4\.weight.*\(5, {2 * dim}, 1, 1\).*\(3, 8, 1, 1\)'):
        load_classifier(SoftmaxClassifier(DIM, 3, 0.5), path)


def test_a_snapshot_without_softmax_head(saved):
    path = saved({'embedding_model': network().state_dict(), 'prediction_model': {}})
    with pytest.raises(CheckpointError, match='no weights of the softmax head'):
        load_classifier(SoftmaxClassifier(DIM, 3, 0.5), path)


@pytest.mark.parametrize('content', [
    {}, {'embedding_model': {}}, {'embedding_model': 3}, {'embedding_model': {'a': 'text'}}, {'epoch': 3, 'state': {}}])
def test_a_dict_without_embedding_weights(saved, content):
    path = saved(content)
    with pytest.raises(CheckpointError, match='no weights of the embedding network') as caught:
        load_embedding(network(), path)
    assert str(path) in str(caught.value)


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def cut(path, kept=slice(-300)):
    torch.save({'embedding_model': {'a': torch.zeros(50)}}, path)
    path.write_bytes(path.read_bytes()[kept])


@pytest.mark.parametrize('write', [
    lambda path: None, lambda path: torch.save([torch.zeros(2)], path), lambda path: path.write_bytes(b''),
    lambda path: path.write_text('no checkpoint at all'), cut, lambda path: cut(path, slice(1, None)),
    lambda path: torch.save({'embedding_model': {'a': Harmful(path.parent / 'executed')}}, path),
    lambda path: path.write_bytes(pickle.dumps({'a': Harmful(path.parent / 'executed')}, protocol=2))],
    ids=['absent', 'list', 'empty', 'text', 'cut', 'without its first byte', 'code', 'pickled code'])
def test_what_is_no_checkpoint_of_tensors_is_named_in_one_line_and_not_executed(tmp_path, write):
    path = tmp_path / 'model-3.pth'
    write(path)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f'{path}: ')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'executed').exists()


def test_what_a_file_has_left_over_for_the_head_is_an_error_unless_lenient(saved, caplog):
    state = network().state_dict()
    path = saved({'embedding_model': {**state, 'aspp.aspp_9.0.weight': torch.zeros(2)}})
    with pytest.raises(CheckpointError, match=r'it has aspp\.aspp_9\.0\.weight, unknown to the network'):
        load_embedding(network(), path)
    load_embedding(network(), path, lenient=True)
    assert any('not used: aspp.aspp_9.0.weight' in record.getMessage() for record in caplog.records)
