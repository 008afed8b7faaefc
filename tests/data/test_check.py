import numpy as np
import pytest
from exif import save_turned
from PIL import Image
from raw_files import without_its_middle

from spml.data import check
from spml.data.check import WRONG, Fix, check_list, check_sample, parse_fix
from spml.data.lists import read_list
from spml.data.readers import read_image
from spml.errors import ConfigError, DataError

NUM_CLASSES = 3


class DataFolder:
    """Six images with good labels (0, 1, 2 and, as unlabelled, 254) and the list of them."""

    def __init__(self, folder):
        self.rng = np.random.default_rng()
        self.folder, self.list = folder, folder / 'list.txt'
        self.lines = []
        for number in range(6):
            self.save(f'{number}.jpg', self.rng.integers(0, 256, (30, 40, 3)))
            label = self.rng.choice([0, 1, 2, 254, 254], (30, 40))
            label[0, :4] = 0, 1, 2, 254
            self.save(f's{number}.png', label)
            self.save(f'i{number}.png', self.rng.integers(0, 200, (30, 40)))
            self.lines.append(f'{number}.jpg s{number}.png i{number}.png')

    def save(self, name, array):
        Image.fromarray(np.asarray(array).astype(np.uint8)).save(self.folder / name)

    def label(self, number):
        return np.array(Image.open(self.folder / f's{number}.png'))

    def check(self, **options):
        self.list.write_text('\n'.join(self.lines) + '\n')
        return check_list(self.list, self.folder, NUM_CLASSES, **options)

    def found(self, **options):
        """Return (kind, line) of every finding; line 0 is the list as a whole."""
        places = [(finding.name, str(finding.place)) for finding in self.check(**options).findings]
        prefix = f'{self.list}:'
        return {(kind, int(place.removeprefix(prefix)) if place.startswith(prefix) else 0) for kind, place in places}


@pytest.fixture
def data(tmp_path):
    return DataFolder(tmp_path)


@pytest.mark.parametrize('num_workers', [1, 3])
def test_good_data_is_counted(data, num_workers):
    checked = data.check(num_workers=num_workers)
    assert checked.findings == []
    assert not checked.is_wrong
    assert checked.counts.tolist() == [6, 6, 6]
    labels = [data.label(number) for number in range(6)]
    for value in range(256):
        inside = [(label == value).sum() for label in labels]
        assert (checked.pixels[value], checked.images[value]) == (sum(inside), np.count_nonzero(inside))


def test_everything_wrong_is_found_and_not_only_the_first(data):
    (data.folder / '0.jpg').unlink()
    (data.folder / 's0.png').unlink()
    (data.folder / '1.jpg').write_bytes((data.folder / '1.jpg').read_bytes()[:200])
    (data.folder / 'i1.png').write_bytes(b'junk')
    Image.fromarray(data.label(2)).convert('P').save(data.folder / 's2.png')
    Image.fromarray(data.label(3).astype(np.uint16)).save(data.folder / 's3.png')
    data.save('s4.png', data.label(4)[:-1])
    data.save('i4.png', np.arange(900).reshape(30, 30))
    data.lines += ['../x.jpg', 'a b c d', 'late.jpg']
    checked = data.check()
    kinds = [(finding.name, finding.place.removeprefix(f'{data.list}:')) for finding in checked.findings]
    assert sorted(kinds) == sorted([
        ('line', '7'), ('line', '8'), ('missing', '1'), ('missing', '1'), ('missing', '9'), ('corrupt', '2'),
        ('encoding', '2'), ('encoding', '3'), ('encoding', '4'), ('size', '5'), ('size', '5')])
    assert checked.is_wrong
    assert checked.counts.tolist() == [4, 3, 5]
    assert set(dict(kinds)) == set(WRONG)


def test_void_that_seems_to_mean_unlabelled(data):
    for number in range(6):
        label = data.label(number)
        label[label == 254] = 255
        if number != 3:
            label[5:] = 255
        data.save(f's{number}.png', label)
    void_share = (data.label(3) == 255).mean()
    assert void_share < 0.5  # that one may be full truth with wide borders
    assert data.found() == {('void', line) for line in (1, 2, 3, 5, 6)}
    # A label that also has unlabelled pixels tells the two apart.
    label = data.label(0)
    label[3, 3] = 200
    data.save('s0.png', label)
    assert data.found() == {('void', line) for line in (2, 3, 5, 6)}


def test_classes_that_never_occur(data):
    for number in range(6):
        data.save(f's{number}.png', np.where(data.label(number) == 1, 0, data.label(number)))
    checked = data.check()
    finding, = checked.findings
    assert (finding.name, finding.place, finding.text) == ('absent', str(data.list), 'class 1')
    assert not checked.is_wrong


