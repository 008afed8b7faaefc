import io
import os
import pickle
import re
import subprocess
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image
from raw_files import Evil, as_object, object_npy, png

from spml.data import decoding, readers
from spml.data.lists import Entry, read_list
from spml.data.readers import (
    entry_tags,
    image_size,
    read_cam,
    read_entry,
    read_image,
    read_label,
    read_prototypes,
)
from spml.errors import DataError


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


# Images

@pytest.mark.parametrize(('read', 'array'), [
    (read_image, np.arange(189, dtype=np.uint8).reshape(7, 9, 3)),
    (read_label, np.arange(256, dtype=np.uint8).reshape(8, 32))])
def test_png_values_are_exact(tmp_path, read, array):
    got = read(save(tmp_path / 'a.png', array))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, array)


def test_jpeg_is_decoded_as_opencv_does_in_rgb_order(tmp_path, rng):
    image = np.full((16, 24, 3), (200, 60, 20), np.uint8)
    path = save(tmp_path / 'a.jpg', image, quality=95)
    assert abs(read_image(path).astype(int) - image).max() < 6
    path = save(tmp_path / 'b.jpg', rng.integers(0, 256, (33, 41, 3), np.uint8))
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[:, :, ::-1])


@pytest.mark.parametrize('ending', ['png', 'jpg'])
def test_grey_image_becomes_rgb(tmp_path, rng, ending):
    got = read_image(save(tmp_path / f'a.{ending}', rng.integers(0, 256, (5, 8), np.uint8)))
    assert got.shape == (5, 8, 3)
    assert (got == got[:, :, :1]).all()


def test_files_of_another_kind(tmp_path):
    with pytest.raises(DataError, match='cannot read'):
        read_image(tmp_path)
    with pytest.raises(DataError, match='not a readable JPEG or PNG'):
        read_image(save(tmp_path / 'a.gif', np.zeros((4, 4), np.uint8)))
    with pytest.raises(DataError, match='16-bit'):
        read_image(save(tmp_path / 'a.png', np.zeros((4, 4), np.uint16)))
    with pytest.raises(DataError, match='not a PNG'):
        read_label(save(tmp_path / 'a.jpg', np.zeros((4, 4), np.uint8)))


def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    path.write_bytes(png(60000, 60000, 8, 0, b''))
    for read in (read_image, read_label):
        with pytest.raises(DataError, match='pixels'):
            read(path)
    monkeypatch.setattr(decoding, 'MAX_PIXELS', 99)
    with pytest.raises(DataError, match='10x10 pixels'):
        read_image(save(tmp_path / 'a.jpg', np.zeros((10, 10, 3), np.uint8)))


@pytest.mark.parametrize('read', [read_image, read_label, read_cam, read_prototypes, image_size])
def test_a_missing_file(tmp_path, read):
    with pytest.raises(DataError, match='gone: no such file'):
        read(tmp_path / 'gone')


@pytest.mark.parametrize('read', [read_image, read_label, read_cam, read_prototypes])
def test_a_file_of_gigabytes_is_refused_before_reading(tmp_path, read):
    with open(tmp_path / 'a', 'wb') as out:
        out.truncate(decoding.MAX_BYTES + 1)
    with pytest.raises(DataError, match='bytes'):
        read(tmp_path / 'a')


# Labels

def test_other_kinds_of_png_are_refused_with_what_they_are(tmp_path):
    for name, mode in (('palette', 'P'), ('deep', 'I;16'), ('rgb', 'RGB'), ('rgba', 'RGBA'), ('bit', '1')):
        Image.new(mode, (4, 4)).save(tmp_path / f'{name}.png')
    # Pillow reads a 2-bit grey file as mode L with values 0, 85, 170 and 255.
    (tmp_path / 'two.png').write_bytes(png(4, 1, 2, 0, b'\0\x1b'))
    expected = {'palette': 'palette', 'deep': '16-bit grey', 'rgb': '8-bit RGB', 'rgba': 'RGB with alpha',
                'bit': '1-bit grey', 'two': '2-bit grey'}
    for name, kind in expected.items():
        with pytest.raises(DataError, match=rf'{name}\.png: a .*{kind}.*8-bit single-channel PNG'):
            read_label(tmp_path / f'{name}.png')


