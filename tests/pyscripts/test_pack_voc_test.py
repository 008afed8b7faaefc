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
    return [tuple(sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3))
            for label in range(256)]


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
    options = {'fields': 1, 'crf_iter_max': 2, 'num_workers': 0, 'set': 'test.stride=32,32'}
    archive = place.folder / 'sent' / 'results.tgz'
    place.works('pack_voc_test', '--multi_scale', '--crf', competition='comp5', out=archive, **options)
    check_archive(place, archive, FOLDER.replace('comp6', 'comp5'))
    packed = {name: place.gray(name) for name in place.data.names}
    place.out = place.folder / 'inferred'
    place.works('inference', '--multi_scale', '--crf', predictor='softmax', **options)
    for name, expected in packed.items():
        np.testing.assert_array_equal(place.gray(name), expected)


@pytest.fixture
def pack(place):
    """Random class ids, all three in each image, and the options that pack them."""
    (place.out / 'semantic_gray').mkdir(parents=True)
    for name in [*place.data.names, 'of_another_list']:
        label = np.random.default_rng().integers(0, 3, (40, 36))
        label[0, :3] = 0, 1, 2
        save(place, name, label)
    return ['pack_voc_test', '--pack_only'], {'fields': 1, 'checkpoint': None, 'out': place.folder / 'results.tgz'}


def save(place, name, label, **options):
    Image.fromarray(label.astype(np.uint8)).save(place.out / 'semantic_gray' / f'{name}.png', **options)


def test_existing_predictions_are_packed_without_weights_and_the_same_give_the_same_bytes(place, pack):
    script, options = pack
    place.works(*script, **options)
    check_archive(place, options['out'])
    assert not (place.out / 'config.yaml').exists()
    first = options['out'].read_bytes()
    assert first[4:8] == bytes(4)  # gzip's time of writing
    with tarfile.open(options['out']) as content:
        assert {(member.mtime, member.uid, member.uname) for member in content} == {(0, 0, '')}
    lines = place.data.lists[1].read_text().splitlines()
    place.data.lists[1].write_text('\n'.join(reversed(lines)))
    for name in place.data.names:
        save(place, name, place.gray(name), compress_level=0)
    place.works(*script, **{**options, 'out': place.folder / 'again.tgz'})
    assert (place.folder / 'again.tgz').read_bytes() == first


def spoil(path, label, value):
    label[-1, -1] = value
    Image.fromarray(label).save(path)


@pytest.mark.parametrize(('change', 'words'), [
    (lambda path, label: path.unlink(), ['1 of 3', '--pack_only']),
    (lambda path, label: Image.fromarray(label[:, :-1]).save(path), ['35x40', '36x40']),
    (lambda path, label: spoil(path, label, 255), ['value 255', '0..2']),
    (lambda path, label: spoil(path, label, 254), ['value 254', '0..2']),
    (lambda path, label: spoil(path, label, 3), ['value 3', '0..2']),
    (lambda path, label: Image.fromarray(label).convert('P').save(path), []),
    (lambda path, label: path.write_bytes(path.read_bytes()[:60]), [])])
def test_what_the_server_would_refuse_is_named_and_an_older_archive_stays(place, pack, change, words):
    script, options = pack
    path = place.out / 'semantic_gray' / 'b.png'
    change(path, place.gray('b'))
    options['out'].write_bytes(b'older')
    before = sorted(place.folder.iterdir())
    place.fails(*script, naming=[path, f'{place.data.lists[1]}:2', *words], **options)
    assert options['out'].read_bytes() == b'older'
    assert sorted(place.folder.iterdir()) == before


def test_the_server_knows_21_classes(place, pack):
    script, options = pack
    script += ['--set', 'dataset.num_classes=30', 'dataset.class_names=null']
    save(place, 'a', np.full((40, 36), 20))
    place.works(*script, **options)
    save(place, 'a', np.full((40, 36), 21))
    place.fails(*script, naming=[place.out / 'semantic_gray' / 'a.png', '0..20'], **options)


def test_options_are_checked_before_anything_is_predicted(place, pack):
    script, options = pack
    place.data.lists[1].write_text('image/a.png\nimage/b.png\nsemantic/a.png\n')
    place.fails(*script, naming=[f'{place.data.lists[1]}:3', 'line 1'], **options)
    options['save_dir'] = place.folder / 'nothing'
    place.fails(script[0], naming=['--out', place.folder], **{**options, 'out': place.folder})
    place.fails(script[0], naming=['--snapshot_dir', '--checkpoint'], **options)
    place.fails(script[0], predictor='retrieval', naming=['--semantic_memory_dir'], **options)
    assert not options['save_dir'].exists()
