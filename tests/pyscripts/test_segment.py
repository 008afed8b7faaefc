"""segment.py: its pictures."""
import numpy as np
import pytest
import torch
from PIL import Image

import spml
from spml import config as configuration
from spml.visualization.overlay import overlay

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def run_dir(place):
    """The folder of a run whose classifier carries its configuration."""
    config = place.make_config()
    content = torch.load(place.make_weights(config), weights_only=True)
    path = place.folder / 'run' / 'classifier' / 'model-3.pth'
    path.parent.mkdir(parents=True)
    torch.save({**content, 'config': configuration.to_dict(config)}, path)
    return place.folder / 'run'


def segment(place, image, run, *more, **options):
    given = {'cfg_path': None, 'data_dir': None, 'data_list': None, 'checkpoint': None, 'save_dir': None}
    return place.run('segment', image, '--run', run, *more, **{**given, **options})


def test_overlays_stand_in_the_run_and_show_the_prediction(place, run_dir):
    status, err = segment(place, place.data.folder / 'image', run_dir)
    assert status == 0, err
    segmenter = spml.load_segmenter(run_dir, 'cpu')
    for name in place.data.names:
        image = np.array(Image.open(place.label(name, 'image')))
        expected = overlay(image, segmenter.predict(image).labels, segmenter.class_names)
        np.testing.assert_array_equal(np.array(Image.open(run_dir / 'overlays' / f'{name}.png')), expected)


def test_one_image_into_another_folder_with_other_settings(place, run_dir, capsys):
    options = ('--set', 'test.image_size=24', '--opacity', '0.9')
    status, err = segment(place, place.label('b', 'image'), run_dir / 'classifier' / 'model-3.pth', *options,
                          save_dir=place.out)
    assert status == 0, err
    assert [path.name for path in place.out.iterdir()] == ['b.png']
    image = np.array(Image.open(place.label('b', 'image')))
    segmenter = spml.load_segmenter(run_dir, 'cpu', overrides=['test.image_size=24'])
    np.testing.assert_array_equal(np.array(Image.open(place.out / 'b.png')),
                                  overlay(image, segmenter.predict(image).labels, segmenter.class_names, 0.9))


def test_mistakes_are_named(place, run_dir):
    (place.folder / 'empty').mkdir()
    twins = place.folder / 'twins'
    twins.mkdir()
    for name in ('a.png', 'a.PNG'):
        (twins / name).write_bytes(place.label('a', 'image').read_bytes())
    for image, run, naming in ((place.folder / 'none.jpg', run_dir, 'none.jpg'),
                               (place.folder / 'empty', run_dir, 'empty'),
                               (twins, run_dir, twins / 'a.png'), (place.label('a'), place.folder / 'no_run', 'no_run'),
                               (place.label('a'), place.folder / 'empty', 'model-*.pth')):
        status, err = segment(place, image, run)
        place.check_error(status, err, [naming])
