import os
import shutil

import numpy as np
import pytest
from originals import indexed, read, train_list, voc_colour, write_mat, write_palette, write_rgb
from PIL import Image
from scipy.io import savemat

from spml.data.readers import read_colour_label
from spml.errors import DataError
from spml.prepare import voc12
from spml.prepare.voc12 import read_sbd_truth, read_splits, read_voc_truth

SCRIBBLE, CAM = 'VOC2012/scribble', 'VOC2012/cam'
FOLDERS = {'scribble': f'{SCRIBBLE}/dilate_3', 'scribble_0.8': f'{SCRIBBLE}/dilate_3_0.8',
           'scribble_0.5': f'{SCRIBBLE}/dilate_3_0.5', 'scribble_0.3': f'{SCRIBBLE}/dilate_3_0.3',
           'point': f'{SCRIBBLE}/dilate_6_0.0', 'tag': f'{CAM}/seam_a6_th0.2', 'box': f'{CAM}/seambox_a6_th0.5',
           'full': 'VOC2012/segcls'}


@pytest.fixture
def prepare(works, originals):
    def run(*more):
        return works('prepare_voc12', '--voc', originals.voc, '--sbd', originals.sbd, '--out', originals.out,
                     '--num_workers', 0, *more)
    return run


def test_every_file_is_exact_and_what_is_not_train_plus_is_said(prepare, originals, caplog):
    out, printed = originals.out, prepare()
    for words in (f'5 images with their truth and instances written: {out / "VOC2012"}\n', 'train+: 4 images'):
        assert words in printed
    for words in ('WARNING: train+ has 4 images, not 10582', 'WARNING: val has 1 images, not 1449'):
        assert words in caplog.text
    # VOC's truth where there is one, SBD's elsewhere.
    truth, instances = originals.sbd_truth | originals.truth, originals.sbd_instances | originals.instances
    for folder, labels in (('VOC2012/segcls', truth), ('VOC2012/seginst', instances),
                           ('sbd/dataset/clsimg', originals.sbd_truth)):
        assert {path.stem for path in (out / folder).iterdir()} == set(labels)
        for name, label in labels.items():
            np.testing.assert_array_equal(read(out / folder / f'{name}.png'), label)
    images = {name: originals.voc / 'JPEGImages' / f'{name}.jpg' for name in ('07_a', '07_b', '07_c', '08_d')}
    images['08_e'] = originals.sbd / 'img' / '08_e.jpg'
    assert {path.stem for path in (out / 'VOC2012/JPEGImages').iterdir()} == set(images)
    for name, path in images.items():
        assert (out / 'VOC2012/JPEGImages' / f'{name}.jpg').read_bytes() == path.read_bytes()


def test_lists_of_every_split_and_kind(prepare, originals):
    test = originals.voc.parent / 'test'
    for folder in ('ImageSets/Segmentation', 'JPEGImages'):
        (test / folder).mkdir(parents=True)
    shutil.copy(originals.voc / 'JPEGImages' / '07_a.jpg', test / 'JPEGImages' / '09_t.jpg')
    originals.split(test / 'ImageSets' / 'Segmentation' / 'test.txt', ['09_t'])
    prepare('--voc_test', test)
    lists = originals.out / 'lists'
    for kind, folder in FOLDERS.items():
        assert (lists / f'train_{kind}.txt').read_text() == train_list(folder)
    assert (lists / 'val.txt').read_text() == (
        'VOC2012/JPEGImages/07_c.jpg VOC2012/segcls/07_c.png VOC2012/segcls/07_c.png\n')
    assert (lists / 'test.txt').read_text() == 'VOC2012-test/JPEGImages/09_t.jpg\n'
    assert {path.stem for path in lists.iterdir()} == {*(f'train_{kind}' for kind in FOLDERS), 'val', 'test'}
    assert (originals.out / 'VOC2012-test/JPEGImages/09_t.jpg').is_file()


