"""Masks and scribbles of every kind of PNG, pixel by pixel."""
import numpy as np
import pytest
from originals import indexed
from PIL import Image
from raw_files import png

from spml.errors import DataError
from spml.prepare.drawing_survey import coding, find_first_id, survey_mask, survey_scribbles
from spml.prepare.drawings import Coding, read_mask, read_scribbles

FROM_ONE = Coding(False, first_id=1)
COLOURS = [(0, 0, 0), (250, 10, 10), (10, 250, 10), (200, 200, 200)]  # of three classes and void


@pytest.fixture
def plain(class_list):
    return class_list('background\ncat\ntree\n')


@pytest.fixture
def coloured(class_list):
    names = ('background', 'cat', 'tree', 'void')
    return class_list(''.join(f'{name} {r} {g} {b}\n' for name, (r, g, b) in zip(names, COLOURS, strict=True)))


@pytest.fixture
def ids():
    """Ids 0..3, each there, where 3 means void."""
    ids = np.random.default_rng().integers(0, 4, (9, 11))
    ids[0, :4] = range(4)
    return ids


def save(tmp_path, array, mode=None, palette=None):
    image = Image.fromarray(np.asarray(array, np.uint8)) if palette is None else indexed(array, palette)
    path = tmp_path / 'drawing.png'
    (image.convert(mode) if mode else image).save(path)
    return path


def test_masks_of_ids(tmp_path, plain, coloured, ids):
    labels = np.where(ids == 3, 255, ids)
    for classes in (plain, coloured):
        np.testing.assert_array_equal(read_mask(save(tmp_path, labels), classes), labels)
    palette = np.random.default_rng().integers(0, 256, (256, 3)).tolist()
    np.testing.assert_array_equal(read_mask(save(tmp_path, labels, palette=palette), plain), labels)
    labels[2, 2] = 254
    assert read_mask(save(tmp_path, labels), plain)[2, 2] == 254
    labels[4, 5] = 3
    with pytest.raises(DataError, match=r'drawing\.png: .*x = 5, y = 4 .*value 3, .*classes\.txt.* 0\.\.2'):
        read_mask(save(tmp_path, labels), plain)


def test_masks_in_colours(tmp_path, coloured, ids):
    labels = np.where(ids == 3, 255, ids)
    rgb = np.array(COLOURS)[ids]
    for mode in ('RGB', 'RGBA'):
        np.testing.assert_array_equal(read_mask(save(tmp_path, rgb, mode), coloured), labels)
    # The palette's order does not matter, its colours do.
    order = np.random.default_rng().permutation(4)
    shuffled = save(tmp_path, np.argsort(order)[ids], palette=[COLOURS[index] for index in order])
    np.testing.assert_array_equal(read_mask(shuffled, coloured), labels)
    rgb[6, 3] = (250, 10, 11)
    with pytest.raises(DataError, match=r'x = 3, y = 6 .*\(250, 10, 11\)'):
        read_mask(save(tmp_path, rgb), coloured)
    rgba = np.dstack([np.array(COLOURS)[ids], np.full(ids.shape, 255)])
    rgba[1, 1, 3] = 0
    with pytest.raises(DataError, match='transparent'):
        read_mask(save(tmp_path, rgba), coloured)


@pytest.mark.parametrize('undrawn', [3, 254, 255])
def test_scribbles_of_ids(tmp_path, plain, coloured, ids, undrawn):
    ids[5:] = 3  # most of it is not drawn
    drawn = np.where(ids == 3, undrawn, ids)
    expected = np.where(ids == 3, 254, ids)
    for classes in (plain, coloured):
        for given in (None, undrawn, (undrawn,) * 3):
            np.testing.assert_array_equal(read_scribbles(save(tmp_path, drawn), classes, given), expected)


def test_scribbles_whose_zero_or_value_of_a_class_is_not_drawn(tmp_path, plain, ids):
    path = save(tmp_path, (ids + 1) % 4)  # the first class is 1, and so on
    np.testing.assert_array_equal(read_scribbles(path, plain, 0, FROM_ONE), np.where(ids == 3, 254, ids))
    np.testing.assert_array_equal(read_scribbles(path, plain, 0), np.where(
        np.isin(ids, (0, 1)), ids + 1, 254))  # or the ids as they are listed, 3 being none
    np.testing.assert_array_equal(read_scribbles(save(tmp_path, ids), plain, 1), np.where(ids % 2 == 1, 254, ids))


