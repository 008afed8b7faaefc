"""Damaged images, photos that are stored turned, and the check that files, PIL images and arrays share."""
import io
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from exif import save_turned, stored
from PIL import Image, ImageOps
from raw_files import png, without_its_middle

from spml.data import decoding
from spml.data.decoding import orientation, upright
from spml.data.readers import image_pixels, image_size, read_image, read_label, stored_orientation
from spml.errors import DataError

# Damage in the middle of a JPEG

def jpeg(rng, kind):
    """Return the bytes of a photo-like JPEG in one of several encodings."""
    coarse = rng.integers(0, 256, (24, 32, 3), np.uint8)
    photo = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
    photo = Image.fromarray(np.clip(photo + rng.normal(0, 6, photo.shape), 0, 255).astype(np.uint8))
    out = io.BytesIO()
    photo.convert({'grey': 'L', 'cmyk': 'CMYK'}.get(kind, 'RGB')).save(out, 'JPEG', **{
        'progressive': {'progressive': True}, '4:4:4': {'subsampling': 0}, '4:2:2': {'subsampling': 1},
        'restarts': {'restart_marker_blocks': 4}, 'restart rows': {'restart_marker_rows': 1},
        'optimised': {'optimize': True}, 'coarse': {'quality': 20}, 'fine': {'quality': 98},
        'exif': {'exif': bytes(64)}}.get(kind, {}))
    return out.getvalue()


ENCODINGS = ['plain', 'progressive', '4:4:4', '4:2:2', 'grey', 'cmyk', 'restarts', 'restart rows', 'optimised',
             'coarse', 'fine', 'exif']


@pytest.mark.parametrize('kind', ENCODINGS)
def test_a_jpeg_without_its_middle_is_told_of_and_a_healthy_one_is_not(tmp_path, rng, capfd, kind):
    content, told = jpeg(rng, kind), []
    (tmp_path / 'good.jpg').write_bytes(content)
    # What cameras and editors put before, between and behind the parts of a file is no damage.
    (tmp_path / 'padded.jpg').write_bytes(content[:2] + b'\xff\xfe\x00\x06text' + b'\xff' * 5 + content[2:] + bytes(9))
    (tmp_path / 'bad.jpg').write_bytes(content)
    without_its_middle(tmp_path / 'bad.jpg')
    for name in ('good', 'padded'):
        assert read_image(tmp_path / f'{name}.jpg', told.append).shape == (240, 320, 3)
        assert told == []
    try:
        read_image(tmp_path / 'bad.jpg', told.append)
    except DataError as error:
        told.append(str(error))
    assert len(told) == 1
    assert str(tmp_path / 'bad.jpg') in told[0]
    assert 'damaged JPEG' in told[0]
    assert capfd.readouterr().err == ''  # the decoder itself is not heard


def test_damage_is_warned_of_once_a_file(tmp_path, rng, caplog):
    for name in ('a.jpg', 'b.jpg'):
        (tmp_path / name).write_bytes(jpeg(rng, 'plain'))
        without_its_middle(tmp_path / name)
        for _ in range(3):
            read_image(tmp_path / name)
    assert [record.getMessage().partition(':')[0] for record in caplog.records] == [
        str(tmp_path / 'a.jpg'), str(tmp_path / 'b.jpg')]


def test_what_others_write_to_standard_error_while_a_jpeg_is_decoded_arrives(tmp_path, rng):
    path = tmp_path / 'bad.jpg'
    path.write_bytes(jpeg(rng, 'plain'))
    without_its_middle(path)
    program = ('import sys, threading, os\nfrom spml.data.readers import read_image\n'
               'def write():\n    for number in range(2000):\n        os.write(2, b"line %d\\n" % number)\n'
               'thread = threading.Thread(target=write)\nthread.start()\n'
               'while thread.is_alive():\n    read_image(sys.argv[1], lambda text: None)\n')
    err = subprocess.run([sys.executable, '-c', program, path], capture_output=True, text=True, check=True).stderr
    assert sorted(err.splitlines()) == sorted(f'line {number}' for number in range(2000))


def test_a_closed_standard_error_is_no_obstacle(tmp_path, rng):
    path = tmp_path / 'a.jpg'
    path.write_bytes(jpeg(rng, 'plain'))
    program = ('import os, sys\nfrom spml.data.readers import read_image\nos.close(2)\n'
               'print(read_image(sys.argv[1]).shape)')
    found = subprocess.run([sys.executable, '-c', program, path], capture_output=True, text=True, check=True)
    assert found.stdout == '(240, 320, 3)\n'


# Headers that say different things


@pytest.mark.parametrize('read', [read_image, read_label])
def test_a_png_with_a_second_header_is_refused(tmp_path, read):
    size = struct.pack('>IIBBBBB', 11000, 11000, 8, 0, 0, 0, 0)
    (tmp_path / 'a.png').write_bytes(png(4, 3, 8, 0, bytes(15), extra=[(b'IHDR', size)]))
    with pytest.raises(DataError, match=r'a\.png'):
        read(tmp_path / 'a.png')
    (tmp_path / 'a.png').write_bytes(png(4, 3, 8, 0, bytes(15), extra=[(b'IHDR', size[:8] + bytes([16, 2, 0, 0, 0]))]))
    with pytest.raises(DataError, match=r'a\.png'):
        read(tmp_path / 'a.png')


# One check for files, PIL images and arrays


def same_refusal(path, content):
    """Return the two errors, without the name, of a file and of the PIL image that is opened from it."""
    path.write_bytes(content)
    errors = []
    for read in (lambda: read_image(path), lambda: image_pixels(Image.open(path))):
        with pytest.raises(DataError) as caught:
            read()
        errors.append((type(caught.value), str(caught.value).removeprefix(str(path)).removeprefix('image')))
    return errors


