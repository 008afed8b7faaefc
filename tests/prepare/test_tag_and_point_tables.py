"""Tags and points from CSV files, from folders a class, and from LabelMe."""
import json

import pytest

from spml.errors import DataError
from spml.prepare import notes as noted
from spml.prepare.tables import find_points, read_points, read_tags

SIZE = (48, 64)


@pytest.fixture
def classes(class_list):
    return class_list('background\ncat\npalm tree\ndog\n')


@pytest.fixture
def table(tmp_path):
    """A function from text to the path of a file that holds it."""
    def write(text):
        (tmp_path / 'table.csv').write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / 'table.csv'
    return write


@pytest.mark.parametrize('text', [
    'a.jpg,cat,dog\nb.x.png,palm tree\nc.jpg\t\n'.replace('\t', ','),
    '\ufeffa.jpg,cat,dog\r\n\r\nb.x.png,palm tree\r\nc.jpg,\r\n',
    'a.jpg;cat;dog\nb.x.png;palm tree\nc.jpg;\n', 'a.jpg\tcat\tdog\nb.x.png\tpalm tree\nc.jpg\t\n',
    'image,tags\na.jpg,cat;dog\nb.x.png,palm tree\nc.jpg,\n', 'Image ; Class\na.jpg ; cat|dog\nb.x.png ; 2\nc.jpg ;\n',
    'image,class\na.jpg,cat\na.jpg,dog\nb.x.png,palm tree\na.jpg,cat\nc.jpg,\n',
    'filename,class,class\nphotos/a.jpg,"dog",cat\n"C:\\photos\\b.x.png",palm tree\nc.jpg,,\n',
    '\ufefffile;tags;Tag 2\r\na.jpg;cat;dog\r\nb.x.png;palm tree\r\nc.jpg;\r\n\r\n',
])
def test_tags_in_every_form(table, classes, text):
    assert read_tags(table(text), classes) == {'a.jpg': (1, 3), 'b.x.png': (2,), 'c.jpg': ()}


@pytest.mark.parametrize('text', [
    'filename, cat, palm tree, dog\na.jpg, 1, 0, 1\nb.x.png, 0, 1, 0\nc.jpg, 0, 0, 0\n',
    ',Dog,CAT,background,palm tree\r\na.jpg,1.0,1,1,\r\nb.x.png,0,0,0,1\r\nc.jpg,,,1,\r\n',
    'image,cat,palm tree,dog,\na.jpg,1,0,1,\nb.x.png,0,1,0,\nc.jpg,0,0,0,\n',
    '\ufeffphoto_no;cat;palm tree;dog;;\na.jpg;1;0;1;;\nb.x.png;0;1;0;;\nc.jpg;0;0;0;;\n',
    'image,,cat,palm tree,dog\na.jpg,0,1,0,1\nb.x.png,1,0,1,0\nc.jpg,2,0,0,0\n',
    'image,cat,,palm tree,dog\na.jpg,1,,0,1\nb.x.png,0,,1,0\nc.jpg,0,,0,0\n',
    'id;palm tree;dog;cat\n"a.jpg";0;1;1\n"b.x.png";1;0;0\nc.jpg;0;0;0\n'])
def test_a_column_for_each_class(table, classes, text):
    found = read_tags(table(text), classes)
    assert {name: tuple(tag for tag in tags if tag) for name, tags in found.items()} == {
        'a.jpg': (1, 3), 'b.x.png': (2,), 'c.jpg': ()}


@pytest.mark.parametrize(('other', 'values'), [('confidence', ('1.0', '1')), ('split', ('train', 'val')),
                                               ('predicted', ('palm tree', 'cat')), ('absent', ('dog', ''))])
def test_columns_that_are_no_classes(table, classes, caplog, other, values):
    text = f'image,width,label,{other},label (2)\na.jpg,2,cat,{values[0]},dog\nb.jpg,3,"palm  Tree ",{values[1]},\n'
    assert read_tags(table(text), classes) == {'a.jpg': (1, 3), 'b.jpg': (2,)}
    assert '2 columns are not used, for example width' in caplog.text
    assert (f'{other} holds names of classes, too' in caplog.text) == (other in ('predicted', 'absent'))


