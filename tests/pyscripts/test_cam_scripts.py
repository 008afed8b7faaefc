"""Tags to labels by the three scripts, and input of users that none of them can work with."""
import numpy as np
import pytest
from PIL import Image

from spml.data.cam_labels import tag_labels
from spml.data.readers import read_cam

pytestmark = pytest.mark.usefixtures('one_thread')
STEPS = ('--set', 'train.max_iteration=1')


def test_from_tags_to_labels(place):
    rows = place.data.list.read_text().splitlines()
    place.data.list.write_text(f'image/a.png - - 1,2\n{rows[1]}\nimage/c.png - instance/c.png - tag\n')
    place.works('train_cam', *STEPS)
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
    place.data.list.write_text('image/a.png - -\n')
    place.fails('train_cam', *STEPS, naming=[place.data.list, 'no image has a tag', 'fourth field'])
    place.data.list.write_text('image/a.png - - 3\n')
    place.fails('train_cam', *STEPS, naming=[f'{place.data.list}:1', 'the tag 3 is no class'])
    place.fails('train_cam', *STEPS, fields=1, naming=[f'{place.data.lists[1]}:1', 'image semantic'])
    place.fails('cam', fields=1, naming=[f'{place.data.lists[1]}:1', 'image semantic'])


def test_weights_of_something_else_are_named(place):
    config = place.make_config()
    place.fails('cam', checkpoint=place.make_weights(config), naming=[
        'model-3.pth', 'cam_classifier.weight is missing'])
    place.fails('cam', checkpoint=place.make_weights(config), cfg_path=place.config, naming=[
        'network.prediction_types is segsort', 'train_cam.py'])
    more = place.make_config('network.prediction_types=cam', 'dataset.num_classes=5')
    place.fails('cam', checkpoint=place.make_weights(more), naming=['model-3.pth', 'dataset.num_classes'])
    place.fails('train_cam', cfg_path=place.config, naming=['network.prediction_types is segsort', 'needs cam'])


def test_bad_images_and_labels_are_named_with_their_line(place):
    Image.fromarray(np.zeros((40, 36), np.uint8)).convert('P').save(place.label('b'))
    for script in ('train_cam', 'cam'):
        steps = STEPS if script == 'train_cam' else ()
        place.fails(script, *steps, naming=[f'{place.data.list}:2', place.label('b')])
    place.label('a', 'image').write_bytes(b'junk')
    place.fails('cam', naming=[f'{place.data.list}:1', place.label('a', 'image')])
