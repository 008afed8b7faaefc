"""Training on two processes: against the formula evaluated in one, and when one of them dies."""
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import naive_segsort as naive
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_several_processes import run_two

from spml import config as configuration
from spml.errors import ConfigError
from spml.training.build import build_embedding_task
from spml.utils import launch

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROCESSES, IMAGES, SIZE, GRID = 2, 2, 32, 8
CLASSES, VOID = 3, 255
WEIGHTS = {'sem_ann_loss': 0.7, 'sem_occ_loss': 0.4, 'img_sim_loss': 0.3, 'feat_aff_loss': 0.2, 'softmax_loss': 1.1}
KAPPA = {'sem_ann': 6, 'sem_occ': 8, 'img_sim': 16, 'feat_aff': 5}


def random_batch(rng):
    """Return four images in blocks of 8 x 8 pixels: class, unlabelled and void, and an over-segmentation."""
    def blocks(values):
        return torch.from_numpy(np.kron(rng.choice(values, (4, 4, 4)), np.ones((8, 8), int)))
    # Each image has its own foreground class or none, so that some share tags and others don't.
    labels = torch.stack([blocks([0, foreground, 200, VOID])[0] for foreground in (1, 2, 1, 0)])
    tags = torch.stack([torch.bincount(label.flatten(), minlength=256) > 0 for label in labels])
    return {'image': torch.from_numpy(rng.standard_normal((4, 3, SIZE, SIZE))), 'semantic_label': labels,
            'instance_label': blocks([0, 3, 255]), 'tags': tags}


def naive_segments(task, batch, iterations):
    """Return the kept pixels and the segments of all four images, from the network's output on, in plain loops."""
    location = np.linspace(0, 1, GRID) - 0.5
    start = np.round(np.linspace(0, 1, GRID)).astype(int)
    pixels, segments = [], {}
    embeddings = task.embedding(batch['image'])
    for image, embedding in enumerate(embeddings):
        kept = []
        for y in range(GRID):
            for x in range(GRID):
                semantic = int(batch['semantic_label'][image, y * 4, x * 4])
                if semantic == VOID:
                    continue
                unit = embedding[:, y, x] / embedding[:, y, x].norm()
                place = torch.tensor([location[y], location[x]], dtype=torch.float64)
                joint = torch.cat([unit, place])
                kept.append({'unit': unit, 'joint': joint / joint.norm(), 'image': image, 'semantic': semantic,
                             'instance': int(batch['instance_label'][image, y * 4, x * 4]),
                             'start': start[y] + 2 * start[x]})
        clusters = naive.kmeans(np.array([pixel['joint'].detach().numpy() for pixel in kept]),
                                [pixel['start'] for pixel in kept], 4, iterations)
        for pixel, cluster in zip(kept, clusters, strict=True):
            key = (image, int(cluster), pixel['semantic'], pixel['instance'])
            segments.setdefault(key, []).append(pixel)
            pixels.append((pixel, key))
    order = {key: index for index, key in enumerate(segments)}
    own = [order[key] for _, key in pixels]

    def sums(name):
        return torch.stack([F.normalize(sum(p[name] for p in members), dim=0) for members in segments.values()])
    described = {'image': [key[0] for key in segments], 'semantic': [key[2] for key in segments],
                 'instance': [key[3] for key in segments], 'unit': sums('unit'), 'joint': sums('joint')}
    described['tags'] = [set(batch['tags'][image].nonzero()[:, 0].tolist()) & {1, 2} for image in described['image']]
    return [pixel for pixel, _ in pixels], own, described, embeddings


