"""Scripts that find results of an earlier run: what stands and still holds is left, everything else is made again."""
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from spml.inference import outputs
from spml.inference import run as inference
from spml.utils.atomic import atomic_path

pytestmark = pytest.mark.usefixtures('one_thread')

SCRIPTS = {
    'prototype': {},
    'inference': {'predictor': 'softmax'},
    'pseudo_label': {'source': 'softmax'},
}
MARKERS = {'prototype': 'semantic_prototype/{}.npz', 'inference': 'semantic_gray/{}.png',
           'pseudo_label': 'semantic_gray/{}.png'}


def contents(place):
    return {str(path.relative_to(place.out)): path.read_bytes() for path in place.out.rglob('*') if path.is_file()}


def run_and_list_made(place, script, *more, **options):
    """Run a script and return the names of the images whose results it wrote."""
    paths = {name: place.out / MARKERS[script].format(name) for name in place.data.names}
    before = {name: (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None
              for name, path in paths.items()}
    place.works(script, *more, **{**SCRIPTS[script], **options})
    return [name for name, path in paths.items() if before[name] != (path.stat().st_ino, path.stat().st_mtime_ns)]


@pytest.mark.parametrize('script', SCRIPTS)
def test_only_what_is_missing_is_made(place, script):
    assert run_and_list_made(place, script) == ['a', 'b', 'c']
    whole = contents(place)
    assert run_and_list_made(place, script) == []
    (place.out / MARKERS[script].format('b')).unlink()
    assert run_and_list_made(place, script) == ['b']
    # A failed machine may leave a name without content; a kill a temporary file.
    (place.out / MARKERS[script].format('c')).write_bytes(b'')
    assert run_and_list_made(place, script) == ['c']
    assert contents(place) == whole


@pytest.mark.parametrize('script', ['inference', 'pseudo_label'])
def test_what_workers_of_a_killed_run_leave_while_this_one_works_goes_too(place, script, monkeypatch):
    # Such a worker ends a moment after its killed parent, in the middle of a file, when the next run has begun.
    dead = subprocess.Popen([sys.executable, '-c', ''])
    dead.wait()

    def finish(*args):
        outputs.finish(*args)
        with atomic_path(place.out / 'semantic_color' / 'a.png') as ours:
            shutil.copy(place.out / 'semantic_color' / f'{args[4]}.png', ours)
            ours.with_name(ours.name.replace(f'-{os.getpid()}-', f'-{dead.pid}-')).write_bytes(b'cut')

    monkeypatch.setattr(inference, 'finish', finish)
    place.works(script, **SCRIPTS[script])
    assert not [path for path in place.out.rglob('*') if path.suffix == '.tmp']


@pytest.mark.parametrize('script', ['inference', 'pseudo_label'])
def test_a_picture_in_colour_that_is_gone_is_made_again(place, script):
    run_and_list_made(place, script)
    (place.out / 'semantic_color' / 'a.png').unlink()
    assert run_and_list_made(place, script) == ['a']


def test_clusters_that_are_gone_are_made_again(place):
    run_and_list_made(place, 'prototype')
    (place.out / 'semantic_cluster' / 'a.png').unlink()
    assert run_and_list_made(place, 'prototype') == ['a']


@pytest.mark.parametrize('script', SCRIPTS)
def test_an_image_whose_files_changed_is_made_again(place, script):
    run_and_list_made(place, script)
    path = place.label('b', 'image')
    Image.fromarray(255 - np.array(Image.open(path))).save(path)
    assert run_and_list_made(place, script) == ['b']
    place.label('a').touch()
    assert run_and_list_made(place, script) == ([] if script == 'inference' else ['a'])
    place.label('c', 'instance').touch()
    assert run_and_list_made(place, script) == []


@pytest.mark.parametrize('script', SCRIPTS)
def test_other_arguments_make_everything_again(place, script):
    everything = ['a', 'b', 'c']
    run_and_list_made(place, script)
    assert run_and_list_made(place, script, '--set', 'test.image_size=24') == everything
    assert run_and_list_made(place, script, '--set', 'test.image_size=24', '--overwrite') == everything
    assert run_and_list_made(place, script) == everything
    # Other weights under the same name, another list under the same name.
    checkpoint = place.folder / 'model.pth'
    content = torch.load(place.make_weights(place.make_config()), weights_only=True)
    torch.save(content, checkpoint)
    assert run_and_list_made(place, script, checkpoint=checkpoint) == []
    part = 'prediction_model' if script == 'inference' else 'embedding_model'
    name = next(name for name, value in content[part].items() if value.is_floating_point())
    content[part][name] = content[part][name] + 1e-3
    torch.save(content, checkpoint)
    assert run_and_list_made(place, script, checkpoint=checkpoint) == everything
    place.data.list.write_text(place.data.list.read_text().replace('image/a.png', 'image/../image/a.png'))
    assert run_and_list_made(place, script, checkpoint=checkpoint) == everything


@pytest.mark.parametrize('script', SCRIPTS)
def test_results_of_images_that_left_the_list_go_when_they_would_mislead(place, script):
    def run(lines, *more):
        place.data.list.write_text(''.join(lines))
        place.works(script, *more, **SCRIPTS[script])

    lines = place.data.list.read_text().splitlines(keepends=True)
    run(lines)
    made = [path for path in place.out.rglob('a.*') if path.is_file()]
    assert len(made) == 2
    # The list alone: maps remain what they are, but whoever reads prototypes reads all of the folder.
    run(lines[1:])
    assert all(path.exists() != (script == 'prototype') for path in made)
    run(lines)
    assert all(path.exists() for path in made)
    run(lines[1:], '--set', 'test.image_size=24')
    assert not any(path.exists() for path in made)
    assert 'those of 1 images' in place.printed


@pytest.mark.parametrize('script', SCRIPTS)
def test_settings_that_cannot_matter_make_nothing_again(place, script):
    run_and_list_made(place, script)
    assert run_and_list_made(place, script, '--set', 'dataset.class_names=x,y,z', 'train.base_lr=1',
                             'num_threads=3') == []


@pytest.mark.parametrize(('script', 'change'), [
    ('prototype', {'kmeans_num_clusters': '3,2'}), ('prototype', '--multi_scale'), ('inference', '--multi_scale'),
    ('pseudo_label', {'confidence_threshold': 0.4})])
def test_other_options_make_everything_again(place, script, change):
    more, options = ([change], {}) if isinstance(change, str) else ([], change)
    run_and_list_made(place, script)
    assert run_and_list_made(place, script, *more, **options) == ['a', 'b', 'c']
    assert run_and_list_made(place, script, *more, **options) == []


def test_parameters_of_crf_make_everything_again_and_workers_nothing(place):
    pytest.importorskip('pydensecrf')
    options = {'crf_iter_max': 1, 'num_workers': 0}
    assert len(run_and_list_made(place, 'inference', '--crf', **options)) == 3
    assert run_and_list_made(place, 'inference', '--crf', crf_iter_max=1, num_workers=1) == []
    assert len(run_and_list_made(place, 'inference', '--crf', '--crf_bi_w', '5', **options)) == 3


def test_other_prototypes_make_everything_again(place):
    def memory(shift):
        folder = place.folder / 'memory'
        folder.mkdir(exist_ok=True)
        rows = np.random.default_rng(3).normal(size=(30, 8)).astype(np.float32)
        np.savez(folder / 'x.npz', prototype=rows + shift, prototype_label=np.arange(30) % 3)
        return {'predictor': 'retrieval', 'kmeans_num_clusters': '2,2', 'semantic_memory_dir': folder}

    assert len(run_and_list_made(place, 'inference', **memory(0))) == 3
    assert run_and_list_made(place, 'inference', **memory(0)) == []
    assert len(run_and_list_made(place, 'inference', **memory(0.5))) == 3


def test_results_of_unknown_origin_are_made_again(place):
    run_and_list_made(place, 'inference')
    for content in ('[]', 'no json'):
        (place.out / 'arguments.json').write_text(content)
        assert run_and_list_made(place, 'inference') == ['a', 'b', 'c']
    (place.out / 'arguments.json').unlink()
    assert run_and_list_made(place, 'inference') == ['a', 'b', 'c']


def test_an_interrupted_change_of_arguments_does_not_take_old_results_for_new_ones(place):
    """The second image fails: the first is of the new arguments then, the others of the old ones."""
    run_and_list_made(place, 'inference')
    path = place.label('b', 'image')
    good = path.read_bytes()
    status = path.stat()
    path.write_bytes(b'junk')
    options = ('--set', 'test.image_size=24')
    place.fails('inference', *options, predictor='softmax', naming=[path])
    path.write_bytes(good)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run_and_list_made(place, 'inference', *options) == ['b', 'c']


def test_what_is_done_is_said(place):
    run_and_list_made(place, 'inference')
    (place.out / 'semantic_gray' / 'b.png').unlink()
    place.works('inference', predictor='softmax')
    assert f'{place.out}: 2 of 3 images are done already' in place.printed
    place.works('inference', '--set', 'test.image_size=24', predictor='softmax')
    assert 'other arguments (test.image_size); all are made again' in place.printed
    assert json.loads((place.out / 'arguments.json').read_text())['test.image_size'] == 24


def test_the_list_of_pseudo_labels_is_written_even_if_all_are_done(place):
    run_and_list_made(place, 'pseudo_label')
    listing = place.folder / 'new.txt'
    assert run_and_list_made(place, 'pseudo_label', list_out=listing) == []
    assert len(listing.read_text().splitlines()) == 3