def test_the_way_out_of_a_palette_label_works(tmp_path, rng):
    label = rng.integers(0, 21, (6, 5), np.uint8)
    image = Image.fromarray(label)
    image.putpalette(rng.integers(0, 256, 768, np.uint8).tobytes())
    image.save(tmp_path / 'IN.png')
    with pytest.raises(DataError) as caught:
        read_label(tmp_path / 'IN.png')
    command = re.search('python -c "(.*)"`', str(caught.value)).group(1)
    exec(command.replace('IN.png', f'{tmp_path}/IN.png').replace('OUT.png', f'{tmp_path}/OUT.png'))
    np.testing.assert_array_equal(read_label(tmp_path / 'OUT.png'), label)


# Entries

@pytest.fixture
def entry(tmp_path, rng):
    image = save(tmp_path / 'a.png', rng.integers(0, 256, (6, 8, 3), np.uint8))
    semantic = save(tmp_path / 's.png', rng.integers(0, 256, (6, 8), np.uint8))
    instance = save(tmp_path / 'i.png', rng.integers(0, 256, (6, 8), np.uint8))
    return Entry('a', image, semantic, instance, 7, tmp_path / 'list.txt', ('a.png', 's.png', 'i.png'))


def test_read_entry(entry):
    image, semantic, instance = read_entry(entry)
    np.testing.assert_array_equal(image, np.asarray(Image.open(entry.image)))
    np.testing.assert_array_equal(semantic, np.asarray(Image.open(entry.semantic)))
    np.testing.assert_array_equal(instance, np.asarray(Image.open(entry.regions)))
    assert read_entry(entry, with_semantic=False, with_regions=False)[1:] == (None, None)


@pytest.mark.parametrize('field', ['semantic', 'regions'])
def test_size_mismatch_names_line_files_and_sizes(entry, field):
    label = save(getattr(entry, field), np.zeros((8, 6), np.uint8))
    with pytest.raises(DataError) as caught:
        read_entry(entry)
    for part in (f'{entry.list_path}:7: ', str(label), str(entry.image), '6x8', '8x6'):
        assert part in str(caught.value)


def test_damaged_file_of_an_entry_names_the_line(entry):
    entry.regions.write_bytes(b'junk')
    with pytest.raises(DataError, match=r'list\.txt:7: .*i\.png'):
        read_entry(entry)


# CAMs

def pickled(folder, payload):
    path = folder / 'a.npy'
    path.write_bytes(object_npy(payload))
    return path


def test_cams_of_another_size_than_the_image_are_refused(tmp_path):
    np.save(tmp_path / 'a.npy', {4: np.zeros((3, 5), np.float32)}, allow_pickle=True)
    assert read_cam(tmp_path / 'a.npy', size=(3, 5))[4].shape == (3, 5)
    with pytest.raises(DataError, match=r'a\.npy: class 5 is 3x5, its image 5x3'):
        read_cam(tmp_path / 'a.npy', size=(5, 3))


def test_the_size_that_a_header_states(tmp_path, rng):
    for ending in ('jpg', 'png'):
        path = tmp_path / f'a.{ending}'
        Image.fromarray(rng.integers(0, 256, (7, 12, 3), np.uint8)).save(path)
        assert image_size(path) == (7, 12)
        path.write_bytes(path.read_bytes()[:10])
        with pytest.raises(DataError, match=rf'a\.{ending}: not a readable'):
            image_size(path)