def test_which_value_is_the_first_class_where_0_is_not_drawn(tmp_path, plain, coloured):
    def first_id(drawings, classes=plain, given=None, palette=None, undrawn=0, palettes=None):
        surveys = [survey_scribbles(classes, undrawn, palettes, given, save(tmp_path, drawing, palette=palette))
                   for drawing in drawings]
        by = coding(surveys, classes, palettes)
        return find_first_id(surveys, classes, by, undrawn, given), sum(survey.of_none for survey in surveys)

    short, reaching = np.zeros((2, 6, 7), int)
    short[1, :4], reaching[2, :5] = (1, 1, 2, 2), 3
    assert first_id([short, reaching]) == (1, 0)
    assert first_id([short, reaching], given=0) == (0, 5)  # 3 is no class then
    assert first_id([short], given=1) == (1, 0)
    with pytest.raises(DataError, match=r'drawing\.png: 0 is not drawn, .*value 3, .*--first_id 1 .*--first_id 0 if '
                                        r'1 means cat'):
        first_id([short])
    with pytest.raises(DataError, match='0 is not drawn'):
        first_id([np.where(short == 2, 77, short)])  # what is of no class says nothing
    assert first_id([short], undrawn=2)[0] == 0
    # Where colours say the class, no number does; where somebody says that numbers do, they do.
    voc = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    shuffled = [np.array([0, 2, 1])[short], short]
    assert first_id(shuffled[1:], coloured, palette=COLOURS, undrawn=(0, 0, 0)) == (None, 0)
    surveys = [survey_scribbles(plain, 0, None, None, save(tmp_path, drawing, palette=palette)) for drawing, palette in
               zip(shuffled, ([voc[0], voc[2], voc[1]], voc), strict=True)]
    assert coding(surveys, plain).by_colour
    assert find_first_id(surveys, plain, coding(surveys, plain), 0) is None
    assert first_id([reaching], coloured, palette=COLOURS, palettes='ids') == (1, 0)
    with pytest.raises(DataError, match='0 is not drawn'):
        first_id([short], coloured, palette=COLOURS, palettes='ids')


def test_ids_that_may_count_from_one_are_asked_about(tmp_path, plain, ids):
    # A thick stroke of the last class, on paper of 0: as ids from 0, the paper would be drawn with the first class.
    drawn = np.zeros((9, 11), int)
    drawn[2], drawn[4], drawn[6:8] = 1, 2, 3
    path = save(tmp_path, drawn)
    with pytest.raises(DataError, match=r'drawing\.png: .*--undrawn 0.*--undrawn 3'):
        read_scribbles(path, plain)
    np.testing.assert_array_equal(read_scribbles(path, plain, 0, FROM_ONE), np.where(drawn == 0, 254, drawn - 1))
    np.testing.assert_array_equal(read_scribbles(path, plain, 3), np.where(drawn == 3, 254, drawn))


def test_scribbles_in_colours(tmp_path, coloured, ids):
    # Void is drawn, too; white paper, and the soft edge of a brush, are not.
    colours = np.array([*COLOURS, (255, 255, 255), (250, 130, 130)])
    ids[5:7], ids[7:] = 4, 5
    expected = np.choose(ids, [0, 1, 2, 255, 254, 254])
    np.testing.assert_array_equal(read_scribbles(save(tmp_path, colours[ids]), coloured), expected)
    without_ground = read_scribbles(save(tmp_path, colours[ids]), coloured, (0, 0, 0))
    np.testing.assert_array_equal(without_ground, np.where(expected == 0, 254, expected))


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_transparent_pixels_are_not_drawn(tmp_path, plain, coloured, ids, mode):
    hidden = ids == 3
    if mode == 'P':
        path = save(tmp_path, ids, palette=COLOURS)
        Image.open(path).save(path, transparency=3)
    else:
        pixels = np.array(COLOURS)[np.where(hidden, 1, ids)] if mode == 'RGBA' else np.where(hidden, 1, ids)
        path = save(tmp_path, np.dstack([pixels, np.where(hidden, 0, 255)]))
    assert Image.open(path).mode == mode
    classes = coloured if mode == 'RGBA' else plain
    np.testing.assert_array_equal(read_scribbles(path, classes), np.where(hidden, 254, ids))