def test_columns_without_a_title(table, classes):
    assert read_tags(table('image,tags,\na.jpg,cat,dog\nb.jpg,dog,\n'), classes) == {'a.jpg': (1, 3), 'b.jpg': (3,)}
    assert read_tags(table('image,tags\na.jpg,cat,dog\nb.jpg,dog,\n'), classes) == {'a.jpg': (1, 3), 'b.jpg': (3,)}
    assert read_tags(table('image,,tags\na.jpg,0,cat\nb.jpg,1,dog\n'), classes) == {'a.jpg': (1,), 'b.jpg': (3,)}
    # A field beyond the header may be what shifts all others.
    with pytest.raises(DataError, match=r'table\.csv:2: 4 fields, but the header names 3'):
        read_tags(table('image,tags,split\na.jpg,cat,dog,train\nb.jpg,dog,train\n'), classes)


def test_classes_that_are_called_like_a_column_of_classes(table, class_list):
    classes = class_list('background\ntag\ncar\n')
    assert read_tags(table('image,tag,car\na.jpg,1,0\nb.jpg,1,1\n'), classes) == {'a.jpg': (1,), 'b.jpg': (1, 2)}


@pytest.mark.parametrize('text', ['image,cat,dog\na.jpg,0,2\n', 'image,cat,dog\na.jpg,1\n', 'image,cat\na.jpg,dog\n',
                                  'image,first,second\na.jpg,1,3\n'])
def test_columns_that_may_mean_two_things(table, classes, text):
    with pytest.raises(DataError, match=r'table\.csv: the columns .* must be 0 or 1'):
        read_tags(table(text), classes)


def test_a_folder_for_each_class(tmp_path, classes):
    for file in ('cat/a.jpg', 'dog/a.jpg', 'palm tree/b.x.png', 'cat/notes.md', 'cat/.hidden.jpg'):
        (tmp_path / 'tags' / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'tags' / file).write_text('')
    assert read_tags(tmp_path / 'tags', classes) == {'a.jpg': (1, 3), 'b.x.png': (2,)}
    (tmp_path / 'tags/horse').mkdir()
    with pytest.raises(DataError, match="horse: 'horse' is not in"):
        read_tags(tmp_path / 'tags', classes)
    assert read_tags(tmp_path / 'tags', classes, others=0) == {'a.jpg': (1, 3), 'b.x.png': (2,)}


def test_two_images_of_one_name_do_not_share_their_tags(tmp_path, table, classes):
    for file, content in (('cat/1.jpg', 'a cat'), ('dog/1.jpg', 'a dog')):
        (tmp_path / 'tags' / file).parent.mkdir(parents=True)
        (tmp_path / 'tags' / file).write_text(content)
    with pytest.raises(DataError, match=r'dog/1\.jpg: is another image than .*cat/1\.jpg'):
        read_tags(tmp_path / 'tags', classes)
    with pytest.raises(DataError, match=r'table\.csv:2: names val/1\.jpg, and a line before train/1\.jpg'):
        read_tags(table('train\\1.jpg,cat\nval/1.jpg,dog\n'), classes)
    with pytest.raises(DataError, match=r'table\.csv:2: names val/1\.jpg, and a line before 1\.jpg'):
        find_points(table('1.jpg,2,2,cat\nval/1.jpg,3,3,dog\n'))
    assert read_tags(table('./a/1.jpg,cat\na\\1.jpg,dog\n'), classes) == {'1.jpg': (1, 3)}


def test_an_image_without_an_ending_keeps_its_whole_name(table, classes):
    assert read_tags(table('b.x,cat\nc,dog\n'), classes) == {'b.x.png': (1,), 'c.png': (3,)}


