"""oversegment.py as users run it."""
import os
import pickle
import shutil

import numpy as np
import pytest
from originals import check_form
from PIL import Image
from raw_files import Evil, as_object, png

from spml.data.readers import read_image, read_label
from spml.errors import DataError
from spml.prepare.oversegmentation import boundary_recall, oversegment, read_contours
from spml.prepare.owt_ucm import regions_from_contours
from spml.scenes.scene import render_scene


class Data:
    """Four images of two sizes in a folder, a list of them that names labels which are not there, and contour maps."""

    def __init__(self, folder):
        rng = np.random.default_rng()
        self.folder, self.list, self.out = folder / 'data', folder / 'data' / 'list.txt', folder / 'out'
        self.maps, self.truth = folder / 'maps', folder / 'truth'
        for path in (self.folder / 'images', self.maps, self.truth):
            path.mkdir(parents=True)
        self.names = ['a', 'b.1', 'c', 'd']
        self.contours = {}
        for index, name in enumerate(self.names):
            blocks = rng.integers(0, 256, (2, 3, 3))
            pixels = np.kron(blocks, np.ones((14, 12, 1), int))
            pixels = pixels.swapaxes(0, 1) if index == 3 else pixels
            Image.fromarray(pixels.astype(np.uint8)).save(self.folder / f'images/{name}.png')
            self.contours[name] = rng.random(pixels.shape[:2]) ** 3
            if index % 2:
                np.save(self.maps / f'{name}.npy', self.contours[name].astype(np.float32)[None, ..., None])
            else:
                self.contours[name] = np.round(self.contours[name] * 255) / 255
                Image.fromarray(np.round(self.contours[name] * 255).astype(np.uint8)).save(self.maps / f'{name}.png')
            labels = rng.integers(0, 3, pixels.shape[:2]).astype(np.uint8)
            Image.fromarray(labels).save(self.truth / f'{name}.png')
        lines = [f'images/{name}.png weak/{name}.png regions/{name}.png' for name in self.names]
        self.list.write_text('\n'.join([*lines, lines[1]]) + '\n')  # one image twice

    def arguments(self, *more):
        return ['--data_dir', self.folder, '--data_list', self.list, '--save_dir', self.out, '--num_workers', 0, *more]


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def test_regions_of_the_images(data, works):
    printed = works('oversegment', *data.arguments('--report', '--truth_dir', data.truth))
    assert f'4 over-segmentations written: {data.out}' in printed
    assert sorted(path.name for path in data.out.glob('[!.]*')) == sorted(f'{name}.png' for name in data.names)
    maps = {name: read_label(data.out / f'{name}.png') for name in data.names}
    counts = [len(np.unique(regions)) for regions in maps.values()]
    assert f'regions: {np.mean(counts):.1f} an image, from {min(counts)} to {max(counts)}' in printed
    near, total = np.sum([boundary_recall(maps[name], read_label(data.truth / f'{name}.png')) for name in maps], axis=0)
    assert f'boundary recall: {100 * near / total:.1f} % of {total} boundary pixels' in printed


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (2, 2), (5, 3), (40, 57)])
def test_without_contours_regions_are_connected_and_numbered(shape, rng):
    for image in (rng.integers(0, 256, (*shape, 3), np.uint8), np.full((*shape, 3), 77, np.uint8)):
        for threshold, most in ((0, 255), (0.3, 255), (0.3, 1)):
            check_form(oversegment(image, threshold=threshold, max_regions=most), shape, most)


