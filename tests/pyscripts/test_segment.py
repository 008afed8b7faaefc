"""segment.py: its pictures, and the labels that it writes to be corrected."""
import json
import pathlib
import runpy
import shlex

import numpy as np
import pytest
from exif import save_turned
from PIL import Image

import spml
from spml.visualization.pictures import overlay

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def run_dir(place, save_model):
    """The folder of a run whose classifier carries its configuration."""
    save_model(place.folder / 'run' / 'classifier' / 'model-3.pth', place.make_config())
    return place.folder / 'run'


def check_overlay(path, image, segmenter, *opacity):
    image = np.array(Image.open(image))
    expected = overlay(image, segmenter.predict(image).labels, segmenter.class_names, *opacity)
    np.testing.assert_array_equal(np.array(Image.open(path)), expected)


def test_overlays_stand_in_the_run_and_show_the_prediction(place, run_dir, works):
    works('segment', place.data.folder / 'image', '--run', run_dir)
    for name in place.data.names:
        check_overlay(run_dir / 'overlays' / f'{name}.png', place.label(name, 'image'),
                      spml.load_segmenter(run_dir, 'cpu'))


def test_one_image_into_another_folder_with_other_settings(place, run_dir, works):
    works('segment', place.label('b', 'image'), '--run', run_dir / 'classifier' / 'model-3.pth', '--set',
          'test.image_size=24', '--opacity', '0.9', '--save_dir', place.out)
    assert [path.name for path in place.out.iterdir()] == ['b.png']
    check_overlay(place.out / 'b.png', place.label('b', 'image'),
                  spml.load_segmenter(run_dir, 'cpu', overrides=['test.image_size=24']), 0.9)


def test_mistakes_are_named(place, run_dir, fails):
    empty = place.folder / 'empty'
    empty.mkdir()
    for image, run, word in ((place.folder / 'none.jpg', run_dir, 'none.jpg'), (empty, run_dir, 'empty'),
                             (place.label('a'), place.folder / 'no_run', 'no_run'),
                             (place.label('a'), empty, 'model-*.pth')):
        fails('segment', image, '--run', run, '--device', 'cpu', naming=[word])


def named(*paths):
    """The names of results of images."""
    script = pathlib.Path(__file__).parents[2] / 'pyscripts/inference/segment.py'
    return list(runpy.run_path(str(script))['result_names'](list(paths)).values())


