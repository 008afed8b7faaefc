import numpy as np
import pytest

from spml.errors import ConfigError, DataError
from spml.prepare.class_list import read_class_list
from spml.visualization.palette import ids_of_colours


def test_names_and_colours_in_every_spelling(class_list):
    classes = class_list('\ufeffbackground 0 0 0\r\n\n  palm   tree\t#00fF10 \ncat 1, 2,3\n'
                         'void 255 255 255\nunlabelled 9,9,9\nroute 66 4 5 6\n')
    assert classes.names == ('background', 'palm tree', 'cat', 'route 66')
    assert classes.colours == ((0, 0, 0), (0, 255, 16), (1, 2, 3), (4, 5, 6))
    pixels = np.array([[(1, 2, 3), (0, 255, 16), (0, 0, 0)], [(255, 255, 255), (9, 9, 9), (3, 2, 1)]], np.uint8)
    assert ids_of_colours(pixels, classes.values).tolist() == [[2, 1, 0], [255, 254, -1]]


def test_without_colours_those_of_voc_count(class_list):
    classes = class_list('background\naeroplane\nroute 66\n')
    assert classes.names == ('background', 'aeroplane', 'route 66')
    assert classes.colours is None
    pixels = np.array([[(0, 128, 0), (128, 0, 0), (0, 0, 0), (224, 224, 192), (128, 128, 0)]], np.uint8)
    assert ids_of_colours(pixels, classes.values).tolist() == [[2, 1, 0, 255, -1]]


@pytest.mark.parametrize(('text', 'words'), [
    ('background\n', '1 classes'), ('', '0 classes'), ('void 1 2 3\nbackground 0 0 0\n', '1 classes'),
    ('\n'.join(f'class {letter}' for letter in map(chr, range(300, 554))), '254 classes'),
    ('background 0 0 0\ncat\n', ':2: every class'), ('background\n\ncat 1 2 3\n', ':3: every class'),
    ('background 0 0 0\ncat 1 2 256\n', ':2: '), ('background 0 0 0\n1 2 3\n', ':2: '),
    ('background\ncat\ncat\n', ':3: the name cat is at'), ('a 1 2 3\nb #010203\n', ':2: the colour'),
    (b'\xff\xfe\x00', 'not a UTF-8'), (None, 'file'),
])
def test_lists_that_cannot_be_used(tmp_path, class_list, text, words):
    with pytest.raises(DataError, match=rf'^{tmp_path}/classes\.txt.*{words}'):
        read_class_list(tmp_path / 'classes.txt') if text is None else class_list(text)


def test_labelmes_own_list(class_list):
    classes = class_list('__ignore__\n_background_\ncat\ndog\n')
    assert classes.names == ('background', 'cat', 'dog')
    assert classes.has_background()
    coloured = class_list('__ignore__ 9 9 9\n_background_ 0 0 0\ncat 1 1 1\n')
    assert (coloured.names, coloured.values[9, 9, 9]) == (('background', 'cat'), 255)
    for text, words in (('cat\n_background_\n', ':2: .*must be the first'), ('background\n_background_\n', 'first'),
                        ('_background_\nbackground\n', 'one class')):
        with pytest.raises(DataError, match=words):
            class_list(text)


def test_whether_there_is_a_background(class_list):
    for name in ('background', 'Background', 'BG', 'other'):
        assert class_list(f'{name}\ncat\n').has_background()
    streets = class_list('sky\nroad\n')
    assert streets.has_background('first')
    assert not streets.has_background('none')
    assert not class_list('background\ncat\n').has_background('none')
    with pytest.raises(ConfigError, match=r'classes\.txt: .*sky.*--background first.*--background none'):
        streets.has_background()


def test_names_of_what_is_no_class_in_any_case_and_spelling(class_list):
    classes = class_list('background 0 0 0\nVoid 9 9 9\ncat 1 1 1\nUnlabeled 8 8 8\n')
    assert classes.names == ('background', 'cat')
    assert (classes.values[9, 9, 9], classes.values[8, 8, 8]) == (255, 254)
    assert class_list('background\ncat\nVOID\nunlabelled\n').names == ('background', 'cat')
    # Would the ids of masks count it?
    for text in ('void\nroad\ncar\n', 'road\nUnlabelled\ncar\n'):
        with pytest.raises(DataError, match=r'classes\.txt:[12]: .*move it to the end'):
            class_list(text)


def test_names_that_are_written_in_another_way(class_list):
    classes = class_list('background\ncaf\u00e9\npalm tree\nA\na\nB\nb\n')
    for name, index in (('Background', 0), ('cafe\u0301 ', 1), ('Palm  Tree', 2), ('A', 3), ('a', 4), ('b', 6)):
        assert classes.find(name) == index
    for name in ('cafe', 'palmtree', 'a b', '', 'B b'):
        assert classes.find(name) is None
    assert class_list('background\nCat\nCAT\n').find('cat') is None  # either


