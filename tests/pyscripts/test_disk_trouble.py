"""Full disks and folders that cannot be written: one line, and what was complete stays."""
import contextlib
import os
import pathlib
import shutil
import tempfile

import pytest
import torch

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
