import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from spml.utils.files import atomic_path, place_file, remove_abandoned
from spml.utils.formats import read_json_lines, write_json, write_npz, write_png, write_text


def test_a_complete_file_appears_under_its_name(tmp_path):
    with atomic_path(tmp_path / 'new' / 'folder' / 'x.txt') as temporary:
        assert temporary.parent == tmp_path / 'new' / 'folder'
        temporary.write_text('all')
        assert not (tmp_path / 'new' / 'folder' / 'x.txt').exists()
    assert [p.name for p in (tmp_path / 'new' / 'folder').iterdir()] == ['x.txt']
    assert (tmp_path / 'new' / 'folder' / 'x.txt').read_text() == 'all'


@pytest.mark.parametrize('error', [ValueError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize('before', [None, 'old'])
def test_a_failure_leaves_the_old_file_or_none(tmp_path, error, before):
    path = tmp_path / 'x.txt'
    if before is not None:
        path.write_text(before)

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text('half')
            raise error

    with pytest.raises(error):
        write_half()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == ([('x.txt', 'old')] if before else [])


def test_a_failing_rename_leaves_nothing_behind(tmp_path):
    (tmp_path / 'x').mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / 'x', 'text')
    assert [p.name for p in tmp_path.iterdir()] == ['x']


def test_a_failing_write_names_the_file_it_was_for(tmp_path):
    def fill(path):
        with atomic_path(path) as temporary, open('/dev/full', 'w') as full:
            temporary.touch()
            full.write('x' * 100000)

    with pytest.raises(OSError, match='No space left') as caught:
        fill(tmp_path / 'x.txt')
    assert caught.value.filename == str(tmp_path / 'x.txt')
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match=str(tmp_path / 'file')):
        write_text(tmp_path / 'file' / 'x.txt', 'text')
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / 'x'):
        (tmp_path / 'something else').read_text()
    assert caught.value.filename == str(tmp_path / 'something else')


def test_a_durable_file_is_synchronised_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, 'fsync', lambda handle: done.append(os.readlink(f'/proc/self/fd/{handle}')))
    monkeypatch.setattr(os, 'replace', lambda source, target, replace=os.replace: (
        done.append('replace'), replace(source, target)))
    with atomic_path(tmp_path / 'x.txt', durable=True) as temporary:
        temporary.write_text('all')
    assert done == [str(temporary), 'replace', str(tmp_path)]
    write_text(tmp_path / 'y.txt', 'all')
    assert done[3:] == ['replace']


@pytest.mark.parametrize('reaped', [True, False], ids=['reaped', 'zombie'])
def test_only_temporary_files_of_dead_processes_are_abandoned(tmp_path, reaped):
    dead = subprocess.Popen([sys.executable, '-c', ''])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
    (tmp_path / 'deep').mkdir()
    with atomic_path(tmp_path / 'deep' / 'x') as ours:
        left = ours.with_name(ours.name.replace(f'-{os.getpid()}-', f'-{dead.pid}-'))
        elsewhere = left.with_name('.othermachine' + left.name[left.name.index('-'):])
        others = [left.with_name(name) for name in ('.x.tmp', '.-1-a.tmp', 'x.tmp', '.hidden', '.a-b-c.tmp')]
        for path in (left, elsewhere, *others):
            path.touch()
        remove_abandoned(tmp_path)
        assert all(path.exists() for path in (ours, elsewhere, *others))
    assert not left.exists()
    remove_abandoned(tmp_path / 'nowhere')
    dead.wait()


def test_files_have_the_rights_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / 'ours', 'text')
        (tmp_path / 'plain').write_text('text')
    finally:
        os.umask(before)
    ours, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ('ours', 'plain'))
    assert ours == plain == 0o640


def test_what_is_written_reads_back(tmp_path, rng):
    write_text(tmp_path / 'a.txt', 'grün\n')
    assert (tmp_path / 'a.txt').read_bytes() == 'grün\n'.encode()
    value = {'a': [1, 2.5, None], 'b': {'c': 'd'}}
    write_json(str(tmp_path / 'a.json'), value)
    assert json.loads((tmp_path / 'a.json').read_text()) == value
    for name, array in (('grey', rng.integers(0, 256, (5, 7)).astype(np.uint8)),
                        ('deep', rng.integers(0, 65536, (5, 7)).astype(np.uint16)),
                        ('colour', rng.integers(0, 256, (5, 7, 3)).astype(np.uint8))):
        write_png(tmp_path / f'{name}.png', array)
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / f'{name}.png')), array)
    write_npz(tmp_path / 'x.npz', one=np.arange(3), two=rng.normal(size=(2, 2)).astype(np.float32))
    with np.load(tmp_path / 'x.npz') as arrays:
        assert set(arrays) == {'one', 'two'}
        assert arrays['two'].dtype == np.float32


def test_json_lines_are_read_up_to_one_cut_short(tmp_path):
    path = tmp_path / 'lines.jsonl'
    assert read_json_lines(path) == []
    for tail in ('{"b": [1', '[1]', '\ufffd'):
        path.write_text('{"a": 1}\n{"a": 0.1}\n' + tail + '\n{"a": 3}\n')
        assert read_json_lines(path) == [{'a': 1}, {'a': 0.1}]


@pytest.mark.parametrize('links', [True, False])
def test_a_file_is_placed_by_link_or_copy_and_the_original_left_as_it_was(tmp_path, monkeypatch, links):
    def refuse(*_):
        raise OSError(18, 'Invalid cross-device link')

    if not links:
        monkeypatch.setattr(os, 'link', refuse)
    source, path = tmp_path / 'source.jpg', tmp_path / 'new' / 'folder' / 'placed.jpg'
    source.write_bytes(b'content')
    source.chmod(0o400)
    (tmp_path / 'alias.jpg').symlink_to(source)
    place_file(tmp_path / 'alias.jpg', path)
    assert path.read_bytes() == b'content'
    assert not path.is_symlink()
    assert path.samefile(source) == links
    assert stat.S_IMODE(source.stat().st_mode) == 0o400
    before = path.stat()
    place_file(source, path)
    assert path.stat().st_ino == before.st_ino
    other = tmp_path / 'other.jpg'  # the source is replaced by one of the same length, and older
    other.write_bytes(b'CONTENT')
    os.utime(other, (0, 0))
    place_file(other, path)
    assert path.read_bytes() == b'CONTENT'
    assert source.read_bytes() == b'content'
    assert [entry.name for entry in path.parent.iterdir()] == ['placed.jpg']
    with pytest.raises(FileNotFoundError):
        place_file(tmp_path / 'none.jpg', tmp_path / 'placed.jpg')
