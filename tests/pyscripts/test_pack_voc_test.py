"""The archive for VOC's evaluation server, unpacked and compared with what the server asks for."""
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures('one_thread')

FOLDER = 'results/VOC2012/Segmentation/comp6_test_cls'


def voc_colour_map():
    """VOC devkit's VOClabelcolormap, written out: 256 colours, (256, 3)."""
    colours = []
    for index in range(256):
        red = green = blue = 0
        rest = index
        for shift in range(7, -1, -1):
            red |= (rest & 1) << shift
            green |= (rest >> 1 & 1) << shift
            blue |= (rest >> 2 & 1) << shift
            rest >>= 3
        colours.append((red, green, blue))
    return colours


def check_archive(place, archive, folder=FOLDER):
    """The archive holds exactly the list's predictions, as palette PNGs of the images' sizes."""
    with tarfile.open(archive, 'r:gz') as content:
        assert sorted(content.getnames()) == [f'{folder}/{name}.png' for name in sorted(place.data.names)]
        files = {name: content.extractfile(f'{folder}/{name}.png').read() for name in place.data.names}
    for name, png in files.items():
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == 'PNG'
            assert picture.mode == 'P'
            with Image.open(place.data.folder / 'image' / f'{name}.png') as image:
                assert picture.size == image.size
            palette = np.array(picture.getpalette()).reshape(-1, 3)
            assert [tuple(colour) for colour in palette.tolist()] == voc_colour_map()
            pixels = np.array(picture)
        assert tuple(png[24:26]) == (8, 3)  # in the PNG's header: 8 bits, palette
        np.testing.assert_array_equal(pixels, place.gray(name))
        assert pixels.max() < 3


def test_a_list_of_images_alone_is_predicted_as_inference_does_and_packed(place):
    pytest.importorskip('pydensecrf')
    path = place.label('b', 'image')
    Image.open(path).resize((50, 33)).save(path)
    options = {'fields': 1, 'crf_iter_max': 2, 'num_workers': 0}
    archive = place.folder / 'sent' / 'results.tgz'
    place.works('pack_voc_test', '--multi_scale', '--crf', competition='comp5', out=archive, **options)
    check_archive(place, archive, FOLDER.replace('comp6', 'comp5'))
    packed = {name: place.gray(name) for name in place.data.names}
    place.out = place.folder / 'inferred'
    place.works('inference', '--multi_scale', '--crf', predictor='softmax', **options)
    for name, expected in packed.items():
        np.testing.assert_array_equal(place.gray(name), expected)


def write_predictions(place, names=None):
    """Random class ids, all three in each image, where --pack_only looks for them."""
    folder = place.out / 'semantic_gray'
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or place.data.names:
        label = np.random.default_rng().integers(0, 3, (40, 36))
        label[0, :3] = 0, 1, 2
        Image.fromarray(label.astype(np.uint8)).save(folder / f'{name}.png')
    return folder


def pack_only(place, **options):
    return {'fields': 1, 'checkpoint': None, **options}


def test_existing_predictions_are_packed_without_weights(place):
    folder = write_predictions(place)
    write_predictions(place, ['of_another_list'])
    place.works('pack_voc_test', '--pack_only', **pack_only(place))
    check_archive(place, place.out / 'results.tgz')
    assert not (folder.parent / 'config.yaml').exists()


def test_the_same_predictions_give_the_same_bytes(place):
    write_predictions(place)
    place.works('pack_voc_test', '--pack_only', **pack_only(place))
    first = (place.out / 'results.tgz').read_bytes()
    assert first[4:8] == bytes(4)  # gzip's time of writing
    with tarfile.open(place.out / 'results.tgz') as content:
        assert {(member.mtime, member.uid, member.uname) for member in content} == {(0, 0, '')}
    lines = place.data.lists[1].read_text().splitlines()
    place.data.lists[1].write_text('\n'.join(reversed(lines)))
    for path in (place.out / 'semantic_gray').iterdir():
        pixels = np.array(Image.open(path))
        path.unlink()
        Image.fromarray(pixels).save(path, compress_level=0)
    place.works('pack_voc_test', '--pack_only', **pack_only(place, out=place.folder / 'again.tgz'))
    assert (place.folder / 'again.tgz').read_bytes() == first


@pytest.mark.parametrize('kind', ['missing', 'size', 'void', 'unlabelled', 'class', 'palette', 'damaged'])
def test_what_the_server_would_refuse_is_named_and_an_older_archive_stays(place, kind):
    folder = write_predictions(place)
    path = folder / 'b.png'
    label = np.array(Image.open(path))
    words = [path, f'{place.data.lists[1]}:2']
    if kind == 'missing':
        path.unlink()
        words += ['1 of 3', '--pack_only']
    elif kind == 'size':
        Image.fromarray(label[:, :-1]).save(path)
        words += ['35x40', '36x40']
    elif kind in ('void', 'unlabelled', 'class'):
        value = {'void': 255, 'unlabelled': 254, 'class': 3}[kind]
        label[-1, -1] = value
        Image.fromarray(label).save(path)
        words += [f'value {value}', '0..2']
    elif kind == 'palette':
        picture = Image.fromarray(label).convert('P')
        picture.save(path)
    else:
        path.write_bytes(path.read_bytes()[:60])
    archive = place.folder / 'old.tgz'
    archive.write_bytes(b'older')
    before = sorted(place.folder.iterdir())
    place.fails('pack_voc_test', '--pack_only', naming=words, **pack_only(place, out=archive))
    assert archive.read_bytes() == b'older'
    assert sorted(place.folder.iterdir()) == before


def test_the_server_knows_21_classes(place):
    folder = write_predictions(place)
    label = np.array(Image.open(folder / 'a.png'))
    label[5, 5] = 20
    Image.fromarray(label).save(folder / 'a.png')
    more = ('--pack_only', '--set', 'dataset.num_classes=30', 'dataset.class_names=null')
    place.works('pack_voc_test', *more, **pack_only(place))
    label[5, 5] = 21
    Image.fromarray(label).save(folder / 'a.png')
    place.fails('pack_voc_test', *more, naming=[folder / 'a.png', '0..20'], **pack_only(place))


def test_an_image_is_listed_once(place):
    write_predictions(place)
    place.data.lists[1].write_text('image/a.png\nimage/b.png\nsemantic/a.png\n')
    place.fails('pack_voc_test', '--pack_only', naming=[f'{place.data.lists[1]}:3', 'line 1'], **pack_only(place))


def test_an_archive_that_is_a_folder_is_refused_before_predicting(place):
    folder = place.folder / 'folder'
    folder.mkdir()
    place.fails('pack_voc_test', fields=1, out=folder, naming=['--out', folder])
    assert not place.out.exists()


def test_weights_are_asked_for_when_it_predicts(place):
    place.fails('pack_voc_test', fields=1, checkpoint=None, naming=['--snapshot_dir', '--checkpoint'])
    place.fails('pack_voc_test', fields=1, predictor='retrieval', naming=['--semantic_memory_dir'])