def test_what_is_replaced_is_made_again_and_nothing_else(prepare, originals, rng):
    def again(count):
        made = {path: path.stat().st_ino for path in (originals.out / 'VOC2012').glob('*/*.*')}
        assert f'({5 - count} were there already)' in prepare()
        return {path.name for path, inode in made.items() if path.stat().st_ino != inode}

    prepare()
    assert again(0) == set()
    originals.voc_labels('07_b', rng)
    originals.sbd_labels('08_d', rng)
    photo = originals.voc / 'JPEGImages/07_c.jpg'
    photo.unlink()
    originals.image('07_c', rng, photo.parent)
    for path in (originals.voc / 'SegmentationClass/07_b.png', originals.sbd / 'cls/08_d.mat', photo):
        os.utime(path, (0, 0))
    assert again(3) == {'07_b.png', '08_d.png', '07_c.jpg', '07_c.png'}
    np.testing.assert_array_equal(read(originals.out / 'VOC2012/segcls/07_b.png'), originals.truth['07_b'])
    np.testing.assert_array_equal(read(originals.out / 'sbd/dataset/clsimg/08_d.png'), originals.sbd_truth['08_d'])
    assert (originals.out / 'VOC2012/JPEGImages/07_c.jpg').read_bytes() == photo.read_bytes()
    assert again(0) == set()


def test_train_plus_has_its_size_without_a_warning(tmp_path, originals, caplog):
    """The owners' numbers: VOC 1464 + 1449, SBD 8498 + 2857, all of which but 9118 train and val images overlap."""
    voc, sbd = originals.voc, originals.sbd
    names = [f'n{index}' for index in range(12031)]
    originals.split(voc / 'ImageSets/Segmentation/val.txt', names[:1449])
    originals.split(voc / 'ImageSets/Segmentation/train.txt', names[1449:2913])
    of_sbd = names[676:]  # all but some that VOC has alone
    originals.split(sbd / 'train.txt', of_sbd[:8498])
    originals.split(sbd / 'val.txt', of_sbd[8498:])
    splits = read_splits(voc, sbd)
    assert (len(splits['train']), len(splits['val'])) == (10582, 1449)
    voc12._report_splits({**splits, 'test': []}, tmp_path)
    assert not caplog.records


def test_every_id_and_void_come_out_of_all_three_forms(tmp_path, rng):
    label = rng.permutation(np.resize([*range(21), 255], 600)).reshape(20, 30)
    order = rng.permutation(256)
    write_palette(tmp_path / 'a.png', label)
    write_palette(tmp_path / 'b.png', label, order)
    write_rgb(tmp_path / 'c.png', label)
    Image.fromarray(label.astype(np.uint8)).save(tmp_path / 'd.png')
    assert Image.open(tmp_path / 'a.png').mode == 'P'
    for name in 'abcd':
        found = read_voc_truth(tmp_path / f'{name}.png')
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, label)


def test_palettes_of_fewer_bits(tmp_path):
    label = np.random.default_rng().integers(0, 4, (9, 13))
    indexed(label, map(voc_colour, range(4))).save(tmp_path / 'a.png', bits=2)
    assert (tmp_path / 'a.png').read_bytes()[24] == 2
    np.testing.assert_array_equal(read_colour_label(tmp_path / 'a.png'), label)


def test_a_strange_colour_is_named(tmp_path):
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[2, 5] = 1, 2, 3
    Image.fromarray(colours).save(tmp_path / 'a.png')
    with pytest.raises(DataError, match=r'a\.png: .* x = 5, y = 2 .*\(1, 2, 3\)'):
        read_colour_label(tmp_path / 'a.png')


@pytest.mark.parametrize('value', [21, 254])
def test_ids_beyond_the_classes_are_refused(tmp_path, value):
    write_palette(tmp_path / 'a.png', np.full((3, 3), value))
    with pytest.raises(DataError, match=rf'a\.png: holds the class {value}'):
        read_voc_truth(tmp_path / 'a.png')
    write_mat(tmp_path / 'a.mat', 'GTcls', np.full((3, 3), value, np.uint8))
    with pytest.raises(DataError, match=rf'a\.mat: holds the class {value}'):
        read_sbd_truth(tmp_path / 'a.mat')


def save(image):
    return lambda path: image.save(path, format='PNG')


def cut_off(write, *arguments, kept):
    """A function that writes a file and leaves so many bytes of it."""
    def write_part(path):
        write(path, *arguments)
        path.write_bytes(path.read_bytes()[:kept])
    return write_part


LABEL = (np.arange(2500, dtype=np.uint16).reshape(50, 50) % 21).astype(np.uint8)


