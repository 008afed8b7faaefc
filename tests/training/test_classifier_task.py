import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from spml.errors import ConfigError
from spml.models.build import build_classifier, build_embedding
from spml.models.heads import SoftmaxClassifier, softmax_loss
from spml.training.build import train_classifier
from spml.training.tasks import ClassifierTask

CPU = torch.device('cpu')


@pytest.fixture
def trained_embedding(tmp_path, small_config):
    """A checkpoint of random weights with statistics that a forward pass in training mode would move."""
    network, head = build_embedding(small_config()), build_classifier(small_config())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    path = tmp_path / 'embedding' / 'model-9.pth'
    path.parent.mkdir()
    torch.save({'embedding_model': network.state_dict(), 'prediction_model': head.state_dict()}, path)
    return path


def configure(small_config, path, *more):
    return small_config('network.prediction_types=softmax_classifier', f'network.pretrained={path}', *more)


@pytest.mark.usefixtures('one_thread')
@pytest.mark.parametrize('fields', [2, 3])
def test_training_leaves_the_embedding_bit_identical(tmp_path, small_config, small_data, trained_embedding, fields):
    """Named by the configuration, or by its folder."""
    config = configure(small_config, trained_embedding if fields == 2 else '', 'train.base_lr=0.01')
    train_classifier(config, small_data.folder, small_data.lists[fields], tmp_path / 'run', CPU,
                     embedding='other' if fields == 2 else trained_embedding.parent)
    before = torch.load(trained_embedding, weights_only=True)
    after = torch.load(tmp_path / 'run' / 'model-3.pth', weights_only=True)
    assert before['embedding_model'].keys() == after['embedding_model'].keys()
    for name, value in before['embedding_model'].items():
        assert torch.equal(after['embedding_model'][name], value), name
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [line['iteration'] for line in lines] == [0, 1, 2, 3]
    for line in lines:
        assert set(line) == {'iteration', 'lr', 'loss', 'accuracy', 'softmax_loss'}
        assert line['loss'] == line['softmax_loss']  # weight 1
        assert 0 <= line['accuracy'] <= 1


@pytest.mark.usefixtures('one_thread')
def test_the_head_starts_afresh_and_learns(tmp_path, small_config, small_data, trained_embedding):
    """With a rate of nearly nothing the head shows its first values: those of the seed, not the checkpoint's."""
    heads = {}
    for seed, base_lr in ((5, 1e-12), (5, 1e-2), (6, 1e-12)):
        config = configure(small_config, trained_embedding, f'train.base_lr={base_lr}', f'seed={seed}',
                           'train.max_iteration=2')
        folder = tmp_path / f'run {seed} {base_lr}'
        train_classifier(config, small_data.folder, small_data.lists[2], folder, CPU)
        content = torch.load(folder / 'model-1.pth', weights_only=True)['prediction_model']
        heads[seed, base_lr] = content['semantic_classifier.0.weight']
    stored = torch.load(trained_embedding, weights_only=True)['prediction_model']['semantic_classifier.0.weight']
    assert (heads[5, 1e-12] - stored).abs().max() > 1e-2
    assert (heads[5, 1e-12] - heads[6, 1e-12]).abs().max() > 1e-2
    assert (heads[5, 1e-12] - heads[5, 1e-2]).abs().max() > 1e-4


@pytest.mark.usefixtures('one_thread')
def test_an_embedding_that_is_not_frozen_learns_but_for_its_frozen_stages(tmp_path, small_config, small_data,
                                                                          trained_embedding, identical):
    """It starts from the weights that are named, in training mode, and a resume continues it bit by bit."""
    def run(folder, *overrides, **options):
        config = configure(small_config, trained_embedding, 'train.freeze_embedding=false',
                           'network.frozen_stages=[res4]', *overrides)
        train_classifier(config, small_data.folder, small_data.lists[2], tmp_path / folder, CPU, **options)
        return torch.load(max((tmp_path / folder).glob('model-?.pth')), weights_only=True)

    before = torch.load(trained_embedding, weights_only=True)['embedding_model']
    still = run('still', 'train.base_lr=1e-12')['embedding_model']
    unbroken = run('unbroken', 'train.base_lr=0.01')
    after = unbroken['embedding_model']
    assert before.keys() == after.keys()
    for name, value in before.items():
        if name.endswith(('running_mean', 'running_var')):
            assert not torch.equal(still[name], value), name  # of the batches: it is in training mode
        elif not name.endswith('num_batches_tracked'):
            assert torch.allclose(still[name], value, atol=1e-6), name
            assert torch.equal(after[name], value) == ('.res4.' in name), name
    run('halved', 'train.base_lr=0.01', 'train.snapshot_step=2')
    for path in (tmp_path / 'halved').glob('model-3*'):
        path.unlink()
    resumed = run('halved', 'train.base_lr=0.01', 'train.snapshot_step=2', resume=True)
    assert identical(resumed['embedding_model'], after)
    assert identical(resumed['prediction_model'], unbroken['prediction_model'])


def test_an_embedding_has_to_be_named(tmp_path, small_config, small_data):
    with pytest.raises(ConfigError, match=r'network\.pretrained.*--embedding'):
        train_classifier(small_config('network.prediction_types=softmax_classifier'), small_data.folder,
                         small_data.list, tmp_path / 'run', CPU)


def test_training_mode_reaches_what_learns_only(small_config):
    task = ClassifierTask(build_embedding(small_config()), build_classifier(small_config()), 3)
    learning = ClassifierTask(build_embedding(small_config()), build_classifier(small_config()), 3,
                              freeze_embedding=False)
    for mode in (True, False):
        task.train(mode)
        learning.train(mode)
        assert not any(module.training for module in task.embedding.modules())
        assert all(module.training == mode for part in (task.classifier, learning) for module in part.modules())
    assert not any(p.requires_grad for p in task.embedding.parameters())
    assert all(p.requires_grad for part in (task.classifier, learning) for p in part.parameters())


def test_the_loss_is_the_head_s_on_unit_embeddings_of_the_quarter_grid():
    embedding = nn.Conv2d(3, 4, 4, stride=4).double()
    classifier = SoftmaxClassifier(4, 3, 0.0).double().eval()
    task = ClassifierTask(embedding, copy.deepcopy(classifier), 3).eval()
    images = torch.randn(2, 3, 16, 20, dtype=torch.float64)
    labels = torch.from_numpy(np.random.default_rng().choice([0, 1, 2, 3, 254, 255], (2, 16, 20)))
    losses, extras = task({'image': images, 'semantic_label': labels})
    with torch.no_grad():
        logits = classifier.semantic_classifier(nn.functional.normalize(embedding(images), dim=1))
        loss, accuracy = softmax_loss(logits, labels, 3)
    assert logits.shape[-2:] == (4, 5)
    assert list(losses) == ['softmax_loss']
    assert losses['softmax_loss'].item() == pytest.approx(loss.item(), rel=1e-9)
    assert task.accuracy(extras).item() == pytest.approx(accuracy.item())
