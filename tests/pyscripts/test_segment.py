"""segment.py: its pictures."""
import numpy as np
import pytest
import torch
from exif import save_turned
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


def check_overlay(path, image, segmenter, *opacity):
    image = np.array(Image.open(image))
    expected = overlay(image, segmenter.predict(image).labels, segmenter.class_names, *opacity)
    np.testing.assert_array_equal(np.array(Image.open(path)), expected)


def test_overlays_stand_in_the_run_and_show_the_prediction(place, run_dir, works):
    works('segment', place.data.folder / 'image', '--run', run_dir)
    for name in place.data.names:
        check_overlay(run_dir / 'overlays' / f'{name}.png', place.label(name, 'image'),
                      spml.load_segmenter(run_dir, 'cpu'))


def test_a_photo_that_is_stored_turned_is_shown_upright(place, run_dir, works):
    image = np.array(Image.open(place.label('b', 'image')).convert('RGB'))
    path = save_turned(place.folder / 'turned.png', image, 6)
    works('segment', path, '--run', run_dir)
    check_overlay(run_dir / 'overlays/turned.png', place.label('b', 'image'), spml.load_segmenter(run_dir, 'cpu'))


def test_one_image_into_another_folder_with_other_settings(place, run_dir, works):
    works('segment', place.label('b', 'image'), '--run', run_dir / 'classifier' / 'model-3.pth', '--set',
          'test.image_size=24', '--opacity', '0.9', '--save_dir', place.out)
    assert [path.name for path in place.out.iterdir()] == ['b.png']
    check_overlay(place.out / 'b.png', place.label('b', 'image'),
                  spml.load_segmenter(run_dir, 'cpu', overrides=['test.image_size=24']), 0.9)


def test_mistakes_are_named(place, run_dir, fails):
    empty, twins = place.folder / 'empty', place.folder / 'twins'
    for folder in (empty, twins):
        folder.mkdir()
    for name in ('a.png', 'a.PNG'):
        (twins / name).write_bytes(place.label('a', 'image').read_bytes())
    for image, run, word in ((place.folder / 'none.jpg', run_dir, 'none.jpg'), (empty, run_dir, 'empty'),
                             (twins, run_dir, twins / 'a.png'), (place.label('a'), place.folder / 'no_run', 'no_run'),
                             (place.label('a'), empty, 'model-*.pth')):
        fails('segment', image, '--run', run, '--device', 'cpu', naming=[word])