def test_a_pil_image_is_refused_where_its_file_is_and_in_the_same_words(tmp_path, rng):
    deep = rng.integers(0, 2 ** 16, (6, 5, 3), np.uint16)
    for array in (deep, deep[..., 0]):
        one, other = same_refusal(tmp_path / 'a.png', cv2.imencode('.png', array)[1].tobytes())
        assert one == other
        assert '16-bit' in one[1]
    content = jpeg(rng, 'plain')
    one, other = same_refusal(tmp_path / 'a.jpg', content[:len(content) // 2])
    assert one == other


@pytest.mark.parametrize('kind', ['plain', 'grey', 'cmyk', 'progressive'])
def test_a_pil_image_of_a_file_has_the_file_s_pixels(tmp_path, rng, kind):
    (tmp_path / 'a.jpg').write_bytes(jpeg(rng, kind))
    np.testing.assert_array_equal(image_pixels(Image.open(tmp_path / 'a.jpg')), read_image(tmp_path / 'a.jpg'))


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'LA', 'RGBA'])
def test_a_pil_image_in_memory_is_what_its_png_is(tmp_path, rng, mode):
    image = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).convert(mode)
    image.save(tmp_path / 'a.png')
    np.testing.assert_array_equal(image_pixels(image), read_image(tmp_path / 'a.png'))


@pytest.mark.parametrize('mode', ['I', 'F', 'I;16'])
def test_modes_of_more_than_8_bits_are_refused(mode):
    with pytest.raises(DataError, match='images must have 8 bits per channel'):
        image_pixels(Image.new(mode, (4, 3)))


@pytest.mark.parametrize('array', [
    np.zeros((4, 3, 3)), np.full((4, 3, 3), np.nan, np.float32), np.zeros((4, 3, 3), np.int64),
    np.zeros((4, 3), np.uint8), np.zeros((4, 3, 4), np.uint8), np.zeros((4, 3, 3), np.uint16),
    np.zeros((4, 3, 3), bool), 'ab', None, [[1], [2, 3]]])
def test_arrays_that_are_no_pixels_are_refused(array):
    with pytest.raises(DataError, match=r'^image: .* pixels must be uint8'):
        image_pixels(array)


def test_images_without_pixels_and_with_too_many_are_refused(monkeypatch):
    for empty in (np.zeros((0, 3, 3), np.uint8), Image.new('RGB', (0, 4))):
        with pytest.raises(DataError, match='at least one'):
            image_pixels(empty)
    monkeypatch.setattr(decoding, 'MAX_PIXELS', 11)
    for large in (np.zeros((4, 3, 3), np.uint8), Image.new('RGB', (4, 3))):
        with pytest.raises(DataError, match=r'4x3|3x4'):
            image_pixels(large)


@pytest.mark.parametrize('value', range(1, 9))
def test_a_photo_is_read_upright(tmp_path, rng, value):
    # Flat blocks of 16 x 16, which JPEG keeps but for rounding, however they are turned.
    picture = np.kron(rng.integers(0, 256, (2, 3, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    path = save_turned(tmp_path / 'a.png', picture, value)
    np.testing.assert_array_equal(read_image(path), picture)
    assert (image_size(path), stored_orientation(path)) == ((32, 48), value)
    path = save_turned(tmp_path / 'a.jpg', picture, value, quality=100, subsampling=0)
    assert abs(read_image(path).astype(int) - picture).max() <= 3
    assert (image_size(path), stored_orientation(path)) == ((32, 48), value)
    with Image.open(path) as image:
        assert ImageOps.exif_transpose(image).size == (48, 32)  # Pillow, which annotation tools use, agrees
    grey = save_turned(tmp_path / 'g.png', picture[..., 0], value)
    np.testing.assert_array_equal(read_image(grey), picture[..., [0, 0, 0]])


def test_a_tag_behind_the_pixels_of_a_png_counts(tmp_path, rng):
    picture = rng.integers(0, 256, (4, 6), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = np.pad(stored(picture, 6), ((0, 0), (1, 0))).tobytes()
    early = png(4, 6, 8, 0, rows, extra=[(b'eXIf', exif.tobytes()[6:])])
    at = early.index(b'eXIf') - 4
    length = early.index(b'IDAT') - 4 - at
    late = early[:at] + early[at + length:-12] + early[at:at + length] + early[-12:]
    assert early != late
    for content in (early, late):
        (tmp_path / 'a.png').write_bytes(content)
        np.testing.assert_array_equal(read_image(tmp_path / 'a.png')[..., 0], picture)
        assert image_size(tmp_path / 'a.png') == (4, 6)


@pytest.mark.parametrize('value', [0, 9, 65535])
def test_values_that_mean_nothing_turn_nothing(tmp_path, rng, value):
    picture = rng.integers(0, 256, (4, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(picture).save(tmp_path / 'a.png', exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), picture)


def test_a_damaged_tag_turns_nothing(tmp_path, rng):
    picture = rng.integers(0, 256, (4, 6, 3), np.uint8)
    for damage in (b'Exif\0\0', b'Exif\0\0II*\0\xff\xff\xff\xff', b'Exif\0\0nonsense'):
        Image.fromarray(picture).save(tmp_path / 'a.jpg', exif=damage)
        assert read_image(tmp_path / 'a.jpg').shape == picture.shape
        assert (image_size(tmp_path / 'a.jpg'), stored_orientation(tmp_path / 'a.jpg')) == ((4, 6), 1)


def test_upright_pixels_have_rows_in_memory(rng):
    for value in range(1, 9):
        assert upright(rng.integers(0, 9, (3, 5, 3)), value).flags.c_contiguous  # as OpenCV and torch want them
    assert orientation(Image.new('RGB', (3, 3))) == 1
