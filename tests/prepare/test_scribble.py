import itertools
import json
import math

import numpy as np
import pytest
from originals import TRAIN_PLUS, read, train_list, write_scribbles

from spml.errors import DataError
from spml.prepare import shapes as strokes
from spml.prepare.scribble import read_clicks
from spml.prepare.shapes import draw_strokes as draw
from spml.prepare.shapes import middle
from spml.prepare.voc_xml import class_table, read_scribbles

FOLDERS = ('dilate_3', 'dilate_3_0.8', 'dilate_3_0.5', 'dilate_3_0.3', 'dilate_6_0.0')


@pytest.fixture
def place(prepared, tmp_path):
    """The prepared miniature of VOC with an empty folder for scribbles."""
    prepared.scribbles = tmp_path / 'pascal_2012'
    prepared.scribbles.mkdir()
    prepared.words = ['prepare_scribble', '--out', prepared.out, '--num_workers', 0]
    prepared.with_scribbles = [*prepared.words, '--scribbles', prepared.scribbles]
    return prepared


def random_scribbles(rng, size):
    tags = rng.choice(['background', 'person', 'tvmonitor', 'pottedplant'], 3)
    return [(tag, [tuple(rng.integers(0, size[::-1]).tolist()) for _ in range(count)])
            for tag, count in zip(tags, (4, 2, 1), strict=True)]


POLYGON = '<polygon><tag>cat</tag><point><X>1</X><Y>2</Y></point></polygon>'
CLASSES = {'background': 0, 'person': 15, 'pottedplant': 16, 'tvmonitor': 20}


def test_the_five_lengths_of_every_image(place, works, rng):
    drawn = {name: random_scribbles(rng, place.sizes[name]) for name in TRAIN_PLUS}
    for name, scribbles in drawn.items():
        write_scribbles(place.scribbles / f'{name}.xml', scribbles, place.sizes[name])
    write_scribbles(place.scribbles / '07_c.xml', drawn['07_a'])  # a val image: not used
    printed = works(*place.with_scribbles)
    root = place.out / 'VOC2012' / 'scribble'
    assert {path.name for path in root.iterdir()} == set(FOLDERS)
    for folder in FOLDERS:
        assert {path.stem for path in (root / folder).glob('*.png')} == set(TRAIN_PLUS)
        assert f'4 label maps written: {root / folder}\n' in printed
        kind = {'dilate_3': 'scribble', 'dilate_6_0.0': 'point'}.get(folder, f'scribble_{folder[-3:]}')
        assert (place.out / f'lists/train_{kind}.txt').read_text() == train_list(f'VOC2012/scribble/{folder}')
    for name, scribbles in drawn.items():
        for folder, fraction, radius in zip(FOLDERS, (1, 0.8, 0.5, 0.3, 0), (1.5, 1.5, 1.5, 1.5, 3), strict=True):
            cut = [(CLASSES[tag], strokes.middle(np.array(points, float), fraction)) for tag, points in scribbles]
            np.testing.assert_array_equal(read(root / folder / f'{name}.png'),
                                          strokes.draw_strokes(cut, place.sizes[name], radius))


def test_a_drawing_by_hand(place, works):
    height, width = place.sizes['07_a']
    write_scribbles(place.scribbles / '07_a.xml', [('Background', [(1, 1), (9, 1)]), ('TV/monitor', [(5, height + 9)])])
    works(*place.with_scribbles, '--width', 1, '--radius', 1)
    want = {'1': np.full((height, width), 254), '1_0.5': np.full((height, width), 254)}
    want['1'][1, 1:10] = want['1_0.5'][1, 3:8] = 0
    want['1'][-1, 5] = want['1_0.5'][-1, 5] = 20
    want['2_0.0'] = np.full((height, width), 254)
    want['2_0.0'][[0, 1, 1, 1, 2], [5, 4, 5, 6, 5]] = 0
    want['2_0.0'][[-1, -1, -1, -2], [4, 5, 6, 5]] = 20
    for folder, label in want.items():
        np.testing.assert_array_equal(read(place.out / f'VOC2012/scribble/dilate_{folder}/07_a.png'), label)
    for kind in ('scribble_dilate_1', 'scribble_dilate_1_0.3', 'point_dilate_2_0.0'):
        assert len((place.out / f'lists/train_{kind}.txt').read_text().splitlines()) == 1
    assert len((place.out / 'lists/train_scribble.txt').read_text().splitlines()) == 4  # of prepare_voc12