def test_a_higher_threshold_gives_fewer_regions(data):
    image = render_scene(np.random.default_rng(), 60, 80, 6, first_class=1).image
    counts = [oversegment(image, threshold=threshold).max() for threshold in (0.1, 0.3, 0.6, 1)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    assert oversegment(image, threshold=0.1, max_regions=int(counts[2])).max() + 1 == counts[2]


def test_texture_parts_where_colour_does_not():
    y, x = np.mgrid[:80, :120]
    stripes = np.where(x < 60, y // 3 % 2, x // 3 % 2)  # horizontal and vertical, of the same two greys
    regions = oversegment(np.repeat((90 + 60 * stripes)[..., None], 3, 2).astype(np.uint8), max_regions=2)
    assert (regions[:, :55] == regions[40, 20]).mean() > 0.97
    assert (regions[:, 65:] == regions[40, 100]).mean() > 0.97
    assert regions[40, 20] != regions[40, 100]


def test_a_large_image_is_looked_at_smaller(monkeypatch):
    image = np.kron(np.random.default_rng().integers(0, 256, (3, 4, 3)), np.ones((20, 20, 1), int)).astype(np.uint8)
    small = oversegment(image[::2, ::2])
    monkeypatch.setattr('spml.prepare.oversegmentation._MOST_PIXELS', 30 * 40)
    regions = oversegment(image)
    check_form(regions, (60, 80))
    np.testing.assert_array_equal(regions, small.repeat(2, 0).repeat(2, 1))


def test_a_large_contour_map_is_looked_at_smaller(monkeypatch, rng):
    """A contour of one pixel still splits, and regions are those between contours, to a few pixels."""
    monkeypatch.setattr('spml.prepare.oversegmentation._MOST_PIXELS', 40 * 50)
    contours, cut = np.zeros((200, 250)), int(rng.integers(60, 190))
    contours[:, cut] = 1
    found = oversegment(np.zeros((200, 250, 3), np.uint8), contours)
    assert (found.shape, found.max()) == ((200, 250), 1)
    assert len(np.unique(found[:, :cut - 10])) == len(np.unique(found[:, cut + 10:])) == 1


def test_superpixels_of_parts_of_an_image_are_those_of_all(monkeypatch):
    image = np.random.default_rng().integers(0, 256, (90, 70, 3), np.uint8)
    whole = oversegment(image)
    monkeypatch.setattr('spml.scenes.regions._AT_ONCE', 1000)
    assert (oversegment(image) == whole).mean() > 0.99


def test_regions_along_contour_maps(data, works):
    more = ['--contours', data.maps, '--threshold', 0.12, '--max_regions', 9]
    assert 'regions:' not in works('oversegment', *data.arguments(*more))
    for name in data.names:
        expected = regions_from_contours(data.contours[name].astype(np.float32).clip(0, 1), 0.12, 9)
        found = read_label(data.out / f'{name}.png')
        assert found.shape == expected.shape
        if (data.maps / f'{name}.npy').exists():
            np.testing.assert_array_equal(found, expected)
        assert 1 < len(np.unique(found)) <= 9


def test_goes_on_where_it_stopped_with_the_same_options_only(data, works, fails):
    works('oversegment', *data.arguments())
    photo = data.folder / 'images/b.1.png'
    Image.fromarray(np.rot90(read_image(photo), 2)).save(photo)
    os.utime(photo, (0, 0))
    printed = works('oversegment', *data.arguments('--report'))
    assert '1 over-segmentations written' in printed
    assert '(3 were there already)' in printed
    np.testing.assert_array_equal(read_label(data.out / 'b.1.png'), oversegment(read_image(photo)))
    fails('oversegment', *data.arguments('--threshold', 0.2), naming=[data.out, 'threshold: 0.3 -> 0.2', '--overwrite'])
    fails('oversegment', *data.arguments('--contours', data.maps), naming=[data.out, 'contours'])
    assert '4 over-segm' in works('oversegment', *data.arguments('--threshold', 0.2, '--overwrite'))


def test_images_and_lists_that_cannot_be_used(data, fails):
    image = data.folder / 'images/c.png'
    content = image.read_bytes()
    image.write_bytes(content[:50])
    fails('oversegment', *data.arguments(), naming=[f'{data.list}:3', image])
    image.unlink()
    fails('oversegment', *data.arguments(), naming=[f'{data.list}:3', image])
    data.list.write_text('images/a.png\nother/a.png\n')
    fails('oversegment', *data.arguments(), naming=[f'{data.list}:2', 'line 1'])


def test_maps_and_truth_that_cannot_be_used(data, fails):
    contours = data.arguments('--contours', data.maps)
    path = data.maps / 'b.1.npy'
    np.save(path, data.contours['b.1'][1:])
    fails('oversegment', *contours, naming=[f'{data.list}:2', path, data.folder / 'images/b.1.png'])
    path.unlink()
    fails('oversegment', *contours, naming=[f'{data.list}:2', data.maps / 'b.1.png', '.npy'])
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(data.truth / 'c.png')
    data.out = data.out.with_name('two')
    truth = data.arguments('--truth_dir', data.truth)
    fails('oversegment', *truth, naming=[data.truth / 'c.png', f'{data.list}:3'])
    fails('oversegment', *data.arguments('--truth_dir', data.maps.with_name('none')), naming=['none', 'a.png'])


def float_map(*values):
    return lambda path: np.save(path, *values)


def content(data):
    return lambda path: path.write_bytes(data)


def picture(image):
    return lambda path: image.save(path)


@pytest.mark.parametrize(('name', 'write', 'words'), [
    ('a.npy', float_map(as_object(Evil(exec, 'raise SystemExit("executed")'))), 'not a readable .npy'),
    ('a.npy', content(pickle.dumps(Evil(exec, 'raise SystemExit("executed")'))), 'not a readable .npy'),
    ('a.npy', content(b''), 'not a readable .npy'),
    ('a.npy', content(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9999999, 9999999), }"
                      .ljust(128)), 'not a readable .npy'),
    ('a.npy', float_map(np.zeros((4, 5), int)), 'int64'), ('a.npy', float_map(np.zeros((4, 5, 2))), '4, 5, 2'),
    ('a.npy', float_map(np.full((4, 5), 1.1)), 'outside 0..1'),
    ('a.npy', float_map(np.full((4, 5), np.nan)), 'outside 0..1'), ('a.npy', float_map(np.full((4, 5), 0.9)), 'invert'),
    ('a.png', picture(Image.new('RGB', (4, 5))), 'mode RGB'), ('a.png', picture(Image.new('1', (4, 5))), 'mode 1'),
    ('a.png', picture(Image.new('P', (4, 5))), 'mode P'), ('a.png', picture(Image.new('L', (4, 5), 200)), 'invert'),
    ('a.png', picture(Image.fromarray(np.zeros((4, 5), np.uint16))), 'mode I;16'),
    *(('a.png', content(png(50, 40, 8, 0, bytes(40 * 51))[:kept]), 'not a readable PNG') for kept in (1, 20, 45))])