@pytest.mark.parametrize('protocol', [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize('dtype', ['<f4', '>f4', '<f8', '<f2'])
def test_cam_of_every_pickle_protocol(tmp_path, rng, protocol, dtype):
    cams = {0: rng.random((5, 7)).astype(dtype), np.int64(19): np.asfortranarray(rng.random((5, 7)).astype(dtype))}
    got = read_cam(pickled(tmp_path, pickle.dumps(as_object(cams), protocol)))
    assert set(got) == {0, 19}
    for key, cam in cams.items():
        assert got[int(key)].dtype == np.float32
        np.testing.assert_array_equal(got[int(key)], cam.astype(np.float32))


@pytest.mark.parametrize('module', [b'numpy.core.multiarray', b'numpy._core.multiarray'])
def test_cam_of_either_numpy_module_name(tmp_path, rng, module):
    cam = rng.random((3, 4)).astype(np.float32)
    payload = pickle.dumps(as_object({3: cam}), 2)
    payload = re.sub(rb'numpy\._?core\.multiarray', module, payload)
    np.testing.assert_array_equal(read_cam(pickled(tmp_path, payload))[3], cam)


def test_cam_written_by_numpy_itself_and_without_objects(tmp_path, rng):
    cam = rng.random((4, 4)).astype(np.float32)
    np.save(tmp_path / 'a.npy', {5: cam})
    np.testing.assert_array_equal(read_cam(tmp_path / 'a.npy', num_classes=7)[5], cam)
    np.save(tmp_path / 'b.npy', {})
    assert read_cam(tmp_path / 'b.npy') == {}


def test_keys_of_cams_without_a_background_are_the_classes(tmp_path, rng):
    cam = rng.random((4, 4)).astype(np.float32)
    np.save(tmp_path / 'a.npy', {0: cam, 6: cam})
    assert read_cam(tmp_path / 'a.npy', num_classes=7, background=False).keys() == {0, 6}
    with pytest.raises(DataError, match='the key 6 is not a class - 1 between 0 and 5'):
        read_cam(tmp_path / 'a.npy', num_classes=7)
    with pytest.raises(DataError, match='the key 6 is not a class between 0 and 5'):
        read_cam(tmp_path / 'a.npy', num_classes=6, background=False)


CAM = np.zeros((2, 2), np.float32)


@pytest.mark.parametrize(('value', 'complaint'), [
    ([1, 2], 'holds a list'), ({'cat': CAM}, "key 'cat'"), ({-1: CAM}, 'key -1'), ({True: CAM}, 'key True'),
    ({20: CAM}, 'key 20 is not a class - 1 between 0 and 19'), ({0: CAM[..., None]}, r'key 0 is float32 \(2, 2, 1\)'),
    ({0: CAM[:0]}, r'\(0, 2\)'), ({0: CAM.astype(np.int64)}, 'key 0 is int64'), ({0: [[0.5]]}, 'key 0 is list'),
    ({0: np.float32(0.5)}, 'key 0 is'), ({0: CAM, 1: np.zeros((2, 3), np.float32)}, 'differ in size'),
    *(({0: CAM + np.float32(value)}, r'outside 0\.\.1') for value in (np.nan, np.inf, 2, -0.1)),
    ({0: np.array([[None]])}, 'only numbers')])
def test_odd_cam(tmp_path, value, complaint):
    np.save(tmp_path / 'a.npy', as_object(value), allow_pickle=True)
    with pytest.raises(DataError, match=rf'a\.npy: .*{complaint}'):
        read_cam(tmp_path / 'a.npy', num_classes=21)


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_hostile_pickle_is_refused_and_not_executed(tmp_path, protocol):
    target = tmp_path / 'owned'
    for evil in (Evil(os.system, f'touch {target}'), Evil(subprocess.check_call, ['touch', str(target)]),
                 Evil(eval, f'open({str(target)!r}, "w")'), Evil(open, str(target), 'w'), Evil(np.load, 'x'),
                 Evil(getattr, 'text', 'upper')):
        for value in (evil, as_object({0: evil}), as_object(evil), {evil: 1}):
            path = pickled(tmp_path, pickle.dumps(value, protocol))
            with pytest.raises(DataError, match=r'a\.npy: not a CAM file: refused'):
                read_cam(path)
    assert not target.exists()


@pytest.mark.parametrize('payload', [
    b'cnumpy\nndarray\n(I5\ntR.',                                        # calls ndarray
    b'\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.',                  # a dotted name
    b'cnumpy.core.multiarray\n_reconstruct\n}S"function"\nI1\nsb.',      # alters a stand-in
    b'Psomething\n.',                                                    # a persistent id
    b'cos\nsystem\n(S"true"\ntR.', b'cnumpy.core.multiarray\nos\n.', b'cnumpy.core.numeric\nos\n.',
    b'ccodecs\nencode\n.', b'c_codecs\ndecode\n.', b'cbuiltins\neval\n.', b'c__builtin__\neval\n.',
])
def test_handwritten_hostile_pickles(tmp_path, payload):
    with pytest.raises(DataError, match='refused'):
        read_cam(pickled(tmp_path, payload))


def test_a_key_whose_text_would_fill_the_memory_is_shortened(tmp_path):
    key = (1,)
    for _ in range(16):  # as text, 400 kB; two dozen more would be a terabyte
        key = (key, key)
    np.save(tmp_path / 'a.npy', as_object({key: np.zeros((2, 2), np.float32)}), allow_pickle=True)
    with pytest.raises(DataError, match='a key of type tuple') as caught:
        read_cam(tmp_path / 'a.npy')
    assert len(str(caught.value)) < 1000


def test_a_memo_of_gigabytes_is_refused(tmp_path):
    np.save(tmp_path / 'a.npy', {0: np.zeros((4, 4), np.float32)})
    header = (tmp_path / 'a.npy').read_bytes()[:128]
    # PROTO 3, an empty list stored at index 2**32 - 1, STOP.
    (tmp_path / 'a.npy').write_bytes(header + b'\x80\x03]r\xff\xff\xff\xff.')
    with pytest.raises(DataError, match=r'a\.npy: not a CAM file'):
        read_cam(tmp_path / 'a.npy')


# Prototypes

def test_prototypes_round_trip(tmp_path, rng):
    prototype = rng.standard_normal((9, 16)).astype(np.float32)
    label = rng.integers(0, 256, 9)
    np.savez(tmp_path / 'a.npz', prototype=prototype, prototype_label=label)
    got, got_label = read_prototypes(tmp_path / 'a.npz', dim=16)
    assert (got.dtype, got_label.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(got, prototype)
    np.testing.assert_array_equal(got_label, label)


PROTOTYPES, OF_CLASS = np.zeros((3, 8), np.float32), np.zeros(3, int)


@pytest.mark.parametrize(('prototypes', 'labels', 'complaint'), [
    (PROTOTYPES, None, 'prototype_label'), (None, OF_CLASS, 'has no array'),
    (PROTOTYPES[0], np.zeros(8, int), r'must be float \(S, D\)'), (PROTOTYPES, np.zeros(4, int), r'\(3, 8\).*\(4,\)'),
    (PROTOTYPES, np.zeros(3), 'integer'), (PROTOTYPES.astype(int), OF_CLASS, 'float'),
    (PROTOTYPES[:, :4], OF_CLASS, 'D = 4, .* has D = 8'), (PROTOTYPES + np.float32(np.nan), OF_CLASS, 'not finite'),
    (np.full((3, 8), 1e300), OF_CLASS, 'not finite'), (PROTOTYPES, np.full(3, 256), r'outside 0\.\.255'),
    (np.array([Evil(print, 'owned')]), OF_CLASS[:1], 'not a readable')])
def test_odd_prototypes(tmp_path, prototypes, labels, complaint):
    arrays = {'prototype': prototypes, 'prototype_label': labels}
    np.savez(tmp_path / 'a.npz', **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=rf'a\.npz: .*{complaint}'):
        read_prototypes(tmp_path / 'a.npz', dim=8)


def test_prototypes_that_grow_beyond_the_limit_are_refused_before_decompression(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, 'MAX_BYTES', 100_000)
    np.savez_compressed(tmp_path / 'a.npz', prototype=np.zeros((9999, 8), np.float32),
                        prototype_label=np.zeros(9999, int))
    assert (tmp_path / 'a.npz').stat().st_size < 10_000
    monkeypatch.setattr(np, 'load', None)
    with pytest.raises(DataError, match=r'a\.npz: .*more than 100000 bytes'):
        read_prototypes(tmp_path / 'a.npz')


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path):
    np.savez(tmp_path / 'a.npz', prototype=PROTOTYPES, prototype_label=OF_CLASS)
    content = (tmp_path / 'a.npz').read_bytes()
    for huge in (b'(3, 8000000)', b'(3, 9' + b'0' * 14 + b')'):
        with zipfile.ZipFile(tmp_path / 'b.npz', 'w') as archive:
            for name in ('prototype.npy', 'prototype_label.npy'):
                data = zipfile.ZipFile(io.BytesIO(content)).read(name)
                archive.writestr(name, data.replace(b'(3, 8)', huge).replace(b' ' * (len(huge) - 6), b'', 1))
        with pytest.raises(DataError, match=r'b\.npz: not a readable'):
            read_prototypes(tmp_path / 'b.npz')


# Damage

def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 0xff]) + content[place + 1:]