def test_scribbles_of_nothing_and_of_everything(tmp_path, plain):
    with pytest.raises(DataError, match=r'drawing\.png: nothing is drawn'):
        read_scribbles(save(tmp_path, np.full((4, 5), 254)), plain)
    with pytest.raises(DataError, match=r'drawing\.png: every pixel .*--undrawn'):
        read_scribbles(save(tmp_path, np.ones((4, 5))), plain)


@pytest.mark.parametrize(('write', 'words'), [
    (lambda path: Image.fromarray(np.zeros((4, 5), np.uint16)).save(path), '16-bit'),
    (lambda path: Image.new('1', (5, 4)).save(path), '1-bit'),
    (lambda path: path.write_bytes(png(4, 1, 2, 0, b'\0\x1b')), '2-bit PNG'),
    (lambda path: path.write_bytes(b''), 'not a readable drawing; it must be an 8-bit PNG'),
    (lambda path: path.write_bytes(b'\x89PNG\r\n\x1a\n'), 'not a readable drawing; it must be an 8-bit PNG'),
    (lambda path: Image.new('L', (5, 4)).save(path, format='JPEG'), 'not a readable drawing; it must be an 8-bit PNG'),
    (lambda path: None, 'no such file')])
@pytest.mark.parametrize('read', [read_mask, read_scribbles])
def test_files_that_are_no_drawing(tmp_path, plain, read, write, words):
    path = tmp_path / 'drawing.png'
    write(path)
    with pytest.raises(DataError, match=rf'drawing\.png: .*{words}'):
        read(path, plain)


@pytest.mark.parametrize('mode', ['L', 'P', 'RGB'])
@pytest.mark.parametrize('ending', ['tif', 'bmp'])
def test_other_lossless_files(tmp_path, coloured, ids, mode, ending):
    labels = np.where(ids == 3, 255, ids)
    path = tmp_path / f'drawing.{ending}'
    png_path = save(tmp_path, np.array(COLOURS)[ids]) if mode == 'RGB' else save(
        tmp_path, labels if mode == 'L' else ids, palette=COLOURS if mode == 'P' else None)
    Image.open(png_path).save(path)
    assert Image.open(path).mode == mode
    np.testing.assert_array_equal(read_mask(path, coloured), labels)


def test_tiffs_that_cannot_hold_labels(tmp_path, plain):
    path = tmp_path / 'drawing.tif'
    Image.new('RGB', (16, 16)).save(path, compression='jpeg')
    with pytest.raises(DataError, match=r'drawing\.tif: a TIFF with lossy compression'):
        read_mask(path, plain)
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(path)
    with pytest.raises(DataError, match='16-bit TIFF'):
        read_mask(path, plain)


def test_values_of_masks_that_mean_something_else(tmp_path, plain, ids):
    path = save(tmp_path, np.choose(ids, [0, 255, 2, 11]))
    with pytest.raises(DataError, match=r'value 11.*--fix 11=void'):
        read_mask(path, plain)
    found = read_mask(path, plain, Coding(False, ((255, 1), (11, 255))))
    np.testing.assert_array_equal(found, np.choose(ids, [0, 1, 2, 255]))


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]


def masks_of(folder, classes, palettes):
    """Masks whose first row holds the numbers of each palette in turn, and their Coding."""
    paths = [folder / f'{number}.png' for number in range(len(palettes))]
    for path, palette in zip(paths, palettes, strict=True):
        indexed([range(len(palette))] * 2, palette).save(path)
    return paths, coding([survey_mask(path) for path in paths], classes)


def test_numbers_of_palettes_that_agree_are_ids(tmp_path, plain, coloured):
    odd = [(9, 9, 9), (200, 0, 0), (3, 2, 1)]
    for palettes in ([odd, odd[:2]], [VOC, VOC[:2]], [[(0, 0, 0)] * 3, [(0, 0, 0)] * 2]):
        paths, found = masks_of(tmp_path, plain, palettes)
        assert not found.by_colour
        assert read_mask(paths[0], plain, found).tolist() == [[0, 1, 2]] * 2
    assert masks_of(tmp_path, coloured, [VOC])[1].by_colour