def test_images_without_scribbles_are_left_out_aloud_and_a_second_run_goes_on(place, works, caplog):
    write_scribbles(place.scribbles / '08_d.xml', [('cat', [(3, 3), (8, 8)])])
    works(*place.with_scribbles)
    assert 'WARNING: 3 of 4 training images have no scribbles' in caplog.text
    assert (place.out / 'lists/train_scribble.txt').read_text().split('\n')[1:] == ['']
    for name in ('07_a', '07_b', '08_e'):
        write_scribbles(place.scribbles / f'{name}.xml', [('dog', [(3, 3), (8, 8)])])
    before = (place.out / 'VOC2012/scribble/dilate_3/08_d.png').stat().st_mtime_ns
    printed = works(*place.with_scribbles)
    assert '3 label maps written' in printed
    assert '(1 were there already)' in printed
    assert (place.out / 'VOC2012/scribble/dilate_3/08_d.png').stat().st_mtime_ns == before
    assert len((place.out / 'lists/train_scribble.txt').read_text().splitlines()) == 4


def test_both_cases_of_coordinates_and_fractions_are_read(tmp_path):
    write_scribbles(tmp_path / 'a.xml', [('dining table', [(1.5, 2)])], (8, 9), '<x>{}</x><y>{}</y>')
    scribbles, size = read_scribbles(tmp_path / 'a.xml', class_table())
    assert size == (8, 9)
    assert [(label, points.tolist()) for label, points in scribbles] == [(11, [[1.5, 2.0]])]


def test_clicks_of_one_and_of_several_annotators(place, works, tmp_path):
    height, width = place.sizes['08_d']
    path = tmp_path / 'points.json'
    path.write_text(json.dumps({
        '07_a': [{'cls': 3, 'x': 5, 'y': 4, 'rank': 1}, {'cls': 20, 'x': 10, 'y': 12, 'rank': 2}],
        '08_d': [[{'cls': 1, 'x': 6, 'y': 7}], [{'cls': 0, 'x': width, 'y': height}]],
        '07_b': [], '2011_009999': [{'cls': 1, 'x': 900, 'y': 900}]}))
    works(*place.words, '--points', path, '--radius', 1)
    for name, dots in (('07_a', [(3, 4, 5), (20, 12, 10)]), ('08_d', [(1, 7, 6), (0, height - 1, width - 1)])):
        want = np.full(place.sizes[name], 254)
        for label, y, x in dots:
            for dy, dx in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
                if y + dy < place.sizes[name][0] and x + dx < place.sizes[name][1]:
                    want[y + dy, x + dx] = label
        np.testing.assert_array_equal(read(place.out / f'VOC2012/scribble/clicks_2/{name}.png'), want)
    names = [line.split()[1] for line in (place.out / 'lists/train_click_2.txt').read_text().splitlines()]
    assert names == [f'VOC2012/scribble/clicks_2/{name}.png' for name in ('07_a', '08_d')]
    works(*place.words, '--points', path)
    assert (place.out / 'lists/train_click.txt').is_file()


@pytest.mark.parametrize('content', [
    '[', '[]', '{"a": 3}', '{"a": [3]}', '{"a": [{"cls": 21, "x": 1, "y": 1}]}', '{"a": [{"cls": 1, "x": 1}]}',
    '{"a": [{"cls": true, "x": 1, "y": 1}]}', '{"a": [{"cls": 1.5, "x": 1, "y": 1}]}',
    '{"a": [{"cls": 1, "x": NaN, "y": 1}]}', '{"a": [[{"cls": 1, "x": 1, "y": 1}], {"cls": 1, "x": 1, "y": 1}]}',
    '{"a": [{"cls": "cat", "x": 1, "y": 1}]}', '{"a": ' + '[' * 100000])
