"""How a step of embedding training is put together; the relations themselves have their own tests."""
import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spml import config as configuration
from spml.training.build import build_embedding_task, train_embedding

pytestmark = pytest.mark.usefixtures('one_thread')
CPU = torch.device('cpu')


def random_batch(batch=2, size=32, values=(0, 1, 2, 200, 255)):
    rng = np.random.default_rng()
    labels = np.kron(rng.choice(values, (batch, 4, 4)), np.ones((size // 4, size // 4), int))
    regions = np.kron(rng.integers(0, 3, (batch, 4, 4)), np.ones((size // 4, size // 4), int))
    tags = np.stack([np.bincount(label.ravel(), minlength=256) > 0 for label in labels])
    return {'image': torch.randn(batch, 3, size, size), 'semantic_label': torch.from_numpy(labels),
            'instance_label': torch.from_numpy(regions), 'tags': torch.from_numpy(tags),
            'name': [f'image {i}' for i in range(batch)]}


def test_a_relation_that_is_off_has_no_loss(small_config):
    task = build_embedding_task(small_config('train.sem_occ_loss_types=none', 'train.img_sim_loss_types=none',
                                             'train.feat_aff_loss_types=segsort', 'train.feat_aff_concentration=3'))
    losses, _ = task.train()(random_batch())
    assert set(losses) == {'sem_ann_loss', 'feat_aff_loss', 'softmax_loss'}


def test_the_head_learns_on_detached_embeddings(small_config):
    task = build_embedding_task(small_config()).train()
    losses, _ = task(random_batch())
    losses['softmax_loss'].backward(retain_graph=True)
    assert all(p.grad is None for p in task.embedding.parameters())
    assert any(p.grad.abs().max() > 0 for p in task.classifier.parameters())
    task.zero_grad()
    sum(loss for name, loss in losses.items() if name != 'softmax_loss').backward()
    assert all(p.grad is None for p in task.classifier.parameters())
    assert any(p.grad.abs().max() > 0 for p in task.embedding.parameters())


def test_cross_entropy_alone_can_train_the_embedding(small_config):
    off = [f'train.{name}_loss_types=none' for name in ('sem_ann', 'sem_occ', 'img_sim')]
    task = build_embedding_task(small_config('train.detach_softmax=false', *off)).train()
    losses, _ = task(random_batch())
    assert set(losses) == {'softmax_loss'}
    losses['softmax_loss'].backward()
    assert all(p.grad is not None for p in task.embedding.parameters())
    assert any(p.grad.abs().max() > 0 for p in task.embedding.parameters())


@pytest.mark.parametrize(('images', 'largest', 'said'), [
    ('abc', 0.3, 'used: 0 %'), ('aab', 0.34, 'used: 33 %'), ('aab', 0.33, 'left out: 33 %'),
    ('aaa', 0.99, 'left out: 100 %'), ('aaa', 1, '')])
def test_co_occurrence_is_left_out_where_too_many_pairs_share_a_class(tmp_path, small_config, small_data, capsys,
                                                                      images, largest, said):
    """Images a and b have one foreground class each, c has none."""
    path = tmp_path / 'list.txt'
    path.write_text(''.join(f'image/{name}.png semantic/{name}.png instance/{name}.png\n' for name in images))
    config = small_config(f'train.sem_occ_largest_share={largest}', 'train.max_iteration=1')
    train_embedding(config, small_data.folder, path, tmp_path / 'run', CPU)
    printed = capsys.readouterr().out
    assert f'co-occurrence is {said}' in printed if said else 'co-occurrence' not in printed
    line, = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
    assert ('sem_occ_loss' in line) == ('left out' not in said)


def test_the_images_of_a_step_are_shared_out_and_the_configuration_stays_the_users(tmp_path, small_config, small_data,
                                                                                    capsys):
    config = small_config('train.batch_size=4', 'train.total_batch_size=3', 'train.max_iteration=2')
    before = copy.deepcopy(config)
    train_embedding(config, small_data.folder, small_data.list, tmp_path / 'run', CPU)
    assert config == before
    assert torch.load(tmp_path / 'run' / 'model-1.pth', weights_only=True)['config'] == configuration.to_dict(before)
    assert 'training on 1 process x 3 images: 2 steps, 6 images\n' in capsys.readouterr().out
    # Three images, three a step: each has been seen, and in the bank each has an id in each of its two steps.
    memory = torch.load(tmp_path / 'run' / 'model-1.state.pth', weights_only=True)['memory']
    assert [sorted(set(step['image'].tolist())) for step in memory] == [[3, 4, 5], [0, 1, 2]]


def test_densepose_hands_on_vectors_that_weigh_colour_and_place(small_config):
    """`normalise([0.1 * embedding, local features])`, with five local features."""
    config = small_config('dataset.dataset=Densepose', 'network.backbone_types=panoptic_pspnet_14')
    task, batch = build_embedding_task(config).train(), random_batch(values=(0, 1, 200))
    task.kmeans_iterations = 0
    pixels = torch.arange(64).view(8, 8)
    batch['instance_label'] = pixels.repeat_interleave(4, 0).repeat_interleave(4, 1).expand(2, 32, 32)
    _, extras = task(batch)
    segments = extras['step_segments']
    assert len(segments) == 128  # a pixel each
    unit = F.normalize(extras['embedding'], dim=1)
    local = task.embedding.local_features(batch['image'], (8, 8))
    assert local.shape == (2, 5, 8, 8)
    vectors = F.normalize(torch.cat([0.1 * unit, local], dim=1), dim=1)
    y, x = segments.instance // 8, segments.instance % 8
    torch.testing.assert_close(segments.prototype_with_location, vectors[segments.image, :, y, x])
    torch.testing.assert_close(segments.prototype, unit[segments.image, :, y, x])


@pytest.mark.parametrize('values', [(255,), (200, 255), (200,), (0,)])
def test_batches_with_little_to_learn_from_are_finite(small_config, values):
    config = small_config('train.feat_aff_loss_types=segsort', 'train.feat_aff_concentration=12')
    task = build_embedding_task(config).train()
    for _ in range(2):
        losses, extras = task(random_batch(values=values))
        total = sum(losses.values())
        assert torch.isfinite(total)
        task.zero_grad()
        total.backward()
        assert all(torch.isfinite(p.grad).all() for p in task.parameters() if p.grad is not None)
        assert torch.isfinite(task.accuracy(extras))
        task.after_step(extras)


def test_pretrained_weights_are_loaded(tmp_path, small_config, small_data):
    source = build_embedding_task(small_config()).embedding.state_dict()
    torch.save({'embedding_model': source}, tmp_path / 'start.pth')
    config = small_config(f'network.pretrained={tmp_path / "start.pth"}', 'train.max_iteration=1',
                          'train.base_lr=1e-12', 'seed=77')
    train_embedding(config, small_data.folder, small_data.list, tmp_path / 'run', CPU)
    after = torch.load(tmp_path / 'run' / 'model-0.pth', weights_only=True)['embedding_model']
    for name, value in source.items():
        if 'running_' not in name and 'num_batches' not in name:
            torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)


POINT = {'train.sem_ann_loss_weight': 0.1, 'train.sem_occ_concentration': 8, 'train.sem_occ_loss_weight': 0.2,
         'train.img_sim_concentration': 9}
OF_POINTS = {key.partition('.')[2]: value for key, value in POINT.items()}


def test_a_set_of_one_kind_trains_exactly_as_with_its_keys_for_all(tmp_path, small_config, small_data, identical):
    weights, metrics = [], []
    lines = small_data.list.read_text().splitlines()
    small_data.list.write_text(''.join(f'{line} - point\n' for line in lines))
    for folder, overrides in (('alike', [f'{key}={value}' for key, value in POINT.items()]),
                              ('by_kind', ['train.sem_ann_loss_weight=0.7',
                                           f'train.kinds={json.dumps({"tag": {}, "point": OF_POINTS})}'])):
        train_embedding(small_config('train.sem_occ_loss_weight=0.5', *overrides), small_data.folder, small_data.list,
                        tmp_path / folder, CPU)
        snapshot = torch.load(tmp_path / folder / 'model-3.pth', weights_only=True)
        weights.append({name: snapshot[name] for name in ('embedding_model', 'prediction_model')})
        metrics.append((tmp_path / folder / 'metrics.jsonl').read_text())
    assert identical(*weights)
    assert metrics[0] == metrics[1]


def test_losses_of_a_mixed_batch_are_weighted_by_the_kinds_of_its_images(small_config):
    config = small_config(f'train.kinds={json.dumps({"point": {"sem_ann_loss_weight": 0}})}',
                          'train.sem_ann_loss_weight=0.5')
    task, batch = build_embedding_task(config).eval(), random_batch(values=(0, 1, 200))
    alone = {}
    for kind in ('point', 'scribble', None):
        losses, _ = task({**batch, 'kind': [kind or '', kind or '']} if kind else batch)
        alone[kind] = losses
    assert alone['point']['softmax_loss'] == alone['point']['sem_ann_loss'] == 0
    assert alone['scribble']['softmax_loss'] > 0
    assert all(torch.equal(alone['scribble'][name], loss) for name, loss in alone[None].items())
    mixed, _ = task({**batch, 'kind': ['scribble', 'point']})
    # The mean is over all labelled pixels, of which those of the second image count nothing.
    labelled = (batch['semantic_label'] < 3).sum(dim=(1, 2)).double()
    only_first = {**batch, 'semantic_label': batch['semantic_label'].clone(), 'kind': ['', '']}
    only_first['semantic_label'][1] = 200
    first, _ = task(only_first)
    torch.testing.assert_close(mixed['softmax_loss'].double(), first['softmax_loss'].double() * labelled[0]
                               / labelled.sum())


def test_settings_of_kinds_that_the_list_does_not_name_are_said_to_have_no_effect(tmp_path, small_config, small_data,
                                                                                 caplog):
    config = small_config(f'train.kinds={json.dumps({"point": OF_POINTS})}', 'train.max_iteration=1')
    lines = small_data.list.read_text().splitlines()
    small_data.list.write_text(''.join(f'{line} - box\n' for line in lines))
    train_embedding(config, small_data.folder, small_data.list, tmp_path / 'run', CPU)
    assert 'train.kinds has no effect: it says nothing of the kinds' in caplog.text
    assert caplog.text.count('(box)') == 1


@pytest.mark.parametrize(('tags', 'said'), [('1', True), ('', False)])
def test_co_occurrence_of_images_that_share_a_class_says_nothing(tmp_path, small_config, small_data, caplog, tags,
                                                                 said):
    lines = small_data.list.read_text().splitlines()
    small_data.list.write_text(''.join(f'{line} {tags}\n' for line in lines))
    train_embedding(small_config('train.max_iteration=2'), small_data.folder, small_data.list, tmp_path / 'run', CPU)
    assert ('sem_occ_loss has been 0 in every step' in caplog.text) == said
