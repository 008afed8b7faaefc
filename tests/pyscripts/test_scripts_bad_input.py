"""The scripts on input that a user may well give.

Wrong files end in one line that names them and status 2; odd ones that are fine work.
"""
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from spml.inference import jobs
from spml.training import build as training

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.parametrize('script', ['train', 'train_classifier', 'prototype'])
def test_missing_files_are_named(place, script):
    absent = place.folder / 'absent'
    place.fails(script, cfg_path=absent, naming=[absent])
    place.fails(script, data_list=absent, naming=[absent])
    place.fails(script, data_dir=absent, naming=[absent])
    if script != 'prototype':
        place.fails(script, '--set', f'network.pretrained={absent}', naming=[absent])
    else:
        place.fails(script, checkpoint=absent, naming=[absent])
        place.fails(script, checkpoint=None, snapshot_dir=absent, naming=[absent / 'model-3.pth'])
        place.fails(script, checkpoint=None, naming=['--snapshot_dir', '--checkpoint'])
    place.label('b', 'image').unlink()
    place.fails(script, '--set', f'network.pretrained={place.make_weights(place.make_config())}',
                naming=[f'{place.data.list}:2', place.label('b', 'image')])


def wrong_label(path, kind):
    """Replace a label by one that cannot be used."""
    pixels = np.array(Image.open(path))
    if kind == 'corrupt':
        path.write_bytes(path.read_bytes()[:60])
    elif kind == 'palette':
        picture = Image.fromarray(pixels).convert('P')
        picture.putpalette(list(range(256)) * 3)
        picture.save(path)
    elif kind == '16-bit':
        Image.fromarray(pixels.astype(np.uint16)).save(path)
    elif kind == 'RGB':
        Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(path)
    elif kind == 'size':
        Image.fromarray(pixels[:-1]).save(path)
    else:
        path.write_text('no picture')


@pytest.mark.parametrize('kind', ['corrupt', 'palette', '16-bit', 'RGB', 'size', 'text'])
def test_a_wrong_label_is_named_with_its_line(place, kind):
    wrong_label(place.label('c'), kind)
    words = [f'{place.data.list}:3', place.label('c')]
    place.fails('prototype', naming=words)
    place.fails('train', '--set', 'train.batch_size=3', naming=words)
    place.fails('train_classifier', '--set', 'train.batch_size=3',
                f'network.pretrained={place.make_weights(place.make_config())}', naming=words)
    assert not list(place.out.glob('*.pth'))


def test_a_wrong_label_is_named_by_a_loading_process_too(place, monkeypatch):
    wrong_label(place.label('c'), 'palette')
    monkeypatch.setattr(training, 'check_sample', lambda *_, **__: [])
    place.fails('train', '--set', 'num_threads=1', 'train.batch_size=3',
                naming=[f'{place.data.list}:3', place.label('c')])


def test_a_wrong_over_segmentation_is_named(place):
    wrong_label(place.label('a', 'instance'), 'size')
    place.fails('train', '--set', 'train.batch_size=3', naming=[f'{place.data.list}:1', place.label('a', 'instance')])


def test_a_damaged_image_is_named(place):
    place.label('b', 'image').write_bytes(place.label('b', 'image').read_bytes()[:200])
    words = [f'{place.data.list}:2', place.label('b', 'image')]
    place.fails('inference', predictor='softmax', naming=words)
    place.fails('train', '--set', 'train.batch_size=3', naming=words)


@pytest.mark.parametrize(('text', 'line'), [('', ''), ('\n\n', ''), ('image/a.png\n', ':1'), ('\na b c d\n', ':2')])
def test_a_list_that_cannot_be_trained_from_is_named(place, text, line):
    place.data.list.write_text(text)
    place.fails('train', naming=[f'{place.data.list}{line}'])


@pytest.mark.parametrize('script', ['train', 'train_classifier', 'prototype', 'inference', 'pseudo_label'])
def test_absolute_paths_in_lists_can_be_forbidden(place, script):
    options = {'inference': {'predictor': 'softmax'}, 'pseudo_label': {'source': 'softmax'}}.get(script, {})
    weights = f'network.pretrained={place.make_weights(place.make_config())}'
    place.data.list.write_text(f'image/a.png {place.label("a")} instance/a.png\n')
    place.works(script, '--set', weights, 'train.max_iteration=1', **options)
    place.fails(script, '--set', weights, 'dataset.allow_absolute_paths=false', **options,
                naming=[f'{place.data.list}:1', place.label('a'), 'allow_absolute_paths'])


