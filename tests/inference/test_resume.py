"""Results of an earlier job: what is there and would come out the same is left, everything else is made again."""
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from spml.errors import DataError
from spml.inference import jobs, outputs
from spml.inference.outputs import CrfParameters
from spml.utils.files import atomic_path

pytestmark = pytest.mark.usefixtures('one_thread')

ALL = ['a', 'b', 'c']
WHAT = ['prototypes', 'predictions', 'pseudo_labels']


def content(place):
    return {str(path): path.read_bytes() for path in place.out.rglob('*.[np]*') if path.suffix != '.jsonl'}


@pytest.mark.parametrize('what', WHAT)
def test_only_what_is_missing_is_made(place, what):
    assert place.make(what) == ALL
    whole = content(place)
    assert place.make(what) == []
    last, first = place.kinds[what]
    place.path(last, 'b').unlink()
    assert place.make(what) == ['b']
    assert f'{place.out}: 2 of 3 images are done already\n' in place.said
    place.path(first, 'a').unlink()
    # A machine that failed may leave a name without content, or a line cut short.
    place.path(last, 'c').write_bytes(b'')
    with open(place.out / 'made_from.jsonl', 'a') as noted:
        noted.write('{"name": "b", "made')
    assert place.make(what) == ['a', 'c']
    assert content(place) == whole
    assert place.make(what, overwrite=True) == ALL


def test_what_workers_of_a_killed_job_leave_while_this_one_works_goes_too(place, monkeypatch):
    # Such a worker ends a moment after its killed parent, in the middle of a file, when the next job has begun.
    dead = subprocess.Popen([sys.executable, '-S', '-c', ''])
    dead.wait()

    def write(prediction, how, void, name, save_dir):
        with atomic_path(place.path('semantic_color', 'a')) as ours:
            ours.write_bytes(b'whole')
            ours.with_name(ours.name.replace(f'-{os.getpid()}-', f'-{dead.pid}-')).write_bytes(b'cut')
        return outputs.write_label_maps(prediction, how, void, name, save_dir)

    monkeypatch.setattr(jobs, 'write_label_maps', write)
    place.make('predictions')
    assert not [path for path in place.out.rglob('*') if path.suffix == '.tmp']


@pytest.mark.parametrize('what', WHAT)
def test_the_content_of_an_image_s_files_decides_not_their_dates(place, what):
    folder, reads_labels = place.data.folder, what != 'predictions'
    place.make(what)
    for path in folder.rglob('*.png'):
        path.touch()
    assert place.make(what) == []
    for kind, name, matters in (('image', 'b', True), ('semantic', 'a', reads_labels), ('instance', 'c', False)):
        path = folder / kind / f'{name}.png'
        Image.fromarray(255 - np.array(Image.open(path))).save(path)
        os.utime(path, (0, 0))  # older than what was made of the other one
        assert place.make(what) == [name] * matters
    assert place.make(what) == []


@pytest.mark.parametrize('what', WHAT)
def test_a_longer_list_makes_what_is_new(place, what):
    lines = place.data.list.read_text().splitlines(keepends=True)
    place.data.list.write_text(lines[2].replace('image/', 'image/../image/') + lines[0])
    assert place.make(what) == ['a', 'c']
    place.data.list.write_text(''.join(lines))
    assert place.make(what) == ['b']


@pytest.mark.parametrize('what', WHAT)
def test_results_of_images_outside_the_list_go_where_they_would_mislead(place, what):
    lines = place.data.list.read_text().splitlines(keepends=True)
    place.make(what)
    of_a = [place.path(kind, 'a') for kind in place.kinds[what]]
    place.data.list.write_text(''.join(lines[1:]))
    assert place.make(what) == []
    # Label maps remain what they are, but whoever reads prototypes reads all of the folder.
    assert all(path.exists() != (what == 'prototypes') for path in of_a)
    place.data.list.write_text(''.join(lines))
    assert place.make(what) == ['a'] * (what == 'prototypes')
    place.data.list.write_text(''.join(lines[1:]))
    assert place.make(what, 'test.crop_size=40,40') == ['b', 'c']
    assert not any(path.exists() for path in of_a)
    assert 'those of 1 image outside the list are removed' in place.said


