"""Photos that are stored turned, on their way into a data set."""
import cv2
import numpy as np
import pytest
from exif import save_turned, stored
from PIL import Image, JpegImagePlugin

from spml.data.readers import image_size, read_image, stored_orientation
from spml.errors import DataError
from spml.prepare.photos import STORED, UPRIGHT, photo_size, place_photo


def smooth(rng, height=48, width=64):
    """A picture as cameras take them: few fine details."""
    return cv2.resize(rng.integers(20, 236, (height // 8, width // 8, 3), np.uint8), (width, height))


@pytest.mark.parametrize('value', range(2, 9))
def test_a_png_is_written_upright_with_its_own_values(tmp_path, rng, value):
    for picture in (smooth(rng), smooth(rng)[..., 0]):
        photo = save_turned(tmp_path / 'a.png', picture, value, icc_profile=b'a profile')
        assert photo_size(photo, UPRIGHT) == picture.shape[:2]
        place_photo(photo, tmp_path / 'out/a.png', UPRIGHT)
        with Image.open(tmp_path / 'out/a.png') as image:
            assert (image.format, image.getexif().get(0x0112), image.info['icc_profile']) == ('PNG', None, b'a profile')
            np.testing.assert_array_equal(np.array(image), picture)


@pytest.mark.parametrize('value', range(2, 9))
@pytest.mark.parametrize(('quality', 'subsampling', 'most'), [
    (60, '4:4:4', 1.05), (90, '4:2:2', 1.25), (90, '4:2:0', 1.25)])
def test_a_jpeg_is_written_upright_at_its_own_quality(tmp_path, rng, value, quality, subsampling, most):
    picture = smooth(rng)
    photo = save_turned(tmp_path / 'a.jpg', picture, value, quality=quality, subsampling=subsampling)
    place_photo(photo, tmp_path / 'b.jpg', UPRIGHT)
    assert stored_orientation(tmp_path / 'b.jpg') == 1
    assert image_size(tmp_path / 'b.jpg') == image_size(photo)
    before, after = (abs(read_image(path).astype(int) - picture).mean() for path in (photo, tmp_path / 'b.jpg'))
    assert after < most * before  # only colours that are sampled more coarsely are resampled
    with Image.open(photo) as one, Image.open(tmp_path / 'b.jpg') as other:
        for number, table in one.quantization.items():
            found = np.reshape(other.quantization[number], (8, 8))
            np.testing.assert_array_equal(found.T if value > 4 else found, np.reshape(table, (8, 8)))
        if value <= 4 or subsampling != '4:2:2':
            assert JpegImagePlugin.get_sampling(other) == JpegImagePlugin.get_sampling(one)


@pytest.mark.parametrize('value', [3, 6])
def test_pixels_are_kept_as_stored_by_request(tmp_path, rng, value):
    picture = smooth(rng)
    for ending in ('png', 'jpg'):
        photo, path = save_turned(tmp_path / f'a.{ending}', picture, value), tmp_path / f'out.{ending}'
        assert photo_size(photo, STORED) == stored(picture, value).shape[:2]
        place_photo(photo, path, STORED)
        with Image.open(photo) as one, Image.open(path) as other:
            np.testing.assert_array_equal(np.array(other), np.array(one))  # not even decoded
            assert other.getexif().get(0x0112) is None
        assert (image_size(path), stored_orientation(path)) == (photo_size(photo, STORED), 1)


def test_a_photo_without_a_tag_is_linked(tmp_path, rng):
    for value in (None, 1):
        photo = tmp_path / f'{value}.jpg'
        save_turned(photo, smooth(rng), value) if value else Image.fromarray(smooth(rng)).save(photo)
        for drawn_on in (UPRIGHT, STORED):
            place_photo(photo, tmp_path / f'out/{value}.jpg', drawn_on)
            assert photo.samefile(tmp_path / f'out/{value}.jpg')


def test_a_grey_and_a_cmyk_jpeg(tmp_path, rng):
    grey = smooth(rng)[..., 0]
    place_photo(save_turned(tmp_path / 'a.jpg', grey, 6), tmp_path / 'b.jpg', UPRIGHT)
    assert abs(read_image(tmp_path / 'b.jpg')[..., 0].astype(int) - grey).mean() < 3
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(smooth(rng)).convert('CMYK').save(tmp_path / 'c.jpg', exif=exif)
    place_photo(tmp_path / 'c.jpg', tmp_path / 'd.jpg', UPRIGHT)
    assert abs(read_image(tmp_path / 'c.jpg').astype(int) - read_image(tmp_path / 'd.jpg')).mean() < 2


def test_a_damaged_photo_is_refused(tmp_path, rng):
    photo = save_turned(tmp_path / 'a.jpg', smooth(rng), 6)
    photo.write_bytes(photo.read_bytes()[:-300])
    for drawn_on in (UPRIGHT, STORED):
        with pytest.raises(DataError, match=r'a\.jpg'):
            place_photo(photo, tmp_path / 'b.jpg', drawn_on)
    assert not (tmp_path / 'b.jpg').exists()