@pytest.mark.parametrize(('read_truth', 'name', 'write'), [
    (read_colour_label, 'a.png', save(Image.fromarray(LABEL.astype(np.uint16)))),
    (read_colour_label, 'a.png', save(Image.new('RGBA', (8, 8)))),
    (read_colour_label, 'a.png', lambda path: Image.new('RGB', (8, 8)).save(path, format='JPEG')),
    (read_colour_label, 'a.png', cut_off(write_palette, LABEL, kept=850)),
    (read_colour_label, 'a.png', lambda path: None),
    (read_sbd_truth, 'a.mat', lambda path: path.write_text('no matrix')),
    (read_sbd_truth, 'a.mat', lambda path: write_mat(path, 'GTinst', LABEL)),
    (read_sbd_truth, 'a.mat', lambda path: write_mat(path, 'GTcls', LABEL + 0.5)),
    (read_sbd_truth, 'a.mat', lambda path: savemat(path, {'GTcls': LABEL})),
    (read_sbd_truth, 'a.mat', cut_off(write_mat, 'GTcls', LABEL, kept=700)),
    (read_sbd_truth, 'a.mat', lambda path: None)])
def test_other_files_are_no_truth(tmp_path, read_truth, name, write):
    write(tmp_path / name)
    with pytest.raises(DataError, match=rf'^.*{name}: .*\Z'):  # one line
        read_truth(tmp_path / name)


def test_mistakes_are_one_line(fails, originals):
    def check(*naming, **changed):
        paths = {'voc': originals.voc, 'sbd': originals.sbd, 'out': originals.out, **changed}
        fails('prepare_voc12', *(text for name, path in paths.items() for text in (f'--{name}', path)),
              '--num_workers', 0, naming=naming)

    check('nowhere', '--voc', voc='nowhere')
    check('train.txt', '--sbd', sbd=originals.voc)
    check('VOCdevkit/VOC2012', voc_test=originals.sbd)
    truth = originals.voc / 'SegmentationClass' / '07_b.png'
    kept = truth.read_bytes()
    write_palette(truth, np.zeros((5, 7), int))
    check(truth, '7x5')
    truth.unlink()
    check(truth, '--voc')
    truth.write_bytes(kept)
    image = originals.sbd / 'img' / '08_e.jpg'
    image.unlink()
    check(image)
    originals.split(originals.sbd / 'train.txt', ['08_d', '../08_e'])
    check(originals.sbd / 'train.txt', '../08_e')
    originals.split(originals.sbd / 'train.txt', ['08_d 1'])
    check(originals.sbd / 'train.txt', '08_d 1')


class FakeSource:
    """Replaces torchvision's data sets: records the call, and writes the split file or fails."""

    filename, url = 'fake.tar', 'https://example.org/fake.tar'
    calls, error, sign = [], None, ''

    def __init__(self, root, **options):
        type(self).calls.append((root, options))
        if self.error:
            raise self.error
        (root / self.sign).parent.mkdir(parents=True, exist_ok=True)
        (root / self.sign).touch()


def test_downloads_are_torchvisions(fails, works, originals, monkeypatch):
    voc_type, sbd_type = (type(name, (FakeSource,), {'calls': [], 'sign': sign}) for name, sign in (
        ('Voc', 'VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt'), ('Sbd', 'val.txt')))
    monkeypatch.setattr('torchvision.datasets.VOCSegmentation', voc_type)
    monkeypatch.setattr('torchvision.datasets.SBDataset', sbd_type)
    arguments = ['--voc', originals.voc, '--sbd', originals.sbd, '--out', originals.out, '--num_workers', 0,
                 '--download']
    works('prepare_voc12', *arguments)
    assert voc_type.calls + sbd_type.calls == []  # both are there
    fails('prepare_voc12', *arguments[2:], '--voc', originals.voc.parent, naming=['VOCdevkit/VOC2012'])

    shutil.rmtree(originals.voc)
    voc_type.error = OSError('no route')
    fails('prepare_voc12', *arguments, naming=['no route', 'VOCtrainval_11-May-2012.tar', originals.voc.parents[1]])
    voc_type.error = None
    (originals.voc / 'ImageSets/Segmentation').mkdir(parents=True)
    (originals.voc / 'ImageSets/Segmentation/val.txt').touch()  # unpacked in part: begun again
    (originals.sbd / 'val.txt').unlink()
    fails('prepare_voc12', *arguments, naming=['train.txt'])
    assert len(voc_type.calls) == 2
    root, options = voc_type.calls[-1]
    assert root == originals.voc.parents[1]
    assert options == {'year': '2012', 'image_set': 'trainval', 'download': True}
    assert sbd_type.calls == [(originals.sbd, {'image_set': 'train', 'mode': 'segmentation', 'download': True})]
    fails('prepare_voc12', *arguments, naming=['train.txt'])
    assert len(voc_type.calls) + len(sbd_type.calls) == 3
