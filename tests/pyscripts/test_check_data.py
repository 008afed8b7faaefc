import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from spml import config as configuration
from spml.data.readers import read_label


@pytest.fixture
def check(tmp_path, small_data, call_script):
    """Run the script on the small data set; returns what it prints, given its status, or of status 2 its error."""
    def run(expected, *more, data_list=small_data.list, num_classes=3):
        classes = [] if num_classes is None else ['--num_classes', num_classes]
        status, out, err = call_script('check_data', '--data_dir', small_data.folder, '--data_list', data_list,
                                       '--save_dir', tmp_path / 'out', *classes, *more)
        assert status == expected, out + err
        if status == 2:
            assert err.startswith('error: ')
            assert err.count('\n') == 1
        return err if status == 2 else out
    return run


def label_path(small_data, name):
    return small_data.folder / 'semantic' / f'{name}.png'


def test_good_data_is_status_0_and_its_balance_is_printed(check, small_data, tmp_path):
    out = check(0)
    assert 'nothing is wrong' in out
    assert 'read 3 images, 3 labels and 3 over-segmentations' in out
    assert (tmp_path / 'out' / 'findings.txt').read_text() == 'nothing is wrong\n'
    labels = [read_label(label_path(small_data, name)) for name in small_data.names]
    pixels = [sum((label == value).sum() for label in labels) for value in range(3)]
    lines = out.splitlines()
    for value in range(3):
        line = next(line.split() for line in lines if line.startswith(f'  {value} '))
        assert abs(float(line[2]) - 100 * pixels[value] / sum(pixels)) < 0.0051  # two digits are printed
        assert int(line[4]) == sum((label == value).any() for label in labels)


def test_wrong_files_are_status_1_and_all_are_written(check, small_data, tmp_path):
    for name in small_data.names:
        label_path(small_data, name).write_bytes(b'junk')
    (small_data.folder / 'image' / 'a.png').unlink()
    out = check(1)
    written = (tmp_path / 'out' / 'findings.txt').read_text()
    for name in small_data.names:
        assert str(label_path(small_data, name)) in written
    assert 'wrong: files that are missing: 1' in out
    check(1, '--lenient')


def test_a_long_report_is_shortened_on_the_screen_alone(check, small_data, tmp_path):
    small_data.list.write_text('absent.jpg\n' * 50)
    assert '... and 45 more' in check(1)
    assert (tmp_path / 'out' / 'findings.txt').read_text().count('absent.jpg') == 50


def test_suspicious_is_status_1_unless_lenient(check, small_data, tmp_path):
    val = tmp_path / 'val.txt'
    val.write_text('image/b.png\n')
    check(1, '--val_list', val)
    check(0, '--val_list', val, '--lenient')


def void_for_unlabelled(small_data):
    for name in small_data.names:
        label = read_label(label_path(small_data, name))
        label[label == 200] = 255
        label[8:] = 255
        label[0, :3] = 0, 1, 2
        Image.fromarray(label).save(label_path(small_data, name))


def test_the_fix_writes_corrected_copies_and_their_list(check, small_data, tmp_path):
    void_for_unlabelled(small_data)
    before = {name: label_path(small_data, name).read_bytes() for name in small_data.names}
    assert '--fix unlabelled=255:254' in check(1)
    check(0, '--fix', 'unlabelled=255:254')
    assert {name: label_path(small_data, name).read_bytes() for name in small_data.names} == before
    corrected = tmp_path / 'out' / small_data.list.name
    check(0, data_list=corrected)
    for name, line in zip(small_data.names, corrected.read_text().splitlines(), strict=True):
        image, label, instance = line.split()
        assert (image, instance) == (f'image/{name}.png', f'instance/{name}.png')
        assert pathlib.Path(label).is_relative_to(tmp_path / 'out')
        original = read_label(label_path(small_data, name))
        np.testing.assert_array_equal(read_label(label), np.where(original == 255, 254, original))


def test_the_list_of_corrected_labels_does_not_replace_its_own(check, small_data):
    before = small_data.list.read_text()
    text = check(2, '--fix', 'unlabelled=255:254', '--save_dir', small_data.list.parent)
    assert f'{small_data.list}: the new list would be written over the one it is made from' in text
    assert small_data.list.read_text() == before


def test_what_cannot_be_fixed_stays_in_the_list_and_in_the_report(check, small_data, tmp_path):
    void_for_unlabelled(small_data)
    label_path(small_data, 'b').write_bytes(b'junk')
    assert 'semantic/b.png' in check(1, '--fix', 'unlabelled=255:254')
    lines = (tmp_path / 'out' / small_data.list.name).read_text().splitlines()
    assert lines[1].split()[1] == str(label_path(small_data, 'b'))


@pytest.mark.parametrize(('more', 'named'), [
    (['--fix', 'unlabelled=255:1'], '3..254'), (['--fix', 'void'], 'unlabelled=OLD:NEW'),
    (['--class_names', 'a,b'], '--class_names')])
def test_wrong_options_are_one_line(check, more, named):
    assert named in check(2, *more)


def test_a_list_without_labels_cannot_be_fixed(check, small_data):
    assert f'{small_data.lists[1]}:1' in check(2, '--fix', 'unlabelled=255:254', data_list=small_data.lists[1])


def test_classes_come_from_a_configuration(check, small_config, tmp_path, small_data):
    path = tmp_path / 'config.yaml'
    path.write_text(configuration.dump(small_config('dataset.class_names=sky,cat,dog')))
    assert 'cat' in check(0, '--cfg_path', path, num_classes=None)
    assert '--num_classes' in check(2, num_classes=None)
    # What its training would refuse, the check refuses.
    shutil.copy(label_path(small_data, 'a'), tmp_path / 'a.png')
    small_data.list.write_text(f'image/a.png {tmp_path}/a.png instance/a.png\n')
    assert 'allow_absolute_paths' in check(1, '--cfg_path', path, '--set', 'dataset.allow_absolute_paths=false',
                                           num_classes=None)
