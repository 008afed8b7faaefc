import itertools
import re

import numpy as np
import pytest
from PIL import Image

from spml.data.lists import check_files, digest, format_list, located, parse_list, read_list
from spml.data.readers import read_tags, sharing_pairs
from spml.errors import DataError, WrongEncodingError


@pytest.fixture
def write(tmp_path):
    def write(text, encoding='utf-8'):
        path = tmp_path / 'train.txt'
        path.write_bytes(text.encode(encoding))
        return path
    return write


def test_all_three_forms_blank_lines_and_absolute_paths(write, tmp_path):
    path = write(f'im/a.jpg  sem/a.png\tinst/a.png\n\n   \nim/b.c.jpg sem/b.png\r\n{tmp_path}/else/d.png')
    first, second, third = read_list(path, tmp_path)
    assert (first.name, second.name, third.name) == ('a', 'b.c', 'd')
    assert (first.line, second.line, third.line) == (1, 4, 5)
    assert first.image == tmp_path / 'im/a.jpg'
    assert first.semantic == tmp_path / 'sem/a.png'
    assert first.regions == tmp_path / 'inst/a.png'
    assert first.fields == ('im/a.jpg', 'sem/a.png', 'inst/a.png')
    assert (second.semantic, second.regions) == (tmp_path / 'sem/b.png', None)
    assert (third.image, third.semantic) == (tmp_path / 'else/d.png', None)
    assert third.list_path == path


def test_byte_order_mark_is_no_part_of_the_path(write, tmp_path):
    assert read_list(write('a.jpg\n', 'utf-8-sig'), tmp_path)[0].fields == ('a.jpg',)


@pytest.mark.parametrize(('line', 'fields'), [('a b', (3,)), ('a', (2, 3)), ('a b c', (1,))])
def test_wrong_number_of_fields_names_file_and_line(write, tmp_path, line, fields):
    path = write(' '.join('xyz'[:fields[0]]) + f'\n\n{line}\n')
    with pytest.raises(DataError, match=re.escape(f'{path}:3: {len(line.split())} fields')):
        read_list(path, tmp_path, fields)


@pytest.mark.parametrize(('text', 'words'), [
    ('', ': the list is empty'), ('\n \n\t\n', ': the list is empty'), ('a\0b\n', ':1: a NUL byte'),
    ('\xff\xd8\xff\xe0', ': not a UTF-8 text file'), ('x\n\na b c 1 tag x\n', ':3: 6 fields'),
    ('x\n\na b c d\n', ":3: the tags 'd' must be"), ('a b c 1, tag\n', ':1: the tags'),
    ('a b c 254\n', ':1: the tag 254'),
    ('a b c 1 tags\n', ":1: 'tags' is not a kind of label; they are mask, scribble, point, box, tag"),
    ('x/a.jpg\nx/b.jpg\ny/a.png\n', ':3: the image name a is on line 1 already'),
    *((f'ok.jpg\n{path}\n', ':2: .* leads out of the data folder')
      for path in ('../a.jpg', 'x/../../a.jpg', '..', './../a'))])
def test_lists_that_are_refused(write, tmp_path, text, words):
    path = write(text, 'latin1')
    with pytest.raises(DataError, match=re.escape(str(path)) + words):
        read_list(path, tmp_path)


def test_missing_list_and_missing_folder(write, tmp_path):
    with pytest.raises(DataError, match=r'nowhere\.txt: no such file'):
        read_list(tmp_path / 'nowhere.txt', tmp_path)
    with pytest.raises(DataError, match='nodata: no such folder'):
        read_list(write('a\n'), tmp_path / 'nodata')
    with pytest.raises(DataError, match='cannot read the file'):
        read_list(tmp_path, tmp_path)


def test_parent_steps_through_a_link_stay_in_the_data_folder(write, tmp_path):
    (tmp_path / 'outside' / 'deep').mkdir(parents=True)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'link').symlink_to(tmp_path / 'outside' / 'deep')
    entry, = read_list(write('link/../a.jpg\n'), tmp_path / 'data')
    assert entry.image == tmp_path / 'data' / 'a.jpg'


