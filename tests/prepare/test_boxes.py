"""Boxes of LabelMe, COCO, VOC and YOLO: one object at x 4..23, y 4..19 of an image of 64 x 48, whatever the form."""
import json
import pathlib
import pickle

import pytest
from originals import write_coco

from spml.errors import DataError
from spml.prepare import notes as noted
from spml.prepare.boxes import find_boxes, read_boxes

SIZE = (48, 64)
BOX = (4, 4, 24, 20)
SHARES = '0.21875 0.25 0.3125 0.33333333'  # middle and size of it


@pytest.fixture
def classes(class_list):
    return class_list('background\ncat\npalm tree\n')


class Writer:
    """Writes the boxes of an image `a` in one of the forms: (name, (left, top, right, bottom)), the latter excluded."""

    def __init__(self, folder):
        self.folder = folder / 'labels'
        self.folder.mkdir()

    def labelme(self, boxes, height=48, width=64):
        shapes = [{'label': name, 'shape_type': 'rectangle', 'points': [[left, top], [right - 1, bottom - 1]]}
                  for name, (left, top, right, bottom) in boxes]
        (self.folder / 'a.json').write_text(json.dumps({'shapes': shapes, 'imageHeight': height, 'imageWidth': width}))
        return self.folder

    def voc(self, boxes, height=48, width=64):
        objects = ''.join(
            f'<object><name>{name}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax>'
            f'<ymax>{bottom}</ymax></bndbox></object>' for name, (left, top, right, bottom) in boxes)
        (self.folder / 'a.xml').write_text(f'<annotation><filename>a.jpg</filename><size><width>{width}</width><height>'
                                           f'{height}</height><depth>3</depth></size>{objects}</annotation>')
        return self.folder

    def coco(self, boxes, height=48, width=64):
        path = self.folder / 'coco.json'
        names = sorted({name for name, _ in boxes})
        annotations = [(0, names.index(name), {'bbox': [left, top, right - left, bottom - top]})
                       for name, (left, top, right, bottom) in boxes]
        write_coco(path, ['a.jpg'], annotations, names, (height, width))
        return path

    def yolo(self, boxes, height=48, width=64):
        names = sorted({name for name, _ in boxes})
        (self.folder / 'classes.txt').write_text('\n'.join(names))
        (self.folder / 'a.txt').write_text(''.join(
            f'{names.index(name)} {(left + right) / 128:.6f} {(top + bottom) / 96:.6f} {(right - left) / 64:.6f} '
            f'{(bottom - top) / 48:.6f}\n' for name, (left, top, right, bottom) in boxes))
        return self.folder


@pytest.fixture
def writer(tmp_path):
    return Writer(tmp_path)


def boxes_of(path, classes, notes=None, others=None, size=SIZE, **options):
    (name, boxes), = find_boxes(path, classes, **options).items()
    assert pathlib.PurePath(name).stem == 'a'
    boxes = pickle.loads(pickle.dumps(boxes))  # as workers get it
    return read_boxes(boxes, size, classes, others, [] if notes is None else notes, **options)


@pytest.mark.parametrize('form', ['labelme', 'voc', 'coco', 'yolo'])
def test_the_same_boxes_in_every_form(writer, classes, rng, form):
    boxes = [('cat', BOX), ('palm tree', (0, 0, 64, 48)), ('cat', (63, 47, 64, 48))]
    for _ in range(5):
        left, top = (int(rng.integers(0, side - 1)) for side in (64, 48))
        boxes.append(('palm tree', (left, top, int(rng.integers(left + 2, 65)), int(rng.integers(top + 2, 49)))))
    if form == 'labelme':
        boxes.remove(('cat', (63, 47, 64, 48)))  # two equal corners
    notes = []
    found = boxes_of(getattr(writer, form)(boxes), classes, notes)
    assert found == [(classes.names.index(name), box) for name, box in boxes]
    assert notes == []


@pytest.mark.parametrize('form', ['labelme', 'voc', 'coco'])
def test_another_stated_size_is_refused(writer, classes, form):
    path = getattr(writer, form)([('cat', BOX)], height=96, width=128)
    with pytest.raises(DataError, match=r'128x96 .* 64x48; .*the photo that was annotated'):
        boxes_of(path, classes)