def test_other_json_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'points.json'
    path.write_text(content)
    of_image = 'image a' if content.startswith('{"a": [{') else ''
    with pytest.raises(DataError, match=rf'^.*points\.json: .*{of_image}.*\Z'):  # one line
        read_clicks(path)


@pytest.mark.parametrize(('content', 'naming'), [
    ('<annotation>', ['not valid XML']),
    ('<annotation></annotation>', ['no scribble']),
    ('<a><polygon><tag>cat</tag></polygon></a>', ['polygon 1', 'no points']),
    ('<a><polygon><point><X>1</X><Y>2</Y></point></polygon></a>', ['polygon 1', 'no tag']),
    ('<a><polygon><tag>cat</tag><point><X>1</X></point></polygon></a>', ['polygon 1', 'Y = None']),
    ('<a><polygon><tag>cat</tag><point><X>one</X><Y>2</Y></point></polygon></a>', ["X = 'one'"]),
    ('<a><polygon><tag>cat</tag><point><X>inf</X><Y>2</Y></point></polygon></a>', ["X = 'inf'"]),
    ('<a><polygon><tag>steed</tag><point><X>1</X><Y>2</Y></point></polygon></a>', ["'steed'", '--alias']),
    ('<a><size><width>3</width><height>4</height></size>' + POLYGON + '</a>', ['3x4']),
    ('<!DOCTYPE a [<!ENTITY b "' + 'c' * 1000 + '">' + ''.join(
        f'<!ENTITY b{i} "' + f'&b{i - 1 if i else ""};' * 50 + '">' for i in range(6)) + ']><a>&b5;</a>', ['XML'])])
def test_a_bad_scribble_file_is_one_line(place, fails, content, naming):
    path = place.scribbles / '07_a.xml'
    path.write_text(content)
    fails(*place.with_scribbles, naming=[path, *naming])


def test_mistakes_on_the_command_line_are_one_line(place, fails, works, tmp_path):
    fails(*place.words, naming=['--scribbles', '--points'])
    fails(*place.words, '--scribbles', tmp_path / 'none', naming=[tmp_path / 'none'])
    fails(*place.with_scribbles, naming=['none of the 4 images', 'scribbles'])
    fails(*place.words, '--points', tmp_path / 'none.json', naming=['none.json'])
    fails('prepare_scribble', '--scribbles', place.scribbles, '--out', tmp_path / 'empty', naming=['prepare_voc12.py'])
    write_scribbles(place.scribbles / '07_a.xml', [('steed', [(3, 3), (8, 8)])])
    fails(*place.with_scribbles, '--alias', 'steed=hors', naming=['hors', 'horse'])
    works(*place.with_scribbles, '--alias', 'steed=horse')
    assert 13 in read(place.out / 'VOC2012/scribble/dilate_3/07_a.png')
    (tmp_path / 'points.json').write_text('{"07_a": [{"cls": 1, "x": 99, "y": 3}]}')
    fails(*place.words, '--points', tmp_path / 'points.json', naming=['points.json', 'x = 99'])


def distance_to_segment(point, start, end):
    """The distance of a point to a segment, by the angles at its ends."""
    ahead, back = math.dist(point, start), math.dist(point, end)
    length = math.dist(start, end)
    if length == 0:
        return ahead
    if ahead ** 2 >= back ** 2 + length ** 2:
        return back
    if back ** 2 >= ahead ** 2 + length ** 2:
        return ahead
    half = (ahead + back + length) / 2
    return 2 * math.sqrt(max(0, half * (half - ahead) * (half - back) * (half - length))) / length  # Heron