@pytest.mark.parametrize(('value', 'meaning'), [(255, 'void'), (254, 'unlabelled'), (7, 'unlabelled')])
def test_masks_of_0_and_a_value_that_is_no_class(data, value, meaning):
    for number in range(6):
        data.save(f's{number}.png', np.where(data.label(number) == 1, value, 0))
    found = [finding.text for finding in data.check().findings if finding.name == 'absent']
    assert [text.partition(';')[0] for text in found] == ['class 1', 'class 2']
    assert f'{value}, {meaning}, occurs in 6 labels' in found[0]
    assert f'--fix class={value}:1' in found[0]


def test_labels_alone_are_checked_without_images_and_regions(data):
    (data.folder / '0.jpg').unlink()
    (data.folder / 'i1.png').write_bytes(b'junk')
    data.save('s2.png', np.full((30, 40), 254))
    checked = data.check(labels_only=True)
    assert [finding.name for finding in checked.findings] == ['empty']
    assert checked.counts.tolist() == [0, 6, 0]


def test_several_values_that_are_no_class(data):
    label = data.label(2)
    label[:2], label[2:4] = 3, 4
    data.save('s2.png', label)
    finding, = data.check().findings
    assert finding.name == 'values'
    for words in ('3 values', '3 in 1', '4 in 1', '254 in 6'):
        assert words in finding.text


def test_labels_without_a_class_single_regions_and_names_that_come_twice(data):
    data.save('s0.png', np.full((30, 40), 254))
    data.save('s5.png', np.full((30, 40), 255))
    data.save('i2.png', np.full((30, 40), 7))
    (data.folder / 'deep').mkdir()
    data.save('deep/1.jpg', np.zeros((30, 40, 3)))
    data.lines += ['deep/1.jpg s1.png i1.png', data.lines[3]]  # an image may be listed twice, to count more
    assert data.found() == {('empty', 1), ('empty', 6), ('regions', 3), ('name', 7), ('pairs', 7)}


def test_images_with_two_label_maps_and_label_maps_of_two_images(data):
    data.lines += ['0.jpg s0.png i0.png', '1.jpg s2.png i1.png', '3.jpg - i3.png']
    found = [finding for finding in data.check().findings if finding.name == 'pairs']
    assert {str(finding.place) for finding in found} == {f'{data.list}:8'}
    assert [finding.text for finding in found] == [
        f'{data.folder}/1.jpg with {data.folder}/s2.png, and on line 2 with {data.folder}/s1.png',
        f'{data.folder}/s2.png with {data.folder}/1.jpg, and on line 3 with {data.folder}/2.jpg']


def test_images_of_the_validation_list(data, tmp_path):
    (tmp_path / 'link.jpg').symlink_to(tmp_path / '2.jpg')
    val = tmp_path / 'val.txt'
    val.write_text(f'unknown.jpg\nlink.jpg\n{tmp_path}/4.jpg\n')
    assert data.found(val_list=val) == {('overlap', 3), ('overlap', 5)}


def test_lists_that_are_none_or_of_images_alone(data, tmp_path):
    data.lines = [line.split()[0] for line in data.lines]
    checked = data.check()
    assert (checked.findings, checked.counts.tolist()) == ([], [6, 0, 0])
    data.lines = ['']
    with pytest.raises(DataError, match='empty'):
        data.check()
    with pytest.raises(DataError, match='no such file'):
        check_list(tmp_path / 'absent', tmp_path, NUM_CLASSES)


def test_labels_are_checked_as_transformed(data):
    for number in range(6):
        label = data.label(number)
        data.save(f's{number}.png', np.where(label == 254, 255, label) if number else np.full((30, 40), 255))
    fix = Fix(255, 254)
    checked = data.check(transform=lambda entry, label: fix(label))
    assert [finding.name for finding in checked.findings] == ['empty']
    assert checked.pixels[255] == 0
    assert checked.images[254] == 6


def test_fixes():
    assert parse_fix('unlabelled=255:254', 21) == Fix(255, 254)
    assert parse_fix('unlabelled=0:21', 21) == Fix(0, 21)
    assert parse_fix('class=255:20', 21) == Fix(255, 20)
    for text in ('', 'unlabelled', 'unlabelled=255', 'unlabelled=a:b', 'void=255:254', 'unlabelled=256:254',
                 'unlabelled=255:255', 'unlabelled=255:20', 'unlabelled=255:-1', 'unlabelled=255:254:253',
                 'class=255:21', 'class=256:1'):
        with pytest.raises(ConfigError, match='--fix'):
            parse_fix(text, 21)
    label = np.random.default_rng().integers(0, 256, (9, 9)).astype(np.uint8)
    fixed = Fix(255, 254)(label)
    assert fixed.dtype == np.uint8
    assert fixed.tolist() == [[254 if value == 255 else value for value in row] for row in label.tolist()]