def test_the_label_map_of_cvat(class_list):
    for text in ('# label:color_rgb:parts:actions\nbackground:0,0,0::\npalm tree:250,50,83:leaf,stem:sway\n',
                 'background,0,0,0\r\npalm tree,250,50,83\r\n'):
        classes = class_list(text)
        assert classes.names == ('background', 'palm tree')
        assert classes.colours == ((0, 0, 0), (250, 50, 83))


@pytest.mark.parametrize('text', [
    '0 background\n1 cat\n', '0: background\n1: cat\n', '0,background\n1,cat\n',
    'Pixel Value, Class\n0, background\n1, cat\n',
    'id\tname\n0\tbackground\n1\tcat\n255\tvoid\n', '0 background 0 0 0\n1 cat 9 9 9\n',
    '0,background,0,0,0\n1,cat,9,9,9\n255,void,7,7,7\n'])
def test_a_class_list_with_the_ids(class_list, text):
    assert class_list(text).names == ('background', 'cat')


def test_names_of_classes_that_begin_with_numbers(class_list):
    assert class_list('background\n2 doors\n4 doors\n').names == ('background', '2 doors', '4 doors')
    assert class_list('3d\n2d\n').names == ('3d', '2d')
    assert class_list('0\n1\n2\n').names == ('0', '1', '2')
    coins = ('background', '1 euro', '2 euro', '2 cent')
    assert class_list(''.join(f'{name}:{9 * index},0,0::\n' for index, name in enumerate(coins))).names == coins
    assert class_list('1 euro\n2 euro\n').names == ('1 euro', '2 euro')


@pytest.mark.parametrize('line', ['{},{},0,7', '{}:{},0,7::', '{}\t{}\t0\t7', '{}, or so'])
def test_the_first_class_is_no_heading(class_list, line):
    lines = [line.format(name, 9 * index) for index, name in enumerate(('background', 'cat', 'dog'))]
    classes = class_list('\n'.join(lines))
    if 'so' in line:
        assert classes.names == tuple(lines)
    else:
        assert classes.names == ('background', 'cat', 'dog')
        assert classes.colours == ((0, 0, 7), (9, 0, 7), (18, 0, 7))


@pytest.mark.parametrize(('text', 'line'), [
    ('1 background\n2 cat\n', '1 background'), ('id,name\n0,background\n7,cat\n', '7,cat'),
    ('0 background\n1 void\n2 cat\n', '1 void'), ('Pixel Value, Class\n0, unlabeled\n1, cat\n', '0, unlabeled')])
def test_a_class_list_with_other_ids(class_list, text, line):
    with pytest.raises(DataError, match=f"txt:.*'{line}'.*--fix VALUE=CLASS") as caught:
        class_list(text)
    assert ('call it background' in str(caught.value)) == line.endswith(('void', 'unlabeled'))


@pytest.mark.parametrize('text', ['cat:128,0,0::\nbackground:0,0,0::\n', 'cat\nbackground\n'])
def test_a_class_list_whose_background_is_not_first(class_list, text):
    """As CVAT may write it: what `--background first` says would be of the cat."""
    classes = class_list(text)
    for choice in (None, 'first'):
        with pytest.raises(ConfigError, match=r'move background to the first line.*--background none'):
            classes.has_background(choice)
    assert not classes.has_background('none')


def test_comments(class_list):
    text = '# pets\n#\n#\twith a tab\n## more\n#---\nbackground\ncat\n  # tame\ndog\nlane #1\n'
    assert class_list(text).names == ('background', 'cat', 'dog', 'lane #1')
    coloured = class_list('# 1\nbackground #000000\n# x\ncat #ff0000\n')
    assert (coloured.names, coloured.colours) == (('background', 'cat'), ((0, 0, 0), (255, 0, 0)))
    for line in ('cat  # tame', 'cat #tame', 'cat #', '#cat', '#1', '#ff0000 cat'):
        with pytest.raises(DataError, match=r'classes\.txt:2: .*may be a comment'):
            class_list(f'background\n{line}\ndog\nbird\n')


@pytest.mark.parametrize('heading', ['name,r,g,b', 'Name, R, G, B', 'class\tred\tgreen\tblue'])
def test_the_heading_of_a_table_of_colours(class_list, heading):
    classes = class_list(f'{heading}\nbackground,0,0,0\ncat,255,0,7\n')
    assert (classes.names, classes.colours) == (('background', 'cat'), ((0, 0, 0), (255, 0, 7)))


def test_the_odd_line_out_is_named(class_list):
    for text in ('background\ncat 1 1 1\ndog 2 2 2\n', 'background 1 1 1\ncat\ndog\n'):
        with pytest.raises(DataError, match=r'classes\.txt:1: every class'):
            class_list(text)