@pytest.mark.parametrize('radius', [0.2, 0.5, 1.5, 3, 4.7])
def test_a_pixel_takes_the_nearest_stroke_within_the_radius(radius, rng):
    shape = (23, 31)
    paths = [(label, rng.uniform(-4, 34, (count, 2))) for label, count in ((0, 3), (7, 2), (3, 4))]
    # One dot inside, for sure, and one anywhere.
    dots = [(20, rng.uniform(1, 21, (1, 2))), (9, rng.uniform(-4, 34, (1, 2)))]
    strokes = [paths[0], dots[0], *paths[1:], dots[1]]
    labels = draw(strokes, shape, radius)
    assert labels.dtype == np.uint8
    around = list(itertools.product(range(-6, 37), repeat=2))
    own = {label: min(around, key=lambda pixel, dot=dot: math.dist(pixel, dot)) for label, (dot,) in dots}
    for y, x in np.ndindex(shape):
        distances = sorted((min(distance_to_segment((x, y), start, end) for start, end in
                                zip(path, path[1:] if len(path) > 1 else path, strict=False)), label)
                           for label, path in strokes)
        if any(abs(distance - radius) < 1e-6 for distance, _ in distances) or any(
                second - first < 1e-6 for (first, _), (second, _) in itertools.pairwise(distances)):
            continue  # where rounding may decide
        reaching = [label for distance, label in distances if distance <= radius or own.get(label) == (x, y)]
        assert labels[y, x] == (reaching[0] if reaching else 254), (y, x)


def picture(labels):
    return [''.join('.' if value == 254 else str(value) for value in row) for row in labels]


def test_a_dot_of_six_pixels():
    assert picture(draw([(5, np.array([[4., 3.]]))], (7, 9), 3)) == [
        '....5....',
        '..55555..',
        '..55555..',
        '.5555555.',
        '..55555..',
        '..55555..',
        '....5....']


def test_crossing_strokes_share_the_pixels_by_distance_and_ties_by_order():
    rows, columns = np.array([[0., 2.], [6., 2.]]), np.array([[3., 0.], [3., 4.]])
    assert picture(draw([(1, rows), (2, columns)], (5, 7), 1)) == [
        '..222..',
        '1112111',
        '1111111',
        '1112111',
        '..222..']
    assert picture(draw([(2, columns), (1, rows)], (5, 7), 1)) == [
        '..222..',
        '1122211',
        '1112111',
        '1122211',
        '..222..']


def test_the_middle_of_a_path():
    path = np.array([[0., 0.], [6., 0.], [6., 4.]])
    np.testing.assert_array_equal(middle(path, 1.0), path)
    np.testing.assert_allclose(middle(path, 0.5), [[2.5, 0], [6, 0], [6, 1.5]])
    np.testing.assert_allclose(middle(path, 0.1), [[4.5, 0], [5.5, 0]])
    np.testing.assert_array_equal(middle(path, 0), [[5, 0]])
    np.testing.assert_array_equal(middle(path[:1], 0), path[:1])
    np.testing.assert_array_equal(middle(np.array([[2., 3.], [2., 3.]]), 0.5)[0], [2, 3])


@pytest.mark.parametrize('fraction', [0.3, 0.5, 0.8, 1.0])
def test_the_middle_has_its_share_of_the_length_on_either_side(fraction):
    path = np.random.default_rng().uniform(0, 100, (9, 2))
    kept = middle(path, fraction)

    def length(points):
        return sum(math.dist(a, b) for a, b in itertools.pairwise(points))

    assert length(kept) == pytest.approx(fraction * length(path))
    # The vertices that stay tell how much was cut off before the first of them.
    vertices = [index for index in range(9) if any(np.array_equal(path[index], point) for point in kept)]
    if vertices:
        ahead = length(path[:vertices[0] + 1]) - math.dist(kept[0], path[vertices[0]])
        assert ahead == pytest.approx((1 - fraction) / 2 * length(path), abs=1e-6)
