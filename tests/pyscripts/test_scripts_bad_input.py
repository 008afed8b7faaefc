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

TRAININGS = ['train', 'train_classifier', 'train_cam']
OPTIONS = {'inference': {'predictor': 'softmax'}, 'pseudo_label': {'source': 'softmax'}}


def pretrained(place):
    return f'network.pretrained={place.make_weights(place.make_config())}'


@pytest.mark.parametrize('script', [*TRAININGS, 'prototype'])
def test_missing_files_are_named(place, script):
    absent = place.folder / 'absent'
    for option in ('cfg_path', 'data_list', 'data_dir'):
        place.fails(script, naming=[absent], **{option: absent})
    if script in TRAININGS:
        place.fails(script, '--set', f'network.pretrained={absent}', naming=[absent])
    else:
        place.fails(script, checkpoint=absent, naming=[absent])
        place.fails(script, checkpoint=None, snapshot_dir=absent, naming=[absent / 'model-3.pth'])
        place.fails(script, checkpoint=None, naming=['--snapshot_dir', '--checkpoint'])
        place.fails(script, device='nonsense', naming=['--device nonsense'])
    place.label('b', 'image').unlink()
    place.fails(script, '--set', pretrained(place), naming=[f'{place.data.list}:2', place.label('b', 'image')])


WRONG = {
    'corrupt': lambda path, pixels: path.write_bytes(path.read_bytes()[:60]),
    'palette': lambda path, pixels: Image.fromarray(pixels).convert('P').save(path),
    'size': lambda path, pixels: Image.fromarray(pixels[:-1]).save(path),
}


def spoil(path, how):
    WRONG[how](path, np.array(Image.open(path)))
    return path


@pytest.mark.parametrize('how', WRONG)
def test_a_wrong_label_is_named_with_its_line(place, how):
    words = [f'{place.data.list}:3', spoil(place.label('c'), how)]
    place.fails('prototype', naming=words)
    for script in TRAININGS:
        place.fails(script, '--set', 'train.batch_size=3', pretrained(place), naming=words)
    assert not list(place.out.glob('*.pth'))


def test_a_wrong_label_is_named_by_a_loading_process_too(place, monkeypatch):
    monkeypatch.setattr(training, 'check_sample', lambda *_, **__: [])
    place.fails('train', '--set', 'num_threads=1', 'train.batch_size=3',
                naming=[f'{place.data.list}:3', spoil(place.label('c'), 'palette')])


@pytest.mark.parametrize(('script', 'column'), [('train', 'instance'), ('train', 'image'), ('inference', 'image'),
                                                ('cam', 'image'), ('cam', 'semantic')])
def test_other_damaged_files_are_named(place, script, column):
    more = ('--set', 'train.batch_size=3') if script == 'train' else ()
    place.fails(script, *more, **OPTIONS.get(script, {}),
                naming=[f'{place.data.list}:2', spoil(place.label('b', column), 'corrupt')])


@pytest.mark.parametrize('script', [*TRAININGS, 'prototype', 'inference', 'pseudo_label'])
def test_absolute_paths_in_lists_can_be_forbidden(place, script):
    more, options = ('--set', pretrained(place), 'train.max_iteration=1'), OPTIONS.get(script, {})
    place.data.list.write_text(f'image/a.png {place.label("a")} instance/a.png\n')
    place.works(script, *more, **options)
    place.fails(script, *more, 'dataset.allow_absolute_paths=false', **options,
                naming=[f'{place.data.list}:1', place.label('a'), 'allow_absolute_paths'])


def test_prototypes_that_cannot_be_used_are_named(place, rng):
    options = {'predictor': 'retrieval', 'kmeans_num_clusters': '2,2', 'semantic_memory_dir': place.folder}
    prototypes = {'prototype': rng.normal(size=(20, 8)).astype(np.float32), 'prototype_label': np.arange(20) % 3}
    np.savez(place.folder / 'x.npz', **prototypes | {'prototype': prototypes['prototype'][:, :7]})
    place.fails('inference', naming=[place.folder / 'x.npz', 'D = 7', 'D = 8'], **options)
    np.savez(place.folder / 'x.npz', **prototypes)
    place.works('inference', **options)
    assert set(np.unique(place.gray('a'))) <= {0, 1, 2}
    place.fails('inference', predictor='retrieval', naming=['--semantic_memory_dir', '--kmeans_num_clusters'])


def test_cam_files(place, rng):
    pytest.importorskip('pydensecrf')
    folder = place.folder / 'cams'
    options = {'source': 'cam_random_walk', 'num_workers': 0, 'cam_dir': folder, 'crf_iter_max': 2}
    folder.mkdir()

    def write(content, names=place.data.names):
        for name in names:
            np.save(folder / f'{name}.npy', np.array(content, dtype=object), allow_pickle=True)

    write({}, ['a', 'c'])
    place.fails('pseudo_label', naming=[folder / 'b.npy', f'{place.data.list}:2'], **options)
    fitting = rng.uniform(size=(40, 36)).astype(np.float32)
    write({2: fitting})
    place.fails('pseudo_label', naming=[folder / 'a.npy'], **options)
    write({0: fitting})  # classes without a CAM are absent
    place.works('pseudo_label', **options)
    assert set().union(*(place.gray(name).flat for name in place.data.names)) <= {0, 1}


@pytest.mark.parametrize(('script', 'where'), [
    ('prototype', 'image_prototypes'), ('inference', 'predict_pixels'), ('pseudo_label', 'normalised_for_views')])
def test_exhausted_memory_names_the_image_and_what_to_lower(place, script, where, monkeypatch):
    monkeypatch.setattr(jobs, where, lambda *_, **__: torch.empty(2 ** 60))
    place.fails(script, **OPTIONS.get(script, {}), naming=[
        f'{place.data.list}:1', place.label('a', 'image'), 'out of memory', 'test.crop_size (now [32, 32])',
        '--device cpu'])


@pytest.mark.parametrize(('script', 'result'), [
    ('prototype', 'semantic_prototype/{}.npz'), ('inference', 'semantic_gray/{}.png')])
def test_sigterm_between_images_keeps_what_is_complete(place, script, result, monkeypatch):
    read_entry, calls = jobs.read_entry, []

    def signalled(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return read_entry(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, 'read_entry', signalled)
        status, err = place.run(script, **OPTIONS.get(script, {}))
    assert status == 130
    assert 'run the same command again to continue' in err
    assert [(place.out / result.format(name)).exists() for name in place.data.names] == [True, False, False]
    place.works(script, **OPTIONS.get(script, {}))
    assert '1 of 3 images are done already' in place.printed


def test_labels_are_not_needed_for_inference_alone(place):
    place.works('inference', predictor='softmax', fields=1)
    whole = {name: place.gray(name) for name in place.data.names}
    for name in place.data.names:
        spoil(place.label(name), 'corrupt')
    place.works('inference', '--overwrite', predictor='softmax', fields=3)
    for name, expected in whole.items():
        np.testing.assert_array_equal(place.gray(name), expected)
    place.fails('prototype', fields=1, naming=[f'{place.data.lists[1]}:1'])
    place.fails('pseudo_label', fields=1, source='softmax', naming=[f'{place.data.lists[1]}:1'])