def test_files_that_are_no_contour_map(tmp_path, name, write, words):
    write(tmp_path / name)
    with pytest.raises(DataError, match=rf'^{tmp_path / name}: .*{words}.*\Z'):  # one line
        read_contours(tmp_path / name)


def test_maps_are_read_as_they_are(tmp_path):
    values = np.random.default_rng().random((4, 5)) / 2
    np.save(tmp_path / 'a.npy', values)
    np.testing.assert_array_equal(read_contours(tmp_path / 'a.npy'), values)
    np.save(tmp_path / 'b.npy', values.astype(np.float16)[None, None])
    np.testing.assert_array_equal(read_contours(tmp_path / 'b.npy'), values.astype(np.float16))
    Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)).save(tmp_path / 'c.png')
    np.testing.assert_allclose(read_contours(tmp_path / 'c.png'), np.arange(20).reshape(4, 5) / 255)


@pytest.mark.parametrize('more', [[], ['--overwrite']])
@pytest.mark.parametrize('place', ['images', 'weak'])
def test_photos_and_labels_where_regions_go(data, fails, more, place):
    data.out = data.folder / place
    if place == 'weak':
        shutil.copytree(data.truth, data.out)
    before = {path.name: path.read_bytes() for path in data.out.iterdir()}
    fails('oversegment', *data.arguments(*more), naming=[data.out, '--save_dir'])
    assert {path.name: path.read_bytes() for path in data.out.iterdir()} == before