@pytest.mark.parametrize(('override', 'word'), [
    ('network.embedding_dim=9', 'aspp'), ('network.backbone_types=panoptic_pspnet_14', 'pspp'),
    ('network.backbone_types=panoptic_deeplab_50', 'res2.1')])
def test_a_checkpoint_of_another_network_is_named(place, override, word):
    checkpoint = place.make_weights(place.make_config())
    place.fails('inference', '--set', override, predictor='softmax', naming=[checkpoint, word])
    place.fails('prototype', '--set', override, naming=[checkpoint, word])
    place.fails('train_classifier', '--set', override, f'network.pretrained={checkpoint}', naming=[checkpoint, word])


def test_a_checkpoint_of_another_softmax_head_is_named(place):
    checkpoint = place.make_weights(place.make_config())
    place.fails('inference', '--set', 'dataset.num_classes=4', 'dataset.class_names=null', predictor='softmax',
                naming=[checkpoint, 'semantic_classifier.4'])
    headless = place.make_weights(place.make_config(), 'embedding_model')
    place.fails('inference', predictor='softmax', checkpoint=headless, naming=[headless])
    junk = place.folder / 'junk.pth'
    junk.write_bytes(b'junk')
    place.fails('inference', predictor='softmax', checkpoint=junk, naming=[junk])


def prototypes(folder, count, dim):
    folder.mkdir(exist_ok=True)
    np.savez(folder / 'x.npz', prototype=np.random.default_rng().normal(size=(count, dim)).astype(np.float32),
             prototype_label=np.arange(count) % 3)
    return folder


def test_prototypes_that_cannot_be_used_are_named(place):
    folder = prototypes(place.folder / 'memory', 30, dim=9)
    options = {'predictor': 'retrieval', 'kmeans_num_clusters': '2,2', 'fields': 1}
    place.fails('inference', semantic_memory_dir=folder, naming=[folder / 'x.npz', 'D = 9', 'D = 8'], **options)
    prototypes(folder, 19, dim=8)
    place.fails('inference', semantic_memory_dir=folder, naming=[folder, '19', '20'], **options)
    (folder / 'x.npz').write_bytes(b'junk')
    place.fails('inference', semantic_memory_dir=folder, naming=[folder / 'x.npz'], **options)
    place.fails('inference', semantic_memory_dir=folder / 'absent', naming=[folder / 'absent'], **options)
    place.fails('inference', predictor='retrieval', naming=['--semantic_memory_dir', '--kmeans_num_clusters'])
    prototypes(folder, 20, dim=8)
    place.works('inference', semantic_memory_dir=folder, **options)
    assert set(np.unique(place.gray('a'))) <= {0, 1, 2}


def cams(place, content=None):
    """Write a CAM file of each image: `content`, or a random map of class 1."""
    folder = place.folder / 'cams'
    folder.mkdir(exist_ok=True)
    for name in place.data.names:
        value = {0: np.random.default_rng().uniform(size=(40, 36)).astype(np.float32)} if content is None else content
        as_array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
        np.save(folder / f'{name}.npy', as_array, allow_pickle=True)
    return folder


def test_cam_files_that_cannot_be_used_are_named(place):
    folder = cams(place)
    options = {'source': 'cam_random_walk', 'num_workers': 0, 'cam_dir': folder}
    (folder / 'b.npy').unlink()
    place.fails('pseudo_label', naming=[folder / 'b.npy', f'{place.data.list}:2'], **options)
    fitting = np.zeros((40, 36), np.float32)
    for content in ({0: fitting[:5]}, {2: fitting}, {0: print}):
        cams(place, content)
        place.fails('pseudo_label', naming=[folder / 'a.npy'], **options)


def test_classes_without_a_cam_are_absent(place):
    pytest.importorskip('pydensecrf')
    options = {'source': 'cam_random_walk', 'num_workers': 0, 'crf_iter_max': 2}
    for content, classes in ((None, {0, 1}), ({}, {0})):
        place.works('pseudo_label', cam_dir=cams(place, content), **options)
        assert set().union(*(place.gray(name).flat for name in place.data.names)) <= classes


@pytest.mark.parametrize(('script', 'options', 'where'), [
    ('prototype', {}, 'image_prototypes'), ('inference', {'predictor': 'softmax'}, 'predict_pixels'),
    ('pseudo_label', {'source': 'softmax'}, 'normalised')])