def naive_losses(task, batches, iterations):
    """Return the losses of the last step by METHOD.md, "Relations": the mean over processes of each one's mean."""
    with torch.no_grad():
        _, _, bank, _ = naive_segments(task, batches[0], iterations)
    pixels, own, now, embeddings = naive_segments(task, batches[1], iterations)
    # An earlier step's images are others than this step's.
    image = now['image'] + [index + IMAGES * PROCESSES for index in bank['image']]
    semantic = torch.tensor(now['semantic'] + bank['semantic'])
    unit, joint = (torch.cat([now[name], bank[name]]) for name in ('unit', 'joint'))
    tags = now['tags'] + bank['tags']
    classes = naive.propagated_classes(joint, image, semantic, CLASSES)
    totals = dict.fromkeys(WEIGHTS, 0)
    for process in range(PROCESSES):
        mine = [i for i, pixel in enumerate(pixels) if pixel['image'] // IMAGES == process]
        vectors, segments = torch.stack([pixels[i]['unit'] for i in mine]), [own[i] for i in mine]
        with_location = torch.stack([pixels[i]['joint'] for i in mine])
        local = slice(0, len(now['image']))
        images = slice(process * IMAGES, (process + 1) * IMAGES)
        losses = {
            'sem_ann_loss': naive.semantic_annotation(vectors, segments, unit, semantic, KAPPA['sem_ann'], CLASSES),
            'sem_occ_loss': naive.sharing(vectors, segments, unit, tags, KAPPA['sem_occ']),
            'feat_aff_loss': naive.sharing(vectors, segments, unit, classes, KAPPA['feat_aff']),
            'img_sim_loss': naive.image_similarity(with_location, segments, joint[local], now['image'],
                                                   now['instance'], KAPPA['img_sim']),
            'softmax_loss': naive_cross_entropy(task, embeddings[images].detach(),
                                                batches[1]['semantic_label'][images])}
        totals = {name: totals[name] + losses[name] / PROCESSES for name in totals}
    return totals


def naive_cross_entropy(task, embeddings, labels):
    logits = task.classifier.semantic_classifier(embeddings / embeddings.norm(dim=1, keepdim=True))
    logits = F.interpolate(logits, size=(SIZE, SIZE), mode='bilinear', align_corners=False)
    terms = [-logits[b, :, y, x].log_softmax(0)[labels[b, y, x]] for b, y, x in (labels < CLASSES).nonzero().tolist()]
    return sum(terms) / len(terms)


def test_two_processes_compute_the_formula(tmp_path, small_config):
    """Loss and gradients of 2 processes x 2 images, memory bank included, to 1e-9."""
    config = small_config('train.sem_occ_loss_types=segsort', 'train.feat_aff_loss_types=segsort',
                          *(f'train.{name}_concentration={kappa}' for name, kappa in KAPPA.items()))
    rng = np.random.default_rng()
    batches = [random_batch(rng) for _ in range(2)]
    task = build_embedding_task(config).double().eval()
    torch.save({'config': configuration.to_dict(config), 'state': task.state_dict(), 'batches': batches,
                'weights': WEIGHTS}, tmp_path / 'step.pth')
    run_two(pathlib.Path(__file__).with_name('distributed_step.py'), tmp_path)
    ranks = [torch.load(tmp_path / f'rank{rank}.pth', weights_only=True) for rank in range(PROCESSES)]

    wanted = naive_losses(task, batches, config.network.kmeans_iterations)
    sum(WEIGHTS[name] * loss for name, loss in wanted.items()).backward()
    for name, loss in wanted.items():
        got = sum(rank['losses'][name] for rank in ranks) / PROCESSES
        assert got.item() == pytest.approx(loss.item(), rel=1e-9), name
    for name, parameter in task.named_parameters():
        scale = parameter.grad.abs().max().item()
        for rank in ranks:
            torch.testing.assert_close(rank['gradients'][name], parameter.grad, rtol=1e-9, atol=1e-9 * max(scale, 1),
                                       msg=lambda text, name=name: f'{name}: {text}')
    assert ranks[0]['total'] != ranks[1]['total']  # they have different images


# A machine whose name does not resolve, as Python's libraries see it.
NAMELESS = """
import socket, time
for name in ('getaddrinfo', 'gethostbyname', 'gethostbyname_ex', 'getfqdn'):
    def resolve(*args, call=getattr(socket, name), **options):
        if not args or args[0] in ('', socket.gethostname()):
            time.sleep(1000)
        return call(*args, **options)
    setattr(socket, name, resolve)
"""


def start_training(tmp_path, small_config, small_data, *overrides):
    config = tmp_path / 'config.yaml'
    (tmp_path / 'sitecustomize.py').write_text(NAMELESS)
    config.write_text(configuration.dump(small_config('train.batch_size=1', *overrides)))
    return subprocess.Popen(
        [sys.executable, str(ROOT / 'pyscripts/train/train.py'), '--cfg_path', str(config), '--data_dir',
         str(small_data.folder), '--data_list', str(small_data.list), '--snapshot_dir', str(tmp_path / 'run'),
         '--device', 'cpu', '--num_processes', '2'],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{tmp_path}:{ROOT}', 'CUDA_VISIBLE_DEVICES': ''},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(process):
    """Return the process ids of a process's children."""
    return [int(pid) for pid in pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_command_trains_on_two_processes(tmp_path, small_config, small_data):
    process = start_training(tmp_path, small_config, small_data, 'train.total_batch_size=4')
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert 'training on 2 processes x 2 images' in out
    assert (tmp_path / 'run' / 'model-3.pth').is_file()
    assert 'find_unused_parameters' not in err


def test_a_process_that_dies_takes_the_other_down(tmp_path, small_config, small_data):
    process = start_training(tmp_path, small_config, small_data, 'train.max_iteration=100000',
                             'train.snapshot_step=2')
    wait_for(lambda: list((tmp_path / 'run').glob('model-*.state.pth')))
    victims = children(process)
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    started = time.monotonic()
    _, err = process.communicate(timeout=90)
    assert time.monotonic() - started < 60
    assert process.returncode == 1
    errors = [line for line in err.replace('\r', '\n').splitlines() if line.startswith('error: ')]
    assert len(errors) == 1, err
    assert 'process 1 of 2 was killed (SIGKILL)' in errors[0]
    assert 'Traceback' not in err
    assert not any(pathlib.Path(f'/proc/{pid}').exists() for pid in victims)


def test_the_mistake_of_one_process_is_the_commands_own(tmp_path, small_config, small_data):
    """A corrupt file met by one process: its line, status 2, and no traceback of the other."""
    (small_data.folder / 'image' / 'b.png').write_bytes(b'no image')
    process = start_training(tmp_path, small_config, small_data, 'train.shuffle=false')
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.count('b.png') == 1, err
    assert 'Traceback' not in err


@pytest.mark.parametrize(('gpus', 'device', 'wanted', 'visible', 'expected'), [
    ('0', None, None, 0, ['cpu']), ('0', 'cpu', 3, 0, ['cpu', 'cpu', 'cpu']), ('0,1', 'cpu', None, 8, ['cpu']),
    ('0,1', None, None, 4, ['cuda:0', 'cuda:1']), ('2', None, None, 4, ['cuda:2']),
    ('3,1', 'cuda', None, 4, ['cuda:3', 'cuda:1']), ('0', None, 2, 4, ['cuda:0', 'cuda:1']),
    ('0,1,2,3', None, 2, 2, ['cuda:0', 'cuda:1']), ('0,1', 'cuda:1', None, 2, ['cuda:1']),
    ('0,1', 'cuda', None, 0, ['cuda']),
])
def test_devices_of_a_command(monkeypatch, gpus, device, wanted, visible, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: visible)
    assert launch.choose_devices(gpus, device, wanted) == expected


def test_several_processes_on_one_named_gpu_are_an_error():
    with pytest.raises(ConfigError, match='cuda:1: one device, but 2 processes'):
        launch.choose_devices('0', 'cuda:1', 2)


@pytest.mark.parametrize(('gpus', 'wanted', 'visible'), [('0,1', None, 1), ('0', 3, 2), ('4', None, 4)])
def test_more_processes_than_gpus_are_an_error_that_says_so(monkeypatch, gpus, wanted, visible):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: visible)
    with pytest.raises(ConfigError, match=f'gpus={gpus}: .*{visible} can be used'):
        launch.choose_devices(gpus, None, wanted)


@pytest.mark.parametrize(('codes', 'status'), [
    ((130, 2), 2), ((2, 130), 2), ((130, 130), 130), ((-signal.SIGTERM, 2), 2), ((75, 2), 2), ((75, 130), 75)])
def test_the_status_is_that_of_the_process_at_fault(codes, status):
    failures = {rank: types.SimpleNamespace(exitcode=code) for rank, code in enumerate(codes)}
    assert launch._status(failures, len(codes)) == status
