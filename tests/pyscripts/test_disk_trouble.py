"""Full disks, folders that cannot be written, data that goes away: one line, and what was complete stays."""
import contextlib
import os
import pathlib
import shutil
import tempfile

import pytest
import torch

from spml.data import decoding
from spml.training import loop

pytestmark = pytest.mark.usefixtures('one_thread')

NOBODY = 65534


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def weight_files(folder):
    return {name: content for name, content in files(folder).items() if name.endswith('.pth')}


def test_a_disk_that_fills_up_while_training_leaves_the_older_snapshots(place, file_size_limit):
    options = ('--set', 'train.max_iteration=4', 'train.snapshot_step=1', 'train.snapshot_minutes=0')
    place.works('train', *options)
    once = weight_files(place.out)
    shutil.rmtree(place.out)
    save = torch.save
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        def fill_up(content, path):
            if content.get('iteration') == 2:
                stack.enter_context(file_size_limit(50_000))
            save(content, path)

        patch.setattr(torch, 'save', fill_up)
        place.fails('train', *options, naming=[place.out / 'model-2.state.pth', 'ulimit -f'])
    assert {name: content for name, content in once.items() if name.startswith(('model-0.', 'model-1.'))} == (
        weight_files(place.out))
    place.works('train', *options, '--resume')
    assert set(weight_files(place.out)) == set(once)


def test_a_disk_that_fills_up_with_metrics_is_one_line(place, monkeypatch, file_size_limit):
    rate = loop.learning_rate
    with contextlib.ExitStack() as stack:
        def fill_up(iteration, *args):
            if iteration == 1:
                stack.enter_context(file_size_limit(10))
            return rate(iteration, *args)

        monkeypatch.setattr(loop, 'learning_rate', fill_up)
        place.fails('train', naming=[place.out, 'ulimit -f'])


@pytest.mark.parametrize(('script', 'options', 'result'), [
    ('prototype', {}, 'semantic_prototype/a.npz'),
    ('inference', {'predictor': 'softmax'}, 'semantic_gray/a.png')])
def test_a_disk_that_fills_up_during_inference_leaves_what_is_complete(place, file_size_limit, script, options, result):
    place.works(script, **options)
    whole = files(place.out)
    for name in ('b', 'c'):
        (place.out / result.replace('a.', f'{name}.')).unlink()
    with file_size_limit(100):
        place.fails(script, **options, naming=[place.out, 'ulimit -f'])
    assert (place.out / result).read_bytes() == whole[result]
    assert not [path for path in place.out.rglob('*') if path.suffix == '.tmp']
    place.works(script, **options)
    assert files(place.out) == whole


@pytest.fixture
def locked():
    """A folder that this process may read and not write, whoever runs it."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if as_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.fixture
def readable_place(place):
    """The data and weights where anybody may read them."""
    folder = pathlib.Path(tempfile.mkdtemp())
    place.make_weights(place.make_config())
    shutil.copy(place.make_weights(place.make_config()), folder / 'model.pth')
    shutil.copytree(place.data.folder, folder / 'data')
    for name in ('config', 'classifier_config'):
        shutil.copy(getattr(place, name), folder)
        setattr(place, name, folder / getattr(place, name).name)
    place.data.lists = {fields: pathlib.Path(shutil.copy(path, folder)) for fields, path in place.data.lists.items()}
    place.data.folder, place.checkpoint = folder / 'data', folder / 'model.pth'
    folder.chmod(0o755)
    yield place
    shutil.rmtree(folder)


@pytest.mark.parametrize(('script', 'options'), [
    ('train', {}), ('train_classifier', {}), ('prototype', {}), ('inference', {'predictor': 'softmax'}),
    ('pseudo_label', {'source': 'softmax'})])
def test_a_folder_that_cannot_be_written_is_one_line_before_the_work(readable_place, locked, script, options):
    place = readable_place
    place.out = locked
    if script.startswith('train'):
        more = ('--set', f'network.pretrained={place.checkpoint}')
        place.fails(script, *more, naming=[locked, 'check the permissions'])
    else:
        place.fails(script, checkpoint=place.checkpoint, naming=[locked, 'check the permissions'], **options)
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize(('script', 'options', 'line', 'result'), [
    ('prototype', {}, 2, 'semantic_prototype/a.npz'), ('inference', {'predictor': 'softmax'}, 3, 'semantic_gray/a.png'),
    ('pseudo_label', {'source': 'softmax'}, 2, 'semantic_gray/a.png')])
def test_a_data_folder_that_vanishes_during_inference_leaves_what_is_complete(place, script, options, line, result,
                                                                             monkeypatch):
    """It does so while the second image is read; its label, or the third image, is the first file not to be found."""
    place.works(script, **options)
    whole = files(place.out)
    shutil.rmtree(place.out)
    away, decode, calls = place.folder / 'away', decoding._array, []

    def vanish(image, *args, **more):
        calls.append(image)
        if len(calls) == 2:
            place.data.folder.rename(away)
        return decode(image, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, '_array', vanish)
        place.fails(script, **options, naming=[f'{place.data.list}:{line}', 'no such file'])
    left = files(place.out)
    assert whole['made_from.jsonl'].startswith(left.pop('made_from.jsonl'))
    assert left.items() <= whole.items()
    assert (place.out / result).read_bytes() == whole[result]
    away.rename(place.data.folder)
    place.works(script, **options)
    assert files(place.out) == whole