def test_programs_that_number_colours_anew_in_every_file(tmp_path, plain):
    """One photo of ground and cat, one of ground and tree: both are 0 and 1."""
    paths, found = masks_of(tmp_path, plain, [VOC[:2], [VOC[0], VOC[2]], [VOC[2], VOC[1]]])
    assert found.by_colour
    assert [read_mask(path, plain, found)[0].tolist() for path in paths] == [[0, 1], [0, 2], [2, 1]]
    for palettes in ([[VOC[0], (7, 7, 7)], [VOC[0], (8, 8, 8)]], [[VOC[0], (7, 7, 7)], [VOC[0], VOC[1], (7, 7, 7)]]):
        with pytest.raises(DataError, match=r'1\.png: the palettes .*0\.png.*--palettes ids'):
            masks_of(tmp_path, plain, palettes)
    surveys = [survey_mask(path) for path in paths]
    assert coding(surveys, plain, 'ids') == Coding(False)
    with pytest.raises(DataError, match='PASCAL VOC gives to the class 2'):
        masks_of(tmp_path, plain, [[VOC[0], VOC[2]]])


def resampled(pixels, premultiplied):
    """(H, W, 4) at 1.5 times its size, as a program that knows of transparency does it, or one that does not."""
    image = Image.fromarray(pixels)
    size = [side * 3 // 2 for side in image.size]
    if premultiplied:
        return image.resize(size, Image.Resampling.BICUBIC)
    bands = [band.resize(size, Image.Resampling.BICUBIC) for band in image.split()]
    return Image.merge('RGBA', bands)


@pytest.mark.parametrize('premultiplied', [True, False])
def test_soft_edges_count_as_the_nearest_colour(tmp_path, coloured, premultiplied):
    rng = np.random.default_rng()
    pixels = np.zeros((48, 64, 4), np.uint8)
    if not premultiplied:
        pixels[..., :3] = 255  # what transparent pixels have is seen in the edges
    top, left = rng.integers(2, 8, 2)
    pixels[top:top + 12, left:left + 20] = *COLOURS[1], 255
    pixels[30:40, 30:45] = *COLOURS[2], 255
    image = resampled(pixels, premultiplied)
    path = tmp_path / 'soft.png'
    image.save(path)
    rgba = np.array(image)
    drawn = rgba[..., 3] >= 128
    labels = read_scribbles(path, coloured)
    wanted = np.full(drawn.shape, 254)
    half = drawn.shape[0] // 2
    wanted[:half][drawn[:half]], wanted[half:][drawn[half:]] = 1, 2
    survey = survey_scribbles(coloured, None, None, None, path)
    assert survey.drawn == drawn.sum()
    assert survey.lost == ((labels == 254) & drawn).sum()
    exact = (rgba[..., :3][:, :, None] == np.array(COLOURS)).all(-1).any(-1)
    assert survey.snapped == ((labels != 254) & ~exact).sum()
    assert (labels[labels != 254] == wanted[labels != 254]).all()
    if premultiplied:
        np.testing.assert_array_equal(labels, wanted)
        assert survey.lost == 0
    else:
        assert 0.7 * drawn.sum() < (labels != 254).sum() < drawn.sum()


def test_soft_edges_on_paper_and_strokes_on_a_photo(tmp_path, coloured):
    rng = np.random.default_rng()
    pixels = np.full((20, 30, 3), 255)
    pixels[3:9, 4:12], pixels[9, 4:12] = COLOURS[1], (250, 40, 40)
    pixels[10, 4:12] = 253  # nearly paper
    labels = read_scribbles(save(tmp_path, pixels), coloured)
    expected = np.full((20, 30), 254)
    expected[3:10, 4:12] = 1
    np.testing.assert_array_equal(labels, expected)
    photo = rng.integers(0, 250, (20, 30, 3))
    photo[:, :15] = photo[:, :15] // 40 + (245, 0, 0)  # a red wall, which nobody drew
    photo[2:5, 20:25] = COLOURS[2]
    labels = read_scribbles(save(tmp_path, photo), coloured)
    wanted = (photo[:, :, None] == np.array(COLOURS)).all(-1)
    np.testing.assert_array_equal(labels, np.where(wanted.any(-1), wanted.argmax(-1), 254))


def test_soft_strokes_on_paper_in_the_colour_of_a_class(tmp_path, coloured):
    pixels = np.zeros((20, 30, 3))  # black is the background
    pixels[3:6, 4:20], pixels[6, 4:20] = COLOURS[1], (125, 5, 5)
    path = save(tmp_path, pixels)
    with pytest.raises(DataError, match=r'9[67] % of its pixels are drawn; say with --undrawn'):
        read_scribbles(path, coloured)
    labels = read_scribbles(path, coloured, (0, 0, 0))
    assert (labels[3:6, 4:20] == 1).all()
    assert (labels == 254).sum() == 600 - 48


@pytest.mark.parametrize(('paper', 'words'), [((0, 0, 0), 'most of it has the colour 0,0,0 .* give --undrawn 0,0,0'),
                                              ((255, 255, 255), None)])
def test_very_soft_strokes_are_no_paper(tmp_path, coloured, paper, words):
    # A stroke whose edge fades over a fourth of the drawing, in many colours: none of them is paper.
    pixels = np.full((20, 60, 3), paper, float)
    pixels[:, 20:25] = COLOURS[1]
    for step, column in enumerate(range(25, 40)):
        for row in range(20):
            share = (step * 20 + row + 1) / 302
            pixels[row, column] = share * np.array(paper) + (1 - share) * np.array(COLOURS[1])
    path = save(tmp_path, pixels)
    if words is not None:
        with pytest.raises(DataError, match=words):
            read_scribbles(path, coloured)
    labels = read_scribbles(path, coloured, words and paper)
    assert (labels[:, 20:25] == 1).all()
    assert (labels[:, :20] == 254).all()
    # Much of one other colour is the paper, and the class that covers half of the drawing is drawn.
    pixels[:, 25:] = 255
    pixels[:, 25:30] = 0
    pixels[:, :20] = 0
    pixels[:, 30:40] = 0
    labels = read_scribbles(save(tmp_path, pixels), coloured)
    assert (labels[:, :20] == 0).all()
    assert (labels[:, 40:] == 254).all()


def test_void_is_no_paper(tmp_path, coloured):
    # Soft strokes on black, and void beside them: what is void is drawn, so black alone may be paper.
    pixels = np.zeros((20, 60, 3))
    pixels[:, 50:] = COLOURS[3]
    pixels[4:8, :40] = COLOURS[1]
    for row, share in ((3, .3), (2, .1), (8, .3), (9, .1), (10, .05)):
        pixels[row, :40] = share * np.array(COLOURS[1])
    path = save(tmp_path, pixels)
    with pytest.raises(DataError, match='most of it has the colour 0,0,0'):
        read_scribbles(path, coloured)
    # A colour that does not occur says that black is drawn; then exact colours count.
    labels = read_scribbles(path, coloured, (1, 2, 3))
    exact = (pixels[:, :, None].astype(int) == np.array(COLOURS)).all(-1)
    np.testing.assert_array_equal(labels, np.where(exact.any(-1), np.array([0, 1, 2, 255])[exact.argmax(-1)], 254))


def test_a_photo_of_which_most_is_drawn_on(tmp_path, coloured, rng):
    photo = rng.integers(60, 180, (20, 30, 3))
    photo[:, :18], photo[5:9, 20:28] = COLOURS[0], COLOURS[2]
    labels = read_scribbles(save(tmp_path, photo), coloured)
    expected = np.full((20, 30), 254)
    expected[:, :18], expected[5:9, 20:28] = 0, 2
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(('lines', 'values'), [
    ('background 128 128 128\ncat 0 0 0\n', (128, 0)), ('background 255 255 255\ncat 0 0 0\n', (255, 0)),
    ('background 1 1 1\ncat 0 0 0\n', (1, 0)), ('background 0 0 0\ncat 255 255 255\n', (0, 255))])
@pytest.mark.parametrize('mode', ['L', 'LA'])
def test_greys_of_the_class_list_are_no_ids(tmp_path, class_list, rng, lines, values, mode):
    # Programs that save as few bytes as they can write grey files where no pixel has another colour.
    classes, path = class_list(lines), tmp_path / 'a.png'
    labels = rng.integers(0, 2, (9, 11))
    labels[0, :2] = 0, 1
    grey = Image.fromarray(np.array(values, np.uint8)[labels])
    grey.convert(mode).save(path)
    surveys = [survey_mask(path)]
    with pytest.raises(DataError, match=r'a\.png: a grey file .* --palettes colours .* --palettes ids'):
        coding(surveys, classes)
    found = coding(surveys, classes, 'colours')
    np.testing.assert_array_equal(read_mask(path, classes, found), labels)
    assert not coding(surveys, classes, 'ids').greys_too


def test_grey_scribbles_in_the_greys_of_the_class_list(tmp_path, class_list):
    classes, path = class_list('background 128 128 128\ncat 0 0 0\n'), tmp_path / 'a.png'
    expected = np.full((48, 64), 254)
    expected[8:12, 6:20], expected[30:34] = 1, 0
    Image.fromarray(np.select([expected == 1, expected == 0], [0, 128], 255).astype(np.uint8)).save(path)
    surveys = [survey_scribbles(classes, None, None, None, path)]
    with pytest.raises(DataError, match='--palettes colours'):
        coding(surveys, classes)
    np.testing.assert_array_equal(read_scribbles(path, classes, None, coding(surveys, classes, 'colours')), expected)


def test_ids_beside_greys_of_the_class_list(tmp_path, class_list):
    # Black is what has no class in street scenes, and 0 the first class.
    classes, path = class_list('road 128 64 128\ncar 0 0 142\nvoid 0 0 0\n'), tmp_path / 'a.png'
    labels = np.arange(6).reshape(2, 3) % 2
    Image.fromarray(labels.astype(np.uint8)).save(path)
    np.testing.assert_array_equal(read_mask(path, classes, coding([survey_mask(path)], classes)), labels)


@pytest.mark.parametrize('ending', ['tif', 'png'])
def test_files_of_several_pages(tmp_path, plain, ids, ending):
    pages = [Image.fromarray((ids % 3 * number).astype(np.uint8)) for number in (0, 1)]
    pages[0].save(tmp_path / f'a.{ending}', save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=rf'a\.{ending}: a .* of 2 pages'):
        read_mask(tmp_path / f'a.{ending}', plain)
    if ending == 'tif':  # a preview is no page
        pages[1].save(tmp_path / 'b.tif', save_all=True, append_images=[pages[1].resize((3, 2))])
        np.testing.assert_array_equal(read_mask(tmp_path / 'b.tif', plain), ids % 3)


def test_a_mask_with_the_orientation_of_its_photo(tmp_path, plain, ids):
    tags = Image.Exif()
    for value in (1, 3, 6):
        tags[0x0112] = value
        Image.fromarray((ids % 3).astype(np.uint8)).save(tmp_path / 'a.png', exif=tags)
        if value == 1:
            np.testing.assert_array_equal(read_mask(tmp_path / 'a.png', plain), ids % 3)
        else:
            with pytest.raises(DataError, match=r'a\.png: has an EXIF orientation'):
                read_mask(tmp_path / 'a.png', plain)


def test_a_palette_in_which_black_is_not_the_first(tmp_path, class_list, rng):
    # Programs order the colours of a palette as they like, here the light one first.
    labels = rng.integers(0, 2, (9, 11)).astype(np.uint8)
    labels[0, :2] = 0, 1
    indexed(1 - labels, [(255, 255, 255), (0, 0, 0)]).save(tmp_path / 'a.png')
    surveys, classes = [survey_mask(tmp_path / 'a.png')], class_list('background\ncat\n')
    with pytest.raises(DataError, match=r'a\.png: number 1 is black'):
        coding(surveys, classes)
    np.testing.assert_array_equal(
        read_mask(tmp_path / 'a.png', classes, coding(surveys, classes, 'ids')), 1 - labels)
    classes = class_list('background 0 0 0\ncat 255 255 255\n')
    np.testing.assert_array_equal(read_mask(tmp_path / 'a.png', classes, coding(surveys, classes)), labels)
