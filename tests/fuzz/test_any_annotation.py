"""Whatever a file of an annotation tool holds, reading it gives labels or one line of error, as in `test_any_bytes`.

Files are valid ones with damaged bytes, or with values of other kinds in places.
"""
import copy
import json
import pathlib

import hypothesis.configuration
import numpy as np
import pytest
from hypothesis import strategies as st
from strategies import NOISE, damaged
from test_any_bytes import read_cases

from spml.prepare import boxes, shapes, tables
from spml.prepare.class_list import ClassList

SIZE = (12, 15)
CLASSES = ClassList(pathlib.Path('/nowhere/classes.txt'), ('background', 'cat', 'dog'), None, {})
RULES = shapes.ShapeRules(254, None, 3, shapes.REGIONS)

_SQUARE = [[2, 2], [9, 2], [9, 8], [2, 8]]
_LABELME = {'imageHeight': 12, 'imageWidth': 15, 'imagePath': 'file.jpg', 'shapes': [
    {'label': 'cat', 'shape_type': 'polygon', 'points': _SQUARE},
    {'label': 'dog', 'shape_type': 'rectangle', 'points': _SQUARE[::2]},
    {'label': 'dog', 'shape_type': 'circle', 'points': _SQUARE[:2]},
    {'label': 'cat', 'shape_type': 'linestrip', 'points': _SQUARE}]}
_COCO = {'images': [{'id': 1, 'file_name': 'file.jpg', 'height': 12, 'width': 15}],
         'categories': [{'id': 1, 'name': 'cat'}, {'id': '2', 'name': 'dog'}],
         'annotations': [
             {'id': 1, 'image_id': 1, 'category_id': 2, 'bbox': [2, 2, 7, 6], 'segmentation': [[2, 2, 9, 2, 9, 8]]},
             {'id': 2, 'image_id': 1.0, 'category_id': '1', 'bbox': [0, 0, 15, 12], 'segmentation': {
                 'size': [12, 15], 'counts': [20, 100, 60]}}]}
_VOC = (b'<annotation><filename>file.jpg</filename><size><width>15</width><height>12</height></size><object><name>cat'
        b'</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>')

_odd = st.one_of(st.none(), st.booleans(), st.integers(-3, 99), st.floats(), st.text(max_size=6),
                 st.sampled_from(([], {}, [[]], '1', '1.0', 10 ** 400, -10 ** 30, 1e308, 'cat', [1, 2], {'a': 1})))


def _places(value, place=()):
    """Return the places of all values in a nest, outermost first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, one in inner for found in _places(one, (*place, key)))]


def _replaced(value, edits):
    value = json.loads(json.dumps(value))
    for share, odd, remove in edits:
        places = _places(value)[1:]
        if not places:
            break
        *outer, last = places[int(share * (len(places) - 1))]
        holder = value
        for key in outer:
            holder = holder[key]
        if remove:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(odd)  # a list of `_odd` itself might come to hold itself
    return json.dumps(value).encode()


def _files(content):
    edits = st.lists(st.tuples(st.floats(0, 1), _odd, st.booleans()), max_size=2)
    return st.one_of(NOISE, damaged(json.dumps(content).encode()), st.builds(_replaced, st.just(content), edits))


_cells = st.one_of(st.sampled_from(('a.jpg', 'cat', 'dog', '1', '4', '7.5', 'image', 'x', 'y', 'class', '"', 'nan')),
                   st.text(max_size=4))
_tables = st.builds(lambda rows, sign: '\n'.join(sign.join(row) for row in rows).encode('utf-8', 'surrogatepass'),
                    st.lists(st.lists(_cells, max_size=5), max_size=4), st.sampled_from(',;\t'))
_yolo = st.builds(lambda rows: '\n'.join(' '.join(row) for row in rows).encode('utf-8', 'surrogatepass'), st.lists(
    st.lists(st.one_of(st.sampled_from(('0', '1', '0.5', '0.25', '1e308')), st.text(max_size=3)), max_size=7),
    max_size=3))


def _labelme(path):
    notes = []
    return ([shapes.draw_labelme(path, SIZE, CLASSES, RULES, notes)],
            boxes.read_boxes(boxes.Boxes('labelme', path), SIZE, CLASSES, None, notes))


def _coco(path):
    notes = []
    maps = [shapes.draw_coco(image, SIZE, RULES, notes)
            for image in shapes.read_coco(path, CLASSES, RULES).values()]
    return maps, _boxes(path)


def _boxes(path):
    return [box for one in boxes.find_boxes(path, CLASSES).values()
            for box in boxes.read_boxes(one, SIZE, CLASSES, None, [])]


def _points(path):
    return [point for one in tables.find_points(path).values()
            for point in tables.read_points(one, SIZE, CLASSES, None, [])]


def are_maps_and_boxes(found, path):
    for label in found[0]:
        assert (label.dtype, label.shape) == (np.uint8, SIZE)
        assert set(np.unique(label)) <= {0, 1, 2, 254, 255}
    are_boxes(found[1], path)


def are_boxes(found, path):
    for value, (left, top, right, bottom) in found:
        assert value in (1, 2, 255)
        assert 0 <= left < right <= SIZE[1]
        assert 0 <= top < bottom <= SIZE[0]


def are_points(found, path):
    for value, point in found:
        assert value in (0, 1, 2, 255)
        assert (np.rint(point) >= 0).all()
        assert (np.rint(point) < SIZE[::-1]).all()


def are_tags(tags, path):
    assert all(set(ids) <= {0, 1, 2} for ids in tags.values())


READERS = {
    'labelme': (_labelme, _files(_LABELME), are_maps_and_boxes),
    'coco': (_coco, _files(_COCO), are_maps_and_boxes),
    'voc': (lambda path: boxes.read_boxes(boxes.Boxes('voc', path), SIZE, CLASSES, None, []),
            st.one_of(NOISE, damaged(_VOC)), are_boxes),
    'yolo': (lambda path: _boxes(path.parent), st.one_of(NOISE, damaged(b'0 .5 .5 .2 .2\n1 .1 .1 .2 .1'), _yolo),
             are_boxes),
    'points': (_points, st.one_of(NOISE, damaged(b'a.jpg,4,7.5,cat\na.jpg,1,1,dog\n'), _tables), are_points),
    'tags': (lambda path: tables.read_tags(path, CLASSES),
             st.one_of(NOISE, damaged(b'a.jpg,cat,dog\nb.jpg,1\n'), _tables), are_tags),
}


@pytest.mark.parametrize('number', [80, pytest.param(800, marks=pytest.mark.slow)])
@pytest.mark.parametrize('form', READERS)
def test_any_annotation_gives_labels_or_one_line(tmp_path, tmp_path_factory, form, number):
    hypothesis.configuration.set_hypothesis_home_dir(tmp_path_factory.getbasetemp() / 'hypothesis')
    good, bad = read_cases(*READERS[form], tmp_path / 'file.txt', number)
    assert good > 0
    assert bad > 0
