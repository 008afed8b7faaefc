"""`train.precision`: what runs in bfloat16 and what must not."""
import contextlib

import pytest
import torch
from test_embedding_task import random_batch

from spml.errors import ConfigError
from spml.models.build import build_classifier, build_embedding
from spml.training.build import build_embedding_task
from spml.training.tasks import ClassifierTask
from spml.utils.device import convolutions

pytestmark = pytest.mark.usefixtures('one_thread')
CPU = torch.device('cpu')
BF16 = 'train.precision=bf16'


def convolution_types(module):
    """Return the set that collects the types of what every convolution of `module` returns."""
    types = set()
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(lambda _module, _inputs, output: types.add(output.dtype))
    return types


def test_the_default_is_float32(small_config):
    task = build_embedding_task(small_config()).train()
    types = convolution_types(task)
    task(random_batch())
    assert types == {torch.float32}


def test_bfloat16_ends_at_the_networks(small_config, monkeypatch):
    task = build_embedding_task(small_config(BF16)).train()
    types, seen = convolution_types(task), []
    criterion = task.criterion.forward

    def forward(pixels, local, everyone, *more):
        seen.extend((pixels.embedding.dtype, pixels.embedding_with_location.dtype, everyone.prototype.dtype))
        assert not torch.is_autocast_enabled('cpu')
        return criterion(pixels, local, everyone, *more)

    monkeypatch.setattr(task.criterion, 'forward', forward)
    losses, extras = task(random_batch())
    assert types == {torch.bfloat16}
    assert set(seen) == {torch.float32}
    assert {loss.dtype for loss in losses.values()} == {extras['embedding'].dtype} == {torch.float32}
    sum(losses.values()).backward()
    assert {p.grad.dtype for p in task.parameters() if p.grad is not None} == {torch.float32}
    assert {w.dtype for w in task.state_dict().values() if w.is_floating_point()} == {torch.float32}


def test_bfloat16_embeddings_are_those_of_float32_but_for_rounding(small_config):
    task, batch = build_embedding_task(small_config()).eval(), random_batch()
    vectors = []
    for precision in ('fp32', 'bf16'):
        task.precision = precision
        vectors.append(torch.nn.functional.normalize(task(batch)[1]['embedding'], dim=1))
    cosine = (vectors[0] * vectors[1]).sum(dim=1)
    # 8 bits of mantissa: some rounding, and no more than some.
    assert 0.99 < cosine.min() < 1
    assert not torch.equal(*vectors)


def test_the_classifier_alone(small_config):
    config = small_config(BF16)
    task = ClassifierTask(build_embedding(config), build_classifier(config), 3, config.train.precision).train()
    types = convolution_types(task)
    losses, extras = task(random_batch())
    losses['softmax_loss'].backward()
    assert types == {torch.bfloat16}
    assert losses['softmax_loss'].dtype == extras['embedding'].dtype == torch.float32
    assert all(p.grad is None for p in task.embedding.parameters())
    assert {p.grad.dtype for p in task.classifier.parameters()} == {torch.float32}


@pytest.mark.parametrize(('precision', 'allowed'), [('fp32', False), ('tf32', True), ('bf16', False)])
def test_convolutions_take_tf32_only_when_asked_and_only_for_the_training(precision, allowed):
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    with contextlib.suppress(KeyError), convolutions(precision, CPU):
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert torch.backends.cudnn.benchmark
        # A training that fails.
        raise KeyError
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before


def test_a_device_without_bfloat16_is_one_line():
    with pytest.raises(ConfigError, match=r'train\.precision: bf16 does not work on meta') as caught, \
            convolutions('bf16', torch.device('meta')):
        pass
    assert '\n' not in str(caught.value)