@pytest.mark.parametrize(('text', 'words'), [
    ('a.jpg,cat\nb.jpg,horse\n', r"table\.csv:2: 'horse' is not in .*classes\.txt"),
    ('a.jpg,4\n', r'table\.csv:1: the class 4, but .* has 0\.\.3'), ('a.jpg,-1\n', 'the class -1'), ('', 'no line'),
    ('image,class\n', 'no line'), ('a.jpg\nb.jpg\n', r"table\.csv:1: 'a.jpg' is a single field"),
    (',cat\n', 'names no image'), ('a.jpg,"cat\n', 'no table'), (b'a.jpg,c\xe4t\n', 'not a UTF-8')])
def test_tables_of_tags_that_cannot_be_read(table, classes, text, words):
    with pytest.raises(DataError, match=words):
        read_tags(table(text), classes)
    if 'horse' in str(text):
        assert read_tags(table(text), classes, others=255) == {'a.jpg': (1,), 'b.jpg': ()}


def points_of(path, classes, notes=None, others=None):
    return {name: [(value, *point[0].tolist()) for value, point in read_points(
        points, SIZE, classes, others, [] if notes is None else notes)] for name, points in find_points(path).items()}


@pytest.mark.parametrize('text', [
    'a.jpg,4,19,cat\nb.x.png,63,47.2,palm tree\na.jpg,0,0,dog\n',
    'image,x,y,class\na.jpg,4,19,1\nb.x.png,63,47.2,2\na.jpg,0,0,3\n',
    '\ufeffclass;y;x;file\ncat;19;4;a.jpg\npalm tree;47,2;63;b.x\ndog;0;0;a.jpg\n'])
def test_points_in_every_form(table, classes, text):
    assert points_of(table(text), classes) == {'a.jpg': [(1, 4, 19), (3, 0, 0)], 'b.x.png': [(2, 63, 47.2)]}


@pytest.mark.parametrize(('text', 'words'), [
    ('a.jpg,4,19\n', r'table\.csv:1: 3 fields'), ('image,x,y\na.jpg,4,19\n', 'header image,x,y does not name'),
    ('image,x,y,class,by\na.jpg,4,19,cat\n', r'table\.csv:2: 4 fields, but there must be 5'),
    ('a.jpg,4,nan,cat\n', "'nan' is not a number"), ('a.jpg,cat,4,19\n', "'cat' is not a number"),
    ('a.jpg,4,19,horse\n', "'horse' is not in"), ('a.jpg,4,19,9\n', 'the class 9'),
    ('a.jpg,64,9,cat\n', r'table\.csv:1: the point x = 64, y = 9 lies outside its image of 64x48 .*swapped'),
    ('a.jpg,4,-3,cat\n', 'lies outside'), ('a.jpg,.1,.2,cat\n' * 5, 'not shares of the image'),
    ('a.jpg,.3,.4,cat\nb.jpg,.9,1,dog\n', 'not shares of the image')])
def test_tables_of_points_that_cannot_be_used(table, classes, text, words):
    with pytest.raises(DataError, match=words):
        points_of(table(text), classes)
    if 'horse' in text:
        assert points_of(table(text), classes, others=0) == {'a.jpg': []}
        assert points_of(table(text), classes, others=255) == {'a.jpg': [(255, 4, 19)]}


def test_points_of_labelme(tmp_path, classes):
    shapes = [{'label': label, 'shape_type': kind, 'points': points} for label, kind, points in (
        ('cat', 'point', [[4, 19]]), ('dog', 'points', [[1, 2], [3, 4]]), ('__ignore__', 'point', [[9, 9]]),
        ('cat', 'rectangle', [[4, 4], [23, 19]]))]
    (tmp_path / 'a.json').write_text(json.dumps({'shapes': shapes, 'imageHeight': 48, 'imageWidth': 64}))
    notes = []
    assert points_of(tmp_path, classes, notes) == {'a.json': [(1, 4, 19), (3, 1, 2), (3, 3, 4), (255, 9, 9)]}
    assert [kind for kind, _ in notes] == [noted.NO_POINT]
    (tmp_path / 'a.json').write_text(json.dumps({'shapes': shapes, 'imageHeight': 64, 'imageWidth': 48}))
    with pytest.raises(DataError, match='48x64'):
        points_of(tmp_path, classes)


