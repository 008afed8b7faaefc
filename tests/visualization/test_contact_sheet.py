import numpy as np
import pytest
from PIL import Image

from spml.visualization.pictures import Row, contact_sheet

GAP, TEXT = 6, 20


def centre(sheet, row_top, height, column, cell_width):
    return tuple(sheet[row_top + height // 2, GAP + column * (cell_width + GAP) + cell_width // 2].tolist())


def test_cells_hold_what_they_should(tmp_path):
    label = np.array([[1, 1], [1, 1]], np.uint8)
    rows = [Row('first', np.full((20, 40, 3), (10, 200, 30), np.uint8), (label, None)),
            Row('second \u00e4\u4e2d', np.full((30, 30, 3), (250, 5, 7), np.uint8), (label * 255, label * 9))]
    contact_sheet(rows, ('image', 'weak', 'truth'), tmp_path / 'new/sheet.png', ['a', 'b', 'c', 'd'], cell_width=80)
    sheet = np.asarray(Image.open(tmp_path / 'new/sheet.png'))
    assert sheet.shape[1] == GAP + 3 * (80 + GAP)
    first, second = (TEXT, 40), (TEXT + 40 + TEXT + GAP, 80)
    assert centre(sheet, *first, 0, 80) == (10, 200, 30)
    assert centre(sheet, *first, 1, 80) == (128, 0, 0)
    assert centre(sheet, *first, 2, 80) == (228, 228, 228)
    assert centre(sheet, *second, 0, 80) == (250, 5, 7)
    assert centre(sheet, *second, 1, 80) == (224, 224, 192)
    assert centre(sheet, *second, 2, 80) == (72, 72, 72)
    # The legend is below and shows every class's colour.
    legend = {tuple(pixel) for pixel in sheet[second[0] + 80 + TEXT:].reshape(-1, 3).tolist()}
    assert {(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (72, 72, 72), (224, 224, 192)} <= legend
    # Header and captions are drawn: there is dark ink in their strips.
    for top in (0, TEXT + 40, second[0] + 80):
        assert sheet[top:top + TEXT].min() < 100


def test_a_column_of_which_no_image_has_anything_is_left_out(tmp_path):
    label, image = np.ones((4, 8), np.uint8), np.full((4, 8, 3), 9, np.uint8)
    rows = [Row('a', image, (None, None, label, None)), Row('b', image, (None, label * 2, None, None))]
    contact_sheet(rows, ('image', 'weak', 'pseudo', 'prediction', 'truth'), tmp_path / 'sheet.png', 'abc',
                  cell_width=80)
    sheet = np.asarray(Image.open(tmp_path / 'sheet.png'))
    assert sheet.shape[1] == GAP + 3 * (80 + GAP)
    tops, grey = (TEXT, TEXT + 40 + TEXT + GAP), (228, 228, 228)
    assert [[centre(sheet, top, 40, column, 80) for column in (1, 2)] for top in tops] == [
        [grey, (128, 0, 0)], [(0, 128, 0), grey]]


def test_label_edges_stay_sharp(tmp_path):
    label = np.zeros((7, 7), np.uint8)
    label[:, 3:] = 1
    contact_sheet([Row('x', np.zeros((7, 7, 3), np.uint8), (label,))], ('image', 'truth'), tmp_path / 's.png', 'ab',
                  cell_width=100)
    cell = np.asarray(Image.open(tmp_path / 's.png'))[TEXT:TEXT + 100, GAP + 100 + GAP:GAP + 100 + GAP + 100]
    assert {tuple(pixel) for pixel in cell.reshape(-1, 3).tolist()} == {(0, 0, 0), (128, 0, 0)}


@pytest.fixture
def data(tmp_path, rng):
    for folder in ('img', 'weak', 'pseudo', 'pred', 'gt'):
        (tmp_path / folder).mkdir()
    for name in ('t0', 't1', 't2', 't3', 't4', 'v0', 'v1'):
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(tmp_path / f'img/{name}.jpg')
        for folder in ('weak', 'pseudo') if name[0] == 't' else ('pred', 'gt'):
            Image.fromarray(np.full((16, 20), 1 + int(name[1]), np.uint8)).save(tmp_path / f'{folder}/{name}.png')
    (tmp_path / 'train.txt').write_text(''.join(f'img/t{i}.jpg weak/t{i}.png weak/t{i}.png\n' for i in range(5)))
    (tmp_path / 'full.txt').write_text('img/t2.jpg gt/v0.png\n')
    (tmp_path / 'val.txt').write_text('img/v0.jpg\nimg/v1.jpg gt/v1.png\n')
    return tmp_path


@pytest.fixture
def words(data):
    return ['contact_sheet', '--data_dir', data, '--num_classes', 7, '--out', data / 'out/sheet.png']


def test_script_shows_training_then_validation_images(data, words, works):
    printed = works(*words, '--train_list', data / 'train.txt', '--val_list', data / 'val.txt', '--num_images', 3,
                    '--full_list', data / 'full.txt', '--pseudo_dir', data / 'pseudo', '--pred_dir', data / 'pred')
    assert str(data / 'out/sheet.png') in printed
    sheet = np.asarray(Image.open(data / 'out/sheet.png'))
    height = 160  # 200 * 16 / 20
    tops = [TEXT + index * (height + TEXT + GAP) for index in range(5)]
    grey, colours = (228, 228, 228), [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    for top, name in zip(tops[:3], (0, 2, 4), strict=True):
        assert [centre(sheet, top, height, column, 200) for column in (1, 2, 3, 4)] == [
            colours[name], colours[name], grey, colours[0] if name == 2 else grey]
    for top, name in zip(tops[3:], (0, 1), strict=True):
        assert [centre(sheet, top, height, column, 200) for column in (1, 2, 3, 4)] == [
            grey, grey, colours[name], colours[1] if name == 1 else grey]


def test_script_names_what_is_wrong(data, words, fails):
    fails(*words, naming=['--train_list'])
    for option, value, named in (('--pred_dir', 'nowhere', 'nowhere'), ('--val_list', 'nowhere.txt', 'nowhere.txt'),
                                 ('--class_names', 'a,b', '--class_names')):
        fails(*words, '--train_list', data / 'train.txt', option, value, naming=[named])


def test_images_of_one_name_keep_their_own_truth_and_prediction(data, words, works):
    (data / 'other').mkdir()
    (data / 'img/v0.jpg').rename(data / 'other/t0.jpg')
    for folder in ('gt', 'pred'):
        (data / f'{folder}/v0.png').rename(data / f'{folder}/t0.png')  # of class 1
    Image.fromarray(np.full((16, 20), 5, np.uint8)).save(data / 'gt/of_train.png')
    (data / 'train.txt').write_text('img/t0.jpg weak/t0.png weak/t0.png\n')
    (data / 'full.txt').write_text('img/t0.jpg gt/of_train.png\n')
    (data / 'val.txt').write_text('other/t0.jpg gt/t0.png\n')
    works(*words, '--train_list', data / 'train.txt', '--val_list', data / 'val.txt', '--full_list', data / 'full.txt',
          '--pseudo_dir', data / 'pseudo', '--pred_dir', data / 'pred')
    sheet = np.asarray(Image.open(data / 'out/sheet.png'))
    grey, one, five = (228, 228, 228), (128, 0, 0), (128, 0, 128)
    for top, expected in ((TEXT, [one, one, grey, five]), (TEXT + 160 + TEXT + GAP, [grey, grey, one, one])):
        assert [centre(sheet, top, 160, column, 200) for column in (1, 2, 3, 4)] == expected


def test_a_folder_of_pseudo_labels_without_any(data, words, works):
    printed = works(*words, '--train_list', data / 'train.txt', '--pseudo_dir', data)
    assert f'note: {data} holds no map of the training images' in printed