@pytest.mark.parametrize(('read', 'save', 'damage'), [
    (read_image, lambda out, noise: Image.fromarray(noise).save(out, 'PNG'), lambda content: []),
    (read_image, lambda out, noise: Image.fromarray(noise).save(out, 'JPEG'), lambda content: []),
    (read_label, lambda out, noise: Image.fromarray(noise[..., 0]).save(out, 'PNG'),
     lambda content: [flipped(content, len(content) // 2)]),
    (read_cam, lambda out, noise: np.save(out, {0: noise[..., 0] / np.float32(255)}),
     lambda content: [content[:128] + pickle.dumps({0: 1}), content[:128] + pickle.dumps(None)]),
    (read_prototypes, lambda out, noise: np.savez(out, prototype=noise[..., 0] / 9, prototype_label=noise[0, :, 0]),
     lambda content: [flipped(content, 150)])])
def test_damaged_files_and_files_of_another_kind(tmp_path, rng, read, save, damage):
    out, plain, path = io.BytesIO(), io.BytesIO(), tmp_path / 'a'
    save(out, rng.integers(0, 256, (40, 40, 3), np.uint8))
    np.save(plain, np.zeros((3, 8)))
    content = out.getvalue()
    path.write_bytes(content)
    read(path)
    for broken in (b'', b'junk', rng.bytes(500), plain.getvalue(), pickle.dumps(Evil(print, 'owned')), *damage(content),
                   *(content[:int(share * len(content))] for share in (0.01, 0.05, 0.5, 0.9))):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=re.escape(str(path))):
            read(path)


def test_tags_of_an_entry_are_those_of_the_label_and_of_the_line(tmp_path, rng):
    (tmp_path / 'list.txt').write_text('a.png - i.png 7,2 tag\n')
    Image.fromarray(rng.integers(0, 256, (3, 5, 3), np.uint8)).save(tmp_path / 'a.png')
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(tmp_path / 'i.png')
    entry, = read_list(tmp_path / 'list.txt', tmp_path)
    _, label, regions = read_entry(entry)
    assert (label.dtype, label.shape, set(label.flat)) == (np.uint8, (3, 5), {254})
    assert regions.shape == (3, 5)
    assert read_entry(entry, with_semantic=False)[1] is None
    label[0, 0] = 1
    np.testing.assert_array_equal(entry_tags(entry, label).nonzero()[0], [1, 2, 7, 254])
    np.testing.assert_array_equal(entry_tags(entry, label, 9), np.isin(range(9), [1, 2, 7]))
