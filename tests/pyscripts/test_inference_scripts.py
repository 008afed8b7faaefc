"""The options of prototype.py, inference.py, pseudo_label.py and pack_voc_test.py reach what they are meant for."""
import io
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from spml import config as configuration
from spml.data.cam_labels import tag_labels
from spml.data.readers import read_cam
from spml.inference.sources import SOURCES

pytestmark = pytest.mark.usefixtures('one_thread')

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = {'prototype': {}, 'inference': {'predictor': 'softmax'}, 'pseudo_label': {'source': 'softmax'},
           'pack_voc_test': {}}


@pytest.mark.parametrize('script', SCRIPTS)
def test_the_checkpoint_s_configuration_counts_and_what_is_done_is_left(place, save_model, script):
    folder = place.folder / 'training'
    save_model(folder / 'model-10.pth', place.make_config('test.stride=32,32', 'test.image_size=30'))
    (folder / 'model-9.pth').write_bytes(b'older')
    options = {**SCRIPTS[script], 'cfg_path': None, 'checkpoint': None, 'snapshot_dir': folder}
    place.works(script, '--set', 'test.image_size=24', **options)
    used = yaml.safe_load((place.out / 'config.yaml').read_text())['test']
    assert (used['stride'], used['image_size']) == ([32, 32], 24)
    place.works(script, '--set', 'test.image_size=24', **options)
    assert '3 of 3 images are done already' in place.printed
    place.works(script, '--set', 'test.image_size=24', '--overwrite', **options)
    assert 'done already' not in place.printed
    place.works(script, '--set', 'test.crop_size=40,40', **options)
    assert 'holds results made differently (test.' in place.printed


@pytest.mark.parametrize('source', SOURCES)
def test_a_source_of_pseudo_labels_has_all_it_needs(place, source):
    pytest.importorskip('pydensecrf')
    files = {'cam_dir': place.folder / 'cams', 'semantic_memory_dir': place.folder / 'stored'}
    for folder in files.values():
        folder.mkdir()
    for name in place.data.names:
        np.save(files['cam_dir'] / f'{name}.npy', np.array({}, dtype=object), allow_pickle=True)
    np.savez(files['semantic_memory_dir'] / 'x.npz', prototype=np.ones((30, 8), np.float32),
             prototype_label=np.arange(30) % 3)
    given = {**files, 'kmeans_num_clusters': '2,2'}
    needed = {name: given[name] for name in SOURCES[source].options}
    options = {'source': source, 'num_workers': 0, 'crf_iter_max': 1}
    for name in needed:
        place.fails('pseudo_label', naming=[f'--source {source}', f'--{name}'], **{**options, **needed, name: None})
    listing = place.folder / 'pseudo.txt'
    place.works('pseudo_label', list_out=listing, **options, **needed)
    assert [line.split()[1] for line in listing.read_text().splitlines()] == [
        str(place.out / 'semantic_gray' / f'{name}.png') for name in place.data.names]


def test_the_options_of_pseudo_labels_arrive_and_training_takes_the_result(place):
    listing = place.folder / 'pseudo.txt'
    place.works('pseudo_label', source='softmax', confidence_threshold=0.99, list_out=listing)
    assert any((place.gray(name) == 254).any() for name in place.data.names)
    place.works('train_classifier', '--set', 'train.max_iteration=1',
                f'network.pretrained={place.make_weights(place.make_config())}', data_list=listing,
                snapshot_dir=place.folder / 'classifier')
    place.works('prototype', data_list=listing)
    place.fails('pseudo_label', '--tagged_classes_only', source='softmax', naming=['--tagged_classes_only'])
    for threshold in ('0', '1.5', 'nan', 'high'):
        status, err = place.run('pseudo_label', f'--confidence_threshold={threshold}', source='softmax')
        assert status == 2
        assert '--confidence_threshold' in err


@pytest.mark.parametrize(('background', 'meant', 'other'), [('true', 'class', 'none'), ('false', 'none', 'class')])
def test_scores_are_divided_by_their_maximum_where_there_is_a_background(place, background, meant, other):
    options = 'pseudo_label', '--set', f'dataset.background={background}'
    place.works(*options, source='softmax', normalise='auto')
    place.works(*options, source='softmax', normalise=meant)
    assert '3 of 3 images are done already' in place.printed
    place.works(*options, source='softmax', normalise=other)
    assert 'done already' not in place.printed