def sample_of(data, **options):
    data.list.write_text('\n'.join(data.lines) + '\n')
    entries = read_list(data.list, data.folder, unique_names=False)
    return check_sample(entries, NUM_CLASSES, **{'with_regions': True, **options})


def test_a_sample_of_good_data_is_silent(data, caplog):
    assert sample_of(data) == []
    assert caplog.text == ''


def test_a_sample_raises_what_is_wrong_as_a_run_would(data):
    (data.folder / 's3.png').write_bytes(b'junk')
    with pytest.raises(DataError, match=r'list\.txt:4: .*s3\.png: not a PNG'):
        sample_of(data)


def test_a_sample_reads_only_what_the_run_reads(data):
    (data.folder / 'i3.png').write_bytes(b'junk')
    assert sample_of(data, with_regions=False) == []


def test_a_sample_warns_of_void_as_unlabelled(data, caplog):
    for number in range(6):
        data.save(f's{number}.png', np.where(np.arange(40) < 5, data.label(number) % 3, 255))
    sample_of(data)
    assert '6 of 6 labels looked at' in caplog.text
    assert '--fix unlabelled=255:254' in caplog.text


@pytest.mark.parametrize('tenth', [0, 4, 9])
def test_a_sample_is_taken_from_all_over_a_long_list(data, monkeypatch, tenth):
    """Of 3,000 lines, 300 one after the other are bad; a few dozen are read."""
    read = []
    monkeypatch.setattr(check, 'read_image', lambda path, *told: read.append(path) or read_image(path, *told))
    data.lines = data.lines[:1] * 3000
    data.lines[300 * tenth:300 * (tenth + 1)] = ['0.jpg absent.png i0.png'] * 300
    with pytest.raises(DataError, match='absent'):
        sample_of(data)
    assert 20 <= len(read) <= 50


def test_labelled_images_that_are_stored_turned(data):
    picture = data.rng.integers(0, 256, (30, 40, 3), np.uint8)
    save_turned(data.folder / '2.jpg', picture, 3)
    save_turned(data.folder / '4.jpg', picture, 6)
    assert data.found() == {('turned', 3), ('turned', 5)}
    assert '2.jpg: EXIF orientation 3' in str(data.check().findings[0])
    data.lines = [line.split()[0] for line in data.lines]
    assert data.found() == set()  # photos alone are only predicted


def test_a_sample_with_turned_images_is_warned_of(data, caplog):
    save_turned(data.folder / '2.jpg', data.rng.integers(0, 256, (30, 40, 3), np.uint8), 3)
    data.check()
    check_sample(read_list(data.list, data.folder), NUM_CLASSES, with_regions=True)
    assert '1 of 6 labels looked at: labelled images that are stored turned' in caplog.text


def test_tags_count_as_images_of_a_class_and_need_no_label_map(data):
    for number in range(6):
        data.save(f's{number}.png', np.where(data.label(number) == 2, 254, data.label(number)))
    data.lines[0] = '0.jpg - i0.png 2 tag'
    data.lines[1] = '1.jpg s1.png i1.png 1,2 scribble'
    checked = data.check()
    assert checked.findings == []
    assert checked.counts.tolist() == [6, 5, 6]
    assert (checked.pixels[2], checked.images[:3].tolist()) == (0, [5, 5, 2])


def test_an_image_without_label_map_and_tags_and_a_tag_beyond_the_classes_are_found(data):
    data.save('s3.png', np.full((30, 40), 254))
    data.lines[0], data.lines[1], data.lines[3] = '0.jpg - i0.png', '1.jpg s1.png i1.png 3', '3.jpg s3.png i3.png 1'
    assert data.found() == {('empty', 1), ('line', 2)}


def test_an_image_of_which_the_middle_is_lost_is_wrong_and_does_not_stop_a_training(data, caplog):
    path = data.folder / '2.jpg'
    Image.open(path).save(path, quality=100, subsampling=0)  # little but pixels
    without_its_middle(path)
    assert data.found() == {('corrupt', 3)}
    entries = read_list(data.list, data.folder)
    assert check_sample(entries, NUM_CLASSES, with_regions=True) == []
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]


def test_tags_that_a_mask_contradicts_are_named(data):
    for number in range(6):
        data.save(f's{number}.png', np.where(data.label(number) == 2, 254, data.label(number)))
    data.lines[0], data.lines[1] = '0.jpg s0.png i0.png 1,2 mask', '1.jpg s1.png i1.png 1,2 scribble'
    assert data.found() == {('tags', 1)}
    assert 's0.png: no pixel is of 2' in str(data.check().findings[0])