def test_no_result_overwrites_another(place, run_dir, works, tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    for folder, names in ((one, ('a.png', 'a.PNG', 'a b.png', 'c.png')), (two, ('a_b.png', 'c.png', 'd.png'))):
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(place.label('a', 'image').read_bytes())
    works('segment', one, two, two / 'd.png', '--run', run_dir, '--save_dir', place.out)
    assert {path.name for path in place.out.iterdir()} == {
        'a_png.png', 'a_PNG.png', 'one_a b_png.png', 'one_c_png.png', 'two_c_png.png', 'two_a_b_png.png', 'd.png'}


def test_names_are_as_long_as_needed(tmp_path):
    paths = [tmp_path / name for name in ('x/1/a.jpg', 'y/1/a.jpg', 'y/1/a.png', 'b.jpg', 'b_jpg.jpg', 'y/b.png')]
    assert named(*paths) == ['x_1_a_jpg', 'y_1_a_jpg', 'a_png', f'{tmp_path.name}_b_jpg', 'b_jpg_jpg', 'b_png']


def prepared_again(words, out, call_script):
    """The label maps of photos after prepare_custom.py with the options that a line of output gives."""
    status, _, err = call_script('prepare_custom', *shlex.split(words), '--out', out, '--base', 'demo',
                                 '--num_workers', 0)
    # Random weights may predict one class everywhere; nothing could be learned from that, but it is written.
    assert status == 0 or 'from a single class' in err, err
    return {path.stem: np.array(Image.open(path)) for path in (out / 'VOC2012/segcls').glob('*.png')}


@pytest.mark.parametrize('settings', [
    ['dataset.class_names=[background, big cat, dog]'],
    ['dataset.class_names=[sky, cat, dog]', 'dataset.background=true'],
    ['dataset.class_names=[sky, cat, dog]', 'dataset.background=false',
     'dataset.color_map=[[1, 2, 3], [200, 0, 0], [0, 9, 0]]']])
def test_labels_come_back_as_they_were_written(place, run_dir, works, call_script, settings):
    (place.folder / 'photos').mkdir()
    for name in place.data.names:
        image = np.array(Image.open(place.label(name, 'image')).convert('RGB'))
        save_turned(place.folder / f'photos/{name}.png', image, 6 if name == 'b' else 1)
    out = works('segment', place.folder / 'photos', '--run', run_dir, '--save_dir', place.out, '--format', 'masks',
                'coco', 'labelme', 'coco_rle', 'overlay', '--set', *settings)
    segmenter = spml.load_segmenter(run_dir, 'cpu', overrides=settings)
    expected = {name: segmenter.predict(place.label(name, 'image')).labels for name in place.data.names}
    lines = [line.split('prepare_custom.py ')[1].split(' --out ')[0] for line in out.splitlines() if '--images' in line]
    assert len(lines) == 4
    for number, words in enumerate(lines):
        found = prepared_again(words, place.folder / f'again{number}', call_script)
        assert found.keys() == expected.keys()
        for name, label in expected.items():
            np.testing.assert_array_equal(found[name], label)
    content = json.loads((place.out / 'labelme/b.json').read_text())
    assert (place.out / 'labelme' / content['imagePath']).resolve() == place.out / 'photos/b.png'
    check_overlay(place.out / 'a.png', place.label('a', 'image'), segmenter, 0.5,
                  segmenter.config.dataset.get('color_map'), segmenter.config.dataset.background)


def test_labels_that_may_have_been_corrected_stay(place, run_dir, works, fails):
    words = ['segment', place.label('a', 'image'), '--run', run_dir, '--device', 'cpu', '--set',
             'dataset.class_names=[background, cat, dog]']
    works(*words, '--format', 'labelme')
    path = run_dir / 'labels/labelme/a.json'
    path.write_text('{}')
    fails(*words, '--format', 'masks', 'labelme', naming=[path, '--overwrite'])
    works('segment', place.label('b', 'image'), *words[2:], '--format', 'labelme')
    assert path.read_text() == '{}'
    assert (path.parent / 'b.json').is_file()
    works(*words, '--format', 'labelme', '--overwrite')
    assert json.loads(path.read_text())['imagePath'] == '../photos/a.png'
    works(*words, '--format', 'coco', 'masks', '--save_dir', place.out)
    fails('segment', place.label('b', 'image'), *words[2:], '--format', 'coco', '--save_dir', place.out,
          naming=[place.out / 'coco.json'])
    fails(*words, '--format', 'masks', '--tolerance', 1, naming=['--tolerance'])
    other = place.folder / 'other'
    fails(*words[:-1], 'dataset.class_names=[background, void, dog]', '--format', 'masks', '--save_dir', other,
          naming=['class_names'])
    assert not (other / 'classes.txt').exists()


def test_photos_and_class_lists_are_not_written_over(place, run_dir, works, fails):
    folder = place.folder / 'mine'
    (folder / 'photos').mkdir(parents=True)
    pixels = np.array(Image.open(place.label('a', 'image')).convert('RGB'))
    save_turned(folder / 'photos/turned.png', pixels, 6)
    content = (folder / 'photos/turned.png').read_bytes()
    words = ['segment', folder / 'photos', '--run', run_dir, '--device', 'cpu', '--set',
             'dataset.class_names=[background, cat, dog]']
    fails(*words, '--save_dir', folder / 'photos', naming=[folder / 'photos/turned.png', '--save_dir'])
    fails(*words, '--save_dir', folder, '--format', 'masks', naming=[folder / 'photos/turned.png', '--save_dir'])
    assert (folder / 'photos/turned.png').read_bytes() == content
    works(*words, '--save_dir', place.out, '--format', 'masks')
    names = place.out / 'classes.txt'
    with names.open('a') as file:
        file.write('zebra\n')
    works(*words, '--save_dir', place.out, '--format', 'labelme')  # of the same photos
    assert names.read_text() == 'background\ncat\ndog\nzebra\n'
    names.write_text('background\ndog\ncat\n')
    fails(*words, '--save_dir', place.out, '--format', 'coco', naming=[names, 'other classes'])
    assert names.read_text() == 'background\ndog\ncat\n'


@pytest.mark.parametrize('orientation', [1, 6])
def test_labels_of_one_photo_do_not_meet_another(place, run_dir, works, fails, orientation):
    pixels = np.array(Image.open(place.label('a', 'image')).convert('RGB'))
    for folder in ('one', 'two'):
        (place.folder / folder).mkdir()
        save_turned(place.folder / folder / 'a.png', pixels, orientation)
        pixels = pixels[::-1]
    more = ['--run', run_dir, '--device', 'cpu', '--save_dir', place.out, '--set',
            'dataset.class_names=[background, cat, dog]', '--format']
    works('segment', place.folder / 'one', *more, 'masks')
    content = (place.out / 'photos/a.png').read_bytes()
    fails('segment', place.folder / 'two', *more, 'labelme', naming=[place.out / 'photos/a.png', 'another photo'])
    assert (place.out / 'photos/a.png').read_bytes() == content
    works('segment', place.folder / 'one', *more, 'labelme')
    Image.fromarray(pixels).save(place.folder / 'two/a.jpg')
    fails('segment', place.folder / 'two/a.jpg', *more, 'labelme', '--overwrite',
          naming=[place.out / 'photos/a.png', 'another photo'])
    # All that is known of the photo before it is made anew.
    works('segment', place.folder / 'two/a.png', *more, 'masks', 'labelme', '--overwrite')
    assert (place.out / 'photos/a.png').read_bytes() != content


def test_a_folder_that_holds_the_photos_already(place, run_dir, works, fails):
    folder = place.folder / 'mine'
    (folder / 'photos').mkdir(parents=True)
    pixels = np.array(Image.open(place.label('a', 'image')).convert('RGB'))
    Image.fromarray(pixels).save(folder / 'photos/a.png')
    Image.fromarray(pixels).save(folder / 'photos/b.jpg')
    (folder / 'photos/b.png').write_bytes(b'a mask')
    more = ['--run', run_dir, '--device', 'cpu', '--set', 'dataset.class_names=[background, cat, dog]']
    fails('segment', folder / 'photos/b.jpg', *more, '--save_dir', folder / 'photos', naming=['b.png', '--save_dir'])
    assert (folder / 'photos/b.png').read_bytes() == b'a mask'
    before = (folder / 'photos/a.png').read_bytes()
    works('segment', folder / 'photos/a.png', *more, '--save_dir', folder, '--format', 'masks')
    assert (folder / 'photos/a.png').read_bytes() == before
    (folder / 'photos/a.png').rename(folder / 'photos/c.PNG')
    fails('segment', folder / 'photos/c.PNG', *more, '--save_dir', folder, '--format', 'masks',
          naming=['c.PNG', '--save_dir'])
    assert not (folder / 'photos/c.png').exists()


def test_photos_that_cannot_be_read_end_it_before_the_work(place, run_dir, fails, works, caplog):
    folder = place.folder / 'photos'
    folder.mkdir()
    content = place.label('a', 'image').read_bytes()
    (folder / 'a.png').write_bytes(content)
    (folder / 'b.png').write_bytes(content[:len(content) // 2])
    (folder / 'c.webp').write_bytes(content)
    words = ['segment', folder, '--run', run_dir, '--device', 'cpu', '--save_dir', place.out]
    fails(*words, '--format', 'masks', 'coco', naming=[folder / 'b.png'])
    assert not (place.out / 'masks').exists()
    (folder / 'b.png').unlink()
    works(*words, '--format', 'masks', 'coco')
    assert '1 files do not end in .jpg, .jpeg, .png and are left out, for example c.webp' in caplog.text
    (folder / 'a.jfif').write_bytes(content)
    fails('segment', folder / 'a.jfif', *words[2:], '--format', 'labelme', naming=['a.jfif', '.jpg'])