def run_process(*command):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, env=environment,
                          check=False)


def test_as_a_user_runs_it(place):
    path = 'pyscripts/inference/inference.py'
    failed = run_process(path, *place.arguments('inference', predictor='retrieval'))
    assert failed.returncode == 2
    assert failed.stderr.startswith('error: ')
    assert '--semantic_memory_dir' in failed.stderr
    assert failed.stderr.count('\n') == 1
    pytest.importorskip('pydensecrf')
    worked = run_process(path, *place.arguments('inference', '--crf', predictor='softmax', num_workers=1,
                                                crf_iter_max=2))
    assert worked.returncode == 0, worked.stderr
    assert place.gray('c').shape == (40, 36)


def test_workers_of_crf_import_the_scripts_without_torch():
    code = ('import runpy, sys, spml.inference.outputs\n'
            'for path in sys.argv[1:]: runpy.run_path(path, run_name="__mp_main__")\n'
            'assert "torch" not in sys.modules')
    scripts = [f'pyscripts/inference/{script}.py' for script in SCRIPTS]
    done = run_process('-c', code, *scripts)
    assert done.returncode == 0, done.stderr


def test_from_tags_to_labels(place):
    rows = place.data.list.read_text().splitlines()
    place.data.list.write_text(f'image/a.png - - 1,2\n{rows[1]}\nimage/c.png - instance/c.png - tag\n')
    place.works('train_cam', '--set', 'train.max_iteration=1')
    assert '3 images with 3 tags of 2 classes' in place.printed
    trained, place.out = place.out, place.folder / 'cams'
    place.works('cam', checkpoint=None, cfg_path=None, snapshot_dir=trained)
    assert f'3 files of CAMs: {place.out}' in place.printed
    cams = {name: read_cam(place.out / 'cam_npy' / f'{name}.npy', 3, (40, 36)) for name in 'abc'}
    assert [cam.keys() for cam in cams.values()] == [{0, 1}, {1}, set()]
    place.out = place.folder / 'labels'
    new = place.folder / 'new.txt'
    place.works('prepare_cam', checkpoint=None, cam_dir=place.folder / 'cams' / 'cam_npy', list_out=new)
    for name, cam in cams.items():
        np.testing.assert_array_equal(place.gray(name), tag_labels(cam, (40, 36)))
    assert [line.split()[2:] for line in new.read_text().splitlines()] == [['-', '1,2'], ['instance/b.png'],
                                                                          ['instance/c.png', '-', 'tag']]


def test_lists_without_tags_are_named(place):
    for script in ('train_cam', 'cam'):
        place.fails(script, fields=1, naming=[f'{place.data.lists[1]}:1', 'image semantic'])


COLOURS = [[10, 20, 30], [200, 1, 99], [3, 250, 77]]
NOT_OF_INFERENCE = dict.fromkeys(('data_list', 'device', 'checkpoint', 'save_dir'))


@pytest.fixture
def own_classes(place):
    place.config.write_text(configuration.dump(place.make_config(f'dataset.color_map={COLOURS}')))
    return place


def test_contact_sheet(own_classes):
    place = own_classes
    place.works('inference', '--predictor', 'softmax')
    sheet = place.folder / 'sheet.png'
    place.works('contact_sheet', '--val_list', place.data.list, '--pred_dir', place.out / 'semantic_gray', '--out',
                sheet, **NOT_OF_INFERENCE)
    right_of_images = np.array(Image.open(sheet))[:, 212:]
    pixels = {tuple(pixel) for pixel in right_of_images.reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in COLOURS} <= pixels
    assert not {(128, 0, 0), (0, 128, 0)} & pixels


def test_training_pictures(own_classes):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    place = own_classes
    place.works('train', '--set', 'train.random_scale=false')
    events = accumulator.EventAccumulator(str(place.out / 'tensorboard'))
    events.Reload()
    picture = Image.open(io.BytesIO(events.Images('images/weak_label')[0].encoded_image_string))
    pixels = {tuple(pixel) for pixel in np.array(picture).reshape(-1, 3).tolist()}
    unlabelled, void = (72, 72, 72), (224, 224, 192)
    assert pixels - {unlabelled, void} <= {tuple(colour) for colour in COLOURS}
    assert pixels - {unlabelled, void}
