"""Photos that are stored turned are read upright, whichever way they are read."""
import numpy as np
import pytest
from exif import save_turned, stored
from PIL import Image, ImageOps
from raw_files import png

from spml.data.decoding import orientation, upright
from spml.data.readers import image_size, read_image, stored_orientation


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