def test_absolute_paths_can_be_forbidden(write, tmp_path):
    path = write(f'a.jpg a.png\nb.jpg {tmp_path}/b.png\n')
    assert len(read_list(path, tmp_path)) == 2
    with pytest.raises(DataError, match=r'train\.txt:2: /.*b\.png is an absolute path.*allow_absolute_paths'):
        read_list(path, tmp_path, allow_absolute=False)
    assert len(read_list(write('a.jpg a.png\n'), tmp_path, allow_absolute=False)) == 1


def test_parsing_goes_on_after_wrong_lines(write, tmp_path):
    entries, errors = parse_list(write('a.jpg\n../b.jpg\nc d e f\n\ng.jpg\n'), tmp_path)
    assert [(entry.name, entry.line) for entry in entries] == [('a', 1), ('g', 5)]
    assert [str(error).split(': ')[0].rsplit(':')[-1] for error in errors] == ['2', '3']


def test_a_digest_stands_for_the_lines_in_their_order(write, tmp_path):
    texts = ['a.jpg\nb.jpg\n', 'b.jpg\na.jpg\n', 'a.jpg b.jpg\n', 'a.jpg\nb.jpgc\n', 'a.jpg\n']
    assert len({digest(read_list(write(text), tmp_path)) for text in texts}) == len(texts)
    assert digest(read_list(write(texts[0]), tmp_path)) == digest(read_list(write('\na.jpg \nb.jpg'), tmp_path))


def test_inner_parent_steps_dotted_names_and_on_request_names_twice_are_allowed(write, tmp_path):
    assert len(read_list(write('x/../a.jpg\n..b/c.jpg\n'), tmp_path)) == 2
    path = write('x/a.jpg\nx/b.jpg\ny/a.png\n')
    assert [entry.name for entry in read_list(path, tmp_path, unique_names=False)] == ['a', 'b', 'a']


def test_check_files_counts_and_names_the_missing(write, tmp_path):
    (tmp_path / 'a.jpg').touch()
    (tmp_path / 'a.png').touch()
    check_files(read_list(write('a.jpg a.png\n'), tmp_path))
    text = 'a.jpg a.png gone1.png\ngone2.jpg a.png gone3.png\ngone4.jpg a.png gone1.png\n'
    with pytest.raises(DataError, match=r'train\.txt:1: no such file: .*/gone1.*gone2\.jpg \(line 2\).*4 missing in'):
        check_files(read_list(write(text), tmp_path))


def test_format_list_replaces_the_label_column(write, tmp_path, monkeypatch):
    entries = read_list(write('im/a.jpg s/a.png i/a.png\n\nim/b.jpg s/b.png\nim/c.jpg\n'), tmp_path)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / 'out'
    assert format_list('new.txt', entries, lambda entry: f'out/{entry.name}.png') == (
        f'im/a.jpg {out}/a.png i/a.png\nim/b.jpg {out}/b.png\nim/c.jpg {out}/c.png\n')


def test_format_list_refuses_blanks(write, tmp_path):
    entries = read_list(write('a.jpg s.png\n'), tmp_path)
    with pytest.raises(DataError, match=r'new\.txt: .*blanks separate the fields'):
        format_list('new.txt', entries, lambda _: '/x y/a.png')


def test_located_adds_the_place_to_data_errors_only(write, tmp_path):
    entry = read_list(write('\na.jpg\n'), tmp_path)[0]
    with pytest.raises(DataError, match=r'train\.txt:2: broken$'), located(entry):
        raise DataError('broken')
    with pytest.raises(WrongEncodingError, match=r'train\.txt:2: a palette$'), located(entry):
        raise WrongEncodingError('a palette')
    with pytest.raises(KeyError, match=r"^'other'$"), located(entry):
        raise KeyError('other')