@pytest.mark.parametrize('what', WHAT)
def test_other_settings_and_weights_make_everything_again(place, what):
    place.make(what)
    assert place.make(what, 'test.crop_size=40,40') == ALL
    assert 'holds results made differently (test.crop_size: [32, 32] -> [40, 40]); all are made again\n' in place.said
    assert place.make(what) == ALL
    # The walk of `softmax` sees the whole image, at ratios of its size.
    assert place.make(what, 'test.image_size=24', 'test.stride=8,8') == ALL * (what != 'pseudo_labels')
    place.make(what)
    assert place.make(what, 'dataset.class_names=x,y,z', 'train.base_lr=1', 'num_threads=3') == []
    weights = place.embedder.network.state_dict()
    place.embedder = place.new_embedder()
    assert place.make(what) == ALL
    assert 'weights of the embedding: other content' in place.said
    place.embedder.network.load_state_dict(weights)
    assert place.make(what) == ALL
    place.head = torch.nn.Conv2d(8, 3, 1)
    assert place.make(what) == ALL * (what != 'prototypes')


@pytest.mark.parametrize(('what', 'given', 'changed'), [
    ('prototypes', {}, {'grid': (3, 2)}), ('prototypes', {}, {'multi_scale': True}),
    ('predictions', {}, {'multi_scale': True}), ('predictions', {'retrieval': True}, {'grid': (3, 2)}),
    ('pseudo_labels', {}, {'threshold': 0.4}), ('pseudo_labels', {'threshold': 0.3}, {'threshold': 0.4}),
    ('pseudo_labels', {}, {'normalise': 'root'})])
def test_other_options_make_everything_again(place, what, given, changed):
    assert place.make(what, **given) == ALL
    assert place.make(what, **{**given, **changed}) == ALL
    assert place.make(what, **{**given, **changed}) == []


def test_parameters_of_crf_make_everything_again_and_workers_nothing(place):
    pytest.importorskip('pydensecrf')
    assert place.make('predictions', crf=CrfParameters(iter_max=1), num_workers=1) == ALL
    assert place.make('predictions', crf=CrfParameters(iter_max=1)) == []
    assert place.make('predictions', crf=CrfParameters(iter_max=1, bi_w=5)) == ALL


def test_other_stored_prototypes_make_everything_again(place):
    assert place.make('predictions', retrieval=True) == ALL
    place.prototypes = -place.prototypes
    assert place.make('predictions', retrieval=True) == ALL


def test_results_of_another_kind_of_job_or_of_unknown_origin_are_made_again(place):
    place.make('predictions')
    assert place.make('pseudo_labels') == ALL
    assert place.make('predictions') == ALL
    for content in ('[]', 'not JSON'):
        (place.out / 'made_with.json').write_text(content)
        assert place.make('predictions') == ALL
    (place.out / 'made_from.jsonl').unlink()
    assert place.make('predictions') == ALL


def test_stored_prototypes_of_unknown_origin_are_not_removed(place):
    for origin in (None, 'made_with.json'):
        place.path('semantic_prototype', 'x').parent.mkdir(parents=True, exist_ok=True)
        place.path('semantic_prototype', 'x').write_bytes(b"somebody's")
        assert place.make('prototypes') == ALL * (origin is None)
        assert place.path('semantic_prototype', 'x').exists() == (origin is None)


@pytest.mark.parametrize('what', WHAT)
def test_results_of_an_earlier_version_are_made_again_once(place, what):
    place.make(what)
    # Dates told that version what was done; it may have written over what this one had noted.
    (place.out / 'arguments.json').write_text('{"result": "prototypes", "version": "0.1.0"}')
    shutil.copy(place.path(place.kinds[what][0], 'a'), place.path(place.kinds[what][0], 'left'))
    assert place.make(what) == ALL
    assert f'{place.out}: holds results made differently (by an earlier version); all are made again; ' in place.said
    assert not (place.out / 'arguments.json').exists()
    assert not place.path(place.kinds[what][0], 'left').exists()
    assert place.make(what) == []


def test_an_interrupted_change_does_not_take_old_results_for_new_ones(place):
    """The second image fails: the first is of the new settings then, the others of the old ones."""
    place.make('predictions')
    path = place.data.folder / 'image' / 'b.png'
    good = path.read_bytes()
    path.write_bytes(b'junk')
    with pytest.raises(DataError, match=r'b\.png'):
        place.make('predictions', 'test.image_size=24')
    path.write_bytes(good)
    assert place.make('predictions', 'test.image_size=24') == ['b', 'c']


def test_the_list_of_pseudo_labels_is_written_even_if_all_are_done(place):
    place.make('pseudo_labels')
    listing = place.out / 'new.txt'
    assert place.make('pseudo_labels', list_out=listing) == []
    assert len(listing.read_text().splitlines()) == 3