@pytest.mark.parametrize('form', ['labelme', 'voc', 'coco', 'yolo'])
def test_boxes_of_classes_that_are_not_listed(writer, classes, form):
    path = getattr(writer, form)([('cat', BOX), ('dog', (1, 1, 9, 9))])
    with pytest.raises(DataError, match=r"'dog' is not in .*classes\.txt"):
        boxes_of(path, classes)
    assert boxes_of(path, classes, others=0) == [(1, BOX)]
    assert boxes_of(path, classes, others=255) == [(1, BOX), (255, (1, 1, 9, 9))]


@pytest.mark.parametrize('form', ['labelme', 'voc', 'coco'])
def test_boxes_that_leave_the_image(writer, classes, form):
    notes = []
    found = boxes_of(getattr(writer, form)([('cat', (-9, 4, 24, 20)), ('cat', (50, 30, 65, 49)),
                                            ('cat', (70, 4, 90, 20)), ('cat', (30, 30, 90, 40))]), classes, notes)
    assert found == [(1, (0, 4, 24, 20)), (1, (50, 30, 64, 48)), (1, (30, 30, 64, 40))]  # a pixel: rounding
    assert [kind for kind, _ in notes] == [noted.CUT, noted.NOTHING, noted.CUT]
    assert 'x = -9' in notes[0][1]


def test_numbers_between_pixels(writer, classes):
    path = writer.coco([('cat', (3.6, 4.4, 24.4, 19.6)), ('palm tree', (5, 5, 5.2, 9))])
    notes = []
    assert boxes_of(path, classes, notes) == [(1, BOX)]
    assert notes[0][0] == noted.NOTHING
    path = writer.voc([('cat', (3.6, 4.4, 24.4, 19.6))])
    path.joinpath('coco.json').unlink()
    assert boxes_of(path, classes) == [(1, BOX)]


@pytest.mark.parametrize('box', [[4, 4, -20, 16], [4, 4, 20], [4, 4, 20, 'x'], [4, 4, 20, float('nan')], None, 'x'])
def test_a_bbox_of_coco_that_is_none(writer, classes, box):
    path = writer.coco([('cat', BOX)])
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = box
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'coco\.json: annotation 0: .*bbox'):
        boxes_of(path, classes)


def test_voc_files_of_tools(writer, classes):
    path = writer.voc([('cat', BOX)], height=0, width=0)  # a tool that did not know it
    assert boxes_of(path, classes) == [(1, BOX)]
    text = (path / 'a.xml').read_text()
    (path / 'a.xml').write_text(text.replace('<width>0<', '<width><').replace('<height>0<', '<height> <'))
    assert boxes_of(path, classes) == [(1, BOX)]
    (path / 'a.xml').write_text(text.replace('a.jpg', 'other.jpg').replace('<xmin>5', '<xmin>0'))
    notes = []
    assert boxes_of(path, classes, notes) == [(1, (0, 4, 24, 20))]
    assert [kind for kind, _ in notes] == [noted.RENAMED]
    (path / 'a.xml').write_text(text.replace('<xmax>24', '<xmax>2'))
    with pytest.raises(DataError, match=r'a\.xml: object 1 .* must rise'):
        boxes_of(path, classes)


def test_shapes_of_labelme_that_are_no_boxes_are_noted(writer, classes):
    path = writer.labelme([('cat', BOX), ('__ignore__', (30, 30, 40, 40)), ('_background_', (1, 1, 4, 4))])
    content = json.loads((path / 'a.json').read_text())
    corners = [[4, 4], [23, 4], [23, 19], [4, 19]]
    content['shapes'] += [{'label': 'cat', 'shape_type': kind, 'points': points} for kind, points in (
        ('rectangle', corners), ('polygon', corners), ('rectangle', [[9, 9], [9, 20]]))]
    (path / 'a.json').write_text(json.dumps(content))
    notes = []
    assert boxes_of(path, classes, notes) == [(1, BOX), (255, (30, 30, 40, 40)), (1, BOX)]
    assert [kind for kind, _ in notes] == [noted.BACKGROUND, noted.NO_BOX, noted.NOTHING]


@pytest.mark.parametrize(('name', 'text'), [
    ('classes.txt', 'palm tree\ncat\n'), ('obj.names', 'palm tree\n\ncat\n'), ('data.yaml', 'names: [palm tree, cat]'),
    ('data.yaml', 'names: {1: cat, 0: palm tree}\nnc: 2')])