def test_a_line_of_three_goes_on_with_tags_and_kind_and_a_dash_is_none(write, tmp_path):
    path = write('a.jpg a.png i.png 15,1\nb.jpg - i.png 3,3 tag\nc.jpg c.png i.png - scribble\nd.jpg - - 0 point\n'
                 'e.jpg e.png i.png\n')
    entries = read_list(path, tmp_path)
    assert [entry.tags for entry in entries] == [(1, 15), (3,), (), (0,), ()]
    assert [entry.kind for entry in entries] == [None, 'tag', 'scribble', 'point', None]
    assert [entry.is_unlabelled for entry in entries] == [False, True, False, True, False]
    assert [entry.semantic for entry in entries[:3]] == [tmp_path / 'a.png', None, tmp_path / 'c.png']
    assert [entry.regions for entry in entries[2:4]] == [tmp_path / 'i.png', None]
    assert [entry.name for entry in read_list(path, tmp_path, (2, 3))] == ['a', 'b', 'c', 'd', 'e']


def test_a_line_that_needs_regions_or_fewer_fields_says_so(write, tmp_path):
    with pytest.raises(DataError, match=r'train\.txt:2: no regions \(`-`\)'):
        read_list(write('a.jpg - i.png 1\nb.jpg - - 1\n'), tmp_path, (3,))
    with pytest.raises(DataError, match=r'train\.txt:1: 4 fields, but a line here must be `image`'):
        read_list(write('a.jpg - i.png 1\n'), tmp_path, (1,))


def test_a_tag_beyond_the_classes_names_file_and_line(write, tmp_path):
    path = write('a.jpg - i.png 1,3\n\nb.jpg - i.png 2,4 tag\n')
    assert len(read_list(path, tmp_path, num_classes=5)) == 2
    with pytest.raises(DataError, match=r'train\.txt:3: the tag 4 is not a class; there are 4, 0 to 3'):
        read_list(path, tmp_path, num_classes=4)


def test_tags_and_kinds_count_in_the_digest_and_are_kept_by_a_new_list(write, tmp_path):
    texts = [f'a.jpg - i.png{end}\n' for end in ('', ' 1', ' 2', ' 1 tag', ' 1 box')]
    assert len({digest(read_list(write(text), tmp_path)) for text in texts}) == len(texts)
    entries = read_list(write('a.jpg - i.png 2,1 tag\nb.jpg b.png i.png - point\n'), tmp_path)
    labels = {'a': '/p/a.png', 'b': None}
    assert format_list('new.txt', entries, lambda entry: labels[entry.name]) == (
        'a.jpg /p/a.png i.png 2,1 tag\nb.jpg - i.png - point\n')


def test_a_missing_label_map_is_not_looked_for(write, tmp_path):
    for name in ('a.jpg', 'i.png'):
        (tmp_path / name).touch()
    check_files(read_list(write('a.jpg - i.png 1 tag\n'), tmp_path))


def test_the_share_is_that_of_a_loop_over_pairs(rng):
    tags = rng.random((23, 6)) < rng.random()
    pairs = [any(one & other) for one, other in itertools.combinations(tags, 2)]
    assert sharing_pairs(tags) == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize(('rows', 'share'), [
    ([[1, 0]], 0), ([[1, 0], [1, 0]], 1), ([[1, 0], [0, 1]], 0), ([[0, 0], [0, 0]], 0),
    ([[1, 0], [1, 1], [0, 1], [0, 0]], 2 / 6)])
def test_the_share_of_few_images(rows, share):
    assert sharing_pairs(np.array(rows, bool)) == pytest.approx(share)


def test_tags_are_what_labels_and_lists_say(tmp_path):
    for name, values in (('a', [0, 2, 254]), ('b', [255, 1])):
        Image.fromarray(np.array([values], np.uint8)).save(tmp_path / f'{name}.png')
    path = tmp_path / 'list.txt'
    path.write_text('a.jpg a.png r.png\nb.jpg b.png r.png 3 scribble\nc.jpg - r.png 1,4 tag\n')
    found = [set(np.flatnonzero(row)) for row in read_tags(read_list(path, tmp_path))]
    assert [row & {*range(10), 255} for row in found] == [{0, 2}, {255, 1, 3}, {1, 4}]
    (tmp_path / 'b.png').write_bytes(b'no image')
    with pytest.raises(DataError, match=f'^{path}:2: .*b.png'):
        read_tags(read_list(path, tmp_path))