def test_exhausted_memory_names_the_image_and_what_to_lower(place, script, options, where, monkeypatch):
    monkeypatch.setattr(jobs, where, lambda *_, **__: torch.empty(2 ** 60))
    place.fails(script, **options, naming=[f'{place.data.list}:1', place.label('a', 'image'), 'out of memory',
                                           'test.crop_size (now [32, 32])', '--device cpu'])


@pytest.mark.parametrize(('script', 'options', 'result'), [
    ('prototype', {}, 'semantic_prototype/{}.npz'), ('inference', {'predictor': 'softmax'}, 'semantic_gray/{}.png')])
def test_sigterm_between_images_keeps_what_is_complete(place, script, options, result, monkeypatch):
    read_entry, calls = jobs.read_entry, []

    def signalled(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return read_entry(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, 'read_entry', signalled)
        status, err = place.run(script, **options)
    assert status == 130
    assert 'run the same command again to go on' in err
    assert [(place.out / result.format(name)).exists() for name in place.data.names] == [True, False, False]
    place.works(script, **options)
    assert '1 of 3 images are done already' in place.printed


def test_densepose_writes_void_back(place):
    pytest.importorskip('pydensecrf')
    place.works('pseudo_label', source='densepose_random_walk', kmeans_num_clusters='2,2', num_workers=0,
                crf_iter_max=2)
    for name in place.data.names:
        np.testing.assert_array_equal(place.gray(name) == 255, np.array(Image.open(place.label(name))) == 255)


@pytest.mark.parametrize('script', ['train', 'train_classifier'])
@pytest.mark.parametrize('values', [[255], [3, 254], [200, 255], [0]])
def test_labels_without_much_in_them_train(place, script, values):
    rng = np.random.default_rng()
    for name in place.data.names[:2]:
        Image.fromarray(rng.choice(values, (40, 36)).astype(np.uint8)).save(place.label(name))
    place.works(script, '--set', 'train.batch_size=1', 'train.shuffle=false', 'train.max_iteration=2',
                f'network.pretrained={place.make_weights(place.make_config())}')
    content = torch.load(place.out / 'model-1.pth', weights_only=True)
    for part in ('embedding_model', 'prediction_model'):
        assert all(torch.isfinite(value).all() for value in content[part].values())


@pytest.mark.parametrize('script', ['train', 'train_classifier'])
def test_images_smaller_than_the_crop_train(place, script):
    place.works(script, '--set', 'train.crop_size=72,80', 'train.max_iteration=1',
                f'network.pretrained={place.make_weights(place.make_config())}')
    assert (place.out / 'model-0.pth').is_file()


def test_images_smaller_than_the_window_are_labelled(place):
    place.works('inference', '--set', 'test.crop_size=72,80', '--multi_scale', predictor='softmax')
    assert place.gray('a').shape == (40, 36)


def test_labels_are_not_needed_for_inference_alone(place):
    place.works('inference', predictor='softmax', fields=1)
    whole = {name: place.gray(name) for name in place.data.names}
    for name in place.data.names:
        wrong_label(place.label(name), 'text')
        (place.out / 'semantic_color' / f'{name}.png').unlink()
    place.works('inference', predictor='softmax', fields=3)
    for name, expected in whole.items():
        np.testing.assert_array_equal(place.gray(name), expected)
    place.fails('prototype', fields=1, naming=[f'{place.data.lists[1]}:1'])
    place.fails('pseudo_label', fields=1, source='softmax', naming=[f'{place.data.lists[1]}:1'])


def test_prototypes_of_unlabelled_and_void_images_are_written(place):
    Image.fromarray(np.full((40, 36), 255, np.uint8)).save(place.label('a'))
    place.works('prototype')
    with np.load(place.out / 'semantic_prototype' / 'a.npz') as arrays:
        assert arrays['prototype'].dtype == np.float32
        assert arrays['prototype'].shape[1] == 8
        assert arrays['prototype_label'].dtype == np.int64
        assert set(arrays['prototype_label']) == {255}


def test_a_run_is_not_trained_over(place):
    options = ('--set', 'train.max_iteration=1')
    place.works('train', *options)
    place.fails('train', *options, naming=[place.out / 'model-0.pth', '--resume'])
    place.works('train', *options, '--resume')
    assert (place.out / 'config.yaml').is_file()


def test_a_device_that_is_not_there(place):
    place.fails('inference', predictor='softmax', device='nonsense', naming=['--device nonsense'])
