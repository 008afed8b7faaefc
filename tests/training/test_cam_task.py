"""Training the classifier of tags: what it learns from, that it finds objects, and that it resumes."""
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from spml.errors import ConfigError, DataError
from spml.inference.trained import Trained
from spml.training import build
from spml.training.build import build_cam_task, train_cam, train_embedding

CPU = torch.device('cpu')
pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def cam_config(small_config):
    return lambda *overrides: small_config('network.prediction_types=cam', *overrides)


@pytest.mark.parametrize('weight', [0, 2.0])
def test_losses_checkpoint_and_log(tmp_path, cam_config, small_data, weight):
    config = cam_config(f'train.equivariance_loss_weight={weight}', 'train.equivariance_scale=0.5',
                        'train.max_iteration=2')
    train_cam(config, small_data.folder, small_data.lists[2], tmp_path / 'run', CPU)
    content = torch.load(tmp_path / 'run' / 'model-1.pth', weights_only=True)
    assert {name.split('.')[0] for name in content['embedding_model']} == {'resnet_backbone'}
    assert {name: tuple(value.shape[:2]) for name, value in content['prediction_model'].items()} == {
        'cam_classifier.weight': (2, 2048)}
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    names = {'tag_loss', 'equivariance_loss'} if weight else {'tag_loss'}
    for line in lines:
        assert set(line) == {'iteration', 'lr', 'loss', 'accuracy', *names}
        assert line['loss'] == pytest.approx(sum(line[name] for name in names))
        assert 0 <= line['accuracy'] <= 1


def test_no_more_loading_processes_than_processors(tmp_path, cam_config, small_data, monkeypatch):
    asked, build_loader = [], build.build_loader

    def record(dataset, sampler, num_workers, **options):
        asked.append(num_workers)
        return build_loader(dataset, sampler, 0, **options)

    monkeypatch.setattr(build, 'processors', lambda: 3)
    monkeypatch.setattr(build, 'build_loader', record)
    for number in (0, 2, 64):
        train_cam(cam_config(f'num_threads={number}', 'train.max_iteration=1'), small_data.folder, small_data.list,
                  tmp_path / str(number), CPU)
    assert asked == [0, 2, 3]


def test_an_embedding_can_start_from_it(tmp_path, cam_config, small_config, small_data):
    train_cam(cam_config('train.max_iteration=1'), small_data.folder, small_data.list, tmp_path / 'cam', CPU)
    config = small_config(f'network.pretrained={tmp_path / "cam"}', 'train.base_lr=1e-12', 'train.max_iteration=1')
    train_embedding(config, small_data.folder, small_data.list, tmp_path / 'embedding', CPU)
    one, other = (torch.load(tmp_path / name, weights_only=True)['embedding_model']
                  for name in ('cam/model-0.pth', 'embedding/model-0.pth'))
    name = 'resnet_backbone.res3.0.conv1.weight'
    torch.testing.assert_close(one[name], other[name])


def test_tags_are_those_of_label_and_line_whatever_the_crop_shows(cam_config):
    task = build_cam_task(cam_config('dataset.num_classes=4'))
    tags = torch.zeros(1, 256, dtype=torch.bool)
    tags[0, [0, 3, 254]] = True
    batch = {'image': torch.randn(1, 3, 32, 32), 'tags': tags}
    task.eval()
    losses, extras = task(batch)
    scores = task.classifier(task.embedding(batch['image'])).mean(dim=(2, 3))[0].double()
    likelihood = scores.sigmoid()
    wanted = -((1 - likelihood[0]).log() + (1 - likelihood[1]).log() + likelihood[2].log()) / 3
    assert losses['tag_loss'].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert task.accuracy(extras).item() == pytest.approx(
        np.mean([scores[0] <= 0, scores[1] <= 0, scores[2] > 0]), abs=1e-6)


