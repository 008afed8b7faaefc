"""Tags to labels by the three scripts."""
import numpy as np
import pytest

from spml.data.cam_labels import tag_labels
from spml.data.readers import read_cam

pytestmark = pytest.mark.usefixtures('one_thread')


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