@pytest.mark.parametrize('above', [0, 1, 2])
def test_the_list_of_classes_of_yolo(writer, classes, monkeypatch, name, text, above):
    is_read = above < 2 or name == 'data.yaml'  # the others, so far up, may be of something else
    expected = [(1, BOX), (2, (0, 0, 64, 48))] if is_read else [(2, BOX), (1, (0, 0, 64, 48))]
    folder = writer.folder / 'train' / 'labels'
    folder.mkdir(parents=True)
    (folder / 'a.txt').write_text(f'1 {SHARES}\n\n0 0.5 0.5 1 1\n')
    [folder, *folder.parents][above].joinpath(name).write_text(text)
    assert boxes_of(folder, classes) == expected
    monkeypatch.chdir(folder.parent)
    assert boxes_of(pathlib.Path('labels'), classes) == expected


def test_numbers_of_yolo_without_a_list(writer, classes, caplog):
    assert classes.path == writer.folder.parent / 'classes.txt'  # where YOLO's might be
    (writer.folder / 'a.txt').write_text(f'0 {SHARES}\n1 0.1 0.1 0.9 0.1 0.9 0.9\n')
    assert boxes_of(writer.folder, classes) == [(1, BOX), (2, (6, 5, 58, 43))]  # the second is a polygon
    assert f'{classes.path}: 0 is cat, 1 is palm tree' in caplog.text
    assert boxes_of(writer.folder, classes, has_background=False) == [(0, BOX), (1, (6, 5, 58, 43))]
    for line, words in (('2 0.5 0.5 1 1', r'classes are 0\.\.1'), ('0 12 20 4 4', 'are these pixels'),
                        ('0 0.5 0.5 1', '4 fields'), ('0 0.5 0.5 1 1 0.9', '6 fields'), ('0', '1 fields'),
                        ('cat 0.5 0.5 1 1', 'the class cat'), ('0 0.5 x 1 1', "'x'"), ('0 nan 0.5 1 1', "'nan'")):
        (writer.folder / 'a.txt').write_text(f'0 {SHARES}\n{line}\n')
        with pytest.raises(DataError, match=rf'a\.txt:2: .*{words}'):
            boxes_of(writer.folder, classes)
    (writer.folder / 'data.yaml').write_text('nc: 2')
    with pytest.raises(DataError, match=r'data\.yaml: has no list `names`'):
        boxes_of(writer.folder, classes)


def test_folders_of_several_formats_or_none(writer, classes):
    writer.voc([('cat', BOX)])
    writer.labelme([('cat', BOX)])
    with pytest.raises(DataError, match=r'\.json and \.xml'):
        find_boxes(writer.folder, classes)
    (writer.folder / 'empty').mkdir()
    assert find_boxes(writer.folder / 'empty', classes) == {}
    with pytest.raises(DataError, match='cannot read'):
        find_boxes(writer.folder / 'missing.json', classes)


def test_boxes_of_the_background_are_noted(writer, classes):
    # A copy of the class list beside YOLO's files, whose own numbers do not count the background.
    (writer.yolo([('background', BOX), ('Cat ', BOX)]) / 'classes.txt').write_text('background\ncat\npalm tree\n')
    notes = []
    (writer.folder / 'a.txt').write_text(f'0 {SHARES}\n1 {SHARES}\n')
    assert boxes_of(writer.folder, classes, notes) == [(1, BOX)]
    (kind, place), = notes
    assert kind == noted.BACKGROUND
    assert place.endswith('a.txt:1')


def test_names_of_boxes_that_differ_in_case(writer, classes):
    assert boxes_of(writer.voc([('Cat', BOX), ('PALM  tree', BOX)]), classes, others=0) == [(1, BOX), (2, BOX)]


def test_a_size_of_coco_that_is_not_known(writer, classes):
    assert boxes_of(writer.coco([('cat', BOX)], height=0, width=0), classes) == [(1, BOX)]


def test_shares_that_were_rounded(writer, classes):
    path = writer.yolo([('cat', BOX)])
    (path / 'a.txt').write_text('0 0.5 0.5 1.0000001 1\n0 0 -0.00001 1.00002 0 1 1\n')
    assert boxes_of(path, classes) == [(1, (0, 0, 64, 48))] * 2
    (path / 'a.txt').write_text('0 0.5 0.5 1.01 1\n')
    with pytest.raises(DataError, match=r"a\.txt:1: '1.01' is not a share"):
        boxes_of(path, classes)