@pytest.mark.parametrize('text', ['a.jpg,cat;dog;palm tree\nb.jpg,cat\n', '"x;a.jpg",cat;dog;palm tree\nb.jpg,cat\n',
                                  'Smith, J 1.jpg;cat;dog|palm tree\nSmith, J 2.jpg;cat\n',
                                  'a;1.jpg,cat,dog,palm tree\nb;2.jpg,cat\n',
                                  'a.jpg,cat;dog;palm tree\nb.jpg,cat;cat\n',
                                  'img1,cat;dog;palm tree\nimg2,cat;cat\n'])
def test_several_signs_that_may_separate(table, classes, text):
    assert sorted(read_tags(table(text), classes).values()) == [(1,), (1, 2, 3)]


@pytest.mark.parametrize(('text', 'words'), [
    ('a.jpg,cat,1\nb.jpg,cat,2\n', r'table\.csv:1: 1 beside a name'), ('a.jpg,cat\nb.jpg,2,dog\n', ':2: 2 beside'),
    ('a.jpg,cat;2\n', ':1: 2 beside'), ('a.jpg,dog|cat|1\n', ':1: 1 beside'),
    ('image,is_dog\na.jpg,1\nb.jpg,0\n', r'table\.csv: the column is_dog holds 0 and 1 alone'),
    ('image,class_1,class_2\na.jpg,1,0\nb.jpg,0,1\n', r'the column class_1,class_2 holds 0 and 1 alone'),
    ('image,width,\na.jpg,2,1\nb.jpg,3,2\n', 'call a column of names or ids of classes `class`'),
    ('image,count\na.jpg,2\nb.jpg,3\n', 'call a column of names or ids of classes `class`')])
def test_numbers_that_may_be_no_ids(table, classes, text, words):
    with pytest.raises(DataError, match=words):
        read_tags(table(text), classes)


@pytest.mark.parametrize('title', ['class_1', '', 'class_id', 'Label'])
def test_ids_that_happen_to_be_0_and_1(table, classes, title):
    assert read_tags(table(f'image,{title}\na.jpg,1\nb.jpg,0\n'), classes) == {'a.jpg': (1,), 'b.jpg': (0,)}


def test_names_count_more_than_ids_beside_them(table, classes, caplog):
    assert read_tags(table('image,class,class_id\na.jpg,cat,1\nb.jpg,dog,9\n'), classes) == {
        'a.jpg': (1,), 'b.jpg': (3,)}
    assert '1 columns are not used, for example class_id' in caplog.text
    assert read_tags(table('image,class_id,Class_Name\na.jpg,1,cat\nb.jpg,9,dog\n'), classes) == {
        'a.jpg': (1,), 'b.jpg': (3,)}


def test_a_column_of_0_and_1_with_two_classes(table, class_list):
    assert read_tags(table('image,is_dog\na.jpg,1\nb.jpg,0\n'), class_list('background\ndog\n')) == {
        'a.jpg': (1,), 'b.jpg': (0,)}


def test_what_lies_in_the_folders_of_classes_and_is_no_image(tmp_path, classes, caplog):
    for file in ('cat/a.jpg', 'cat/more/b.jpg', 'dog/c.heic', 'dog/d.png'):
        (tmp_path / 'tags' / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'tags' / file).write_text('')
    assert read_tags(tmp_path / 'tags', classes) == {'a.jpg': (1,), 'd.png': (3,)}
    assert '2 files or folders in its folders are not used' in caplog.text
    assert f'{tmp_path}/tags/cat/more' in caplog.text


@pytest.mark.parametrize(('label', 'words'), [('', "class ''"), (';', "class ';'"), ('cat;dog', "class 'cat;dog'")])
def test_points_of_no_class_and_of_two(table, classes, label, words):
    with pytest.raises(DataError, match=rf'table\.csv:2: a point of the {words}; it must have one'):
        points_of(table(f'a.jpg,3,4,dog\na.jpg,10,10,{label}\n'), classes)


def test_points_in_the_last_pixel(table, classes):
    assert points_of(table('a.jpg,63.7,47.9,cat\n'), classes) == {'a.jpg': [(1, 63.5, 47.5)]}