@pytest.mark.slow
def test_it_finds_the_objects_that_it_was_only_told_of(tmp_path, cam_config, rng):
    """Squares, red or green, somewhere on grey noise: where they are, nobody says."""
    truths, lines = [], []
    for index in range(8):
        pixels = rng.integers(90, 150, (48, 48, 3))
        tags = [[1], [2], [1, 2], []][index % 4]
        truth = np.zeros((48, 48), int)
        for tag in tags:
            y, x = rng.integers(0, 2) * 24 + 4, {1: 4, 2: 28}[tag]
            truth[y:y + 16, x:x + 16] = tag
            pixels[y:y + 16, x:x + 16] = [[220, 30, 30], [30, 220, 30]][tag - 1]
        truths.append(truth)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f'{index}.png')
        lines.append(f'{index}.png - - {",".join(map(str, tags)) or "-"}\n')
    (tmp_path / 'list.txt').write_text(''.join(lines))
    config = cam_config('train.max_iteration=60', 'train.base_lr=0.003', 'train.crop_size=[48,48]',
                        'train.batch_size=4', 'train.random_scale=false', 'train.tensorboard_step=1')
    train_cam(config, tmp_path, tmp_path / 'list.txt', tmp_path / 'run', CPU)
    losses = [json.loads(line)['loss'] for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:8])
    model = Trained(tmp_path / 'run' / 'model-59.pth').cam_predictor(CPU)
    means, stds = (np.array(values, np.float32) for values in (config.network.pixel_means, config.network.pixel_stds))
    inside, outside = [], []
    for index, truth in enumerate(truths):
        pixels = np.asarray(Image.open(tmp_path / f'{index}.png'), np.float32) / 255
        for tag, activation in model.maps((pixels - means) / stds, sorted(set(truth.ravel()) - {0})).items():
            inside.append(activation[truth == tag].mean())
            outside.append(activation[truth != tag].mean())
    assert np.mean(inside) > 2 * np.mean(outside)


def test_resumed_it_is_what_an_unbroken_training_gives(tmp_path, cam_config, small_data, identical):
    config = cam_config('train.snapshot_step=2', 'train.equivariance_loss_weight=1', 'train.equivariance_scale=0.5')
    train_cam(config, small_data.folder, small_data.list, tmp_path / 'once', CPU)
    shutil.copytree(tmp_path / 'once', tmp_path / 'twice', ignore=shutil.ignore_patterns('model-3.*'))
    train_cam(config, small_data.folder, small_data.list, tmp_path / 'twice', CPU, resume=True)
    for name in ('model-3.pth', 'model-3.state.pth'):
        assert identical(*(torch.load(tmp_path / folder / name, weights_only=True) for folder in ('once', 'twice')))


def test_lists_without_tags_are_refused(tmp_path, cam_config, small_data):
    with pytest.raises(DataError, match=r'list_1\.txt:1: .*image semantic'):
        train_cam(cam_config(), small_data.folder, small_data.lists[1], tmp_path / 'run', CPU)
    for fields in ('- -', 'semantic/c.png -', '- - -', '- - 0'):  # the last: background alone is no tag
        small_data.list.write_text(f'image/a.png {fields}\n')
        with pytest.raises(DataError, match=r'list_3\.txt: no image has a tag.*fourth field'):
            train_cam(cam_config(), small_data.folder, small_data.list, tmp_path / 'run', CPU)
    small_data.list.write_text('image/a.png - - 1,3\n')
    with pytest.raises(DataError, match=r'list_3\.txt:1: the tag 3 is not a class'):
        train_cam(cam_config(), small_data.folder, small_data.list, tmp_path / 'run', CPU)
    assert not (tmp_path / 'run').exists()


def test_classes_that_no_image_has_are_named(tmp_path, cam_config, small_data, capsys):
    small_data.list.write_text('image/a.png - - 2\nimage/b.png - - -\n')
    train_cam(cam_config('train.max_iteration=1'), small_data.folder, small_data.list, tmp_path / 'run', CPU)
    assert '2 images with 1 tags of 1 classes\nno image has the tag class_1:' in capsys.readouterr().out


def test_a_configuration_of_something_else_is_refused(tmp_path, small_config, small_data):
    with pytest.raises(ConfigError, match=r'prediction_types is segsort, this training needs cam'):
        train_cam(small_config(), small_data.folder, small_data.list, tmp_path / 'run', CPU)
