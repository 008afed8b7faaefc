import json

import pytest

from spml.errors import DataError
from spml.scenes import dataset as synthetic

TINY = {'num_train': 3, 'num_val': 2, 'num_test': 1, 'size': (48, 64), 'num_classes': 4, 'seed': 7}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_two_generations_are_equal_byte_by_byte_and_a_third_does_nothing(tmp_path):
    for name in ('one', 'two'):
        assert synthetic.generate(tmp_path / name, **TINY)
    one, two = contents(tmp_path / 'one'), contents(tmp_path / 'two')
    assert one == two
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert not synthetic.generate(tmp_path / 'one', **TINY)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert len(one) == 3 * (1 + 1 + 1 + 1 + 5 + 2 + 1) + 2 * 3 + 1 + 10 + 2


def test_an_image_depends_on_its_seed_split_and_index_alone(tmp_path):
    synthetic.generate(tmp_path / 'few', **TINY)
    synthetic.generate(tmp_path / 'more', **{**TINY, 'num_train': 5, 'num_val': 3})
    synthetic.generate(tmp_path / 'other', **{**TINY, 'seed': 8})
    few, more, other = (contents(tmp_path / name) for name in ('few', 'more', 'other'))
    images = [name for name in few if name.startswith('VOC2012')]
    assert all(few[name] == more[name] for name in images)
    assert not any(few[name] == other[name] for name in images if name.endswith('.jpg'))


def test_an_interrupted_run_starts_over(tmp_path, monkeypatch):
    synthetic.generate(tmp_path / 'whole', **TINY)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, 'over_segmentation', interrupt)
        with pytest.raises(KeyboardInterrupt):
            synthetic.generate(tmp_path / 'stopped', **TINY)
    assert not (tmp_path / 'stopped/meta.json').exists()
    (tmp_path / 'stopped/VOC2012/JPEGImages/train_00000.jpg').write_bytes(b'half')
    assert synthetic.generate(tmp_path / 'stopped', **TINY)
    assert contents(tmp_path / 'stopped') == contents(tmp_path / 'whole')


def test_overwrite_leaves_nothing_of_the_old_data_set(tmp_path):
    synthetic.generate(tmp_path / 'old', **TINY)
    fewer = {**TINY, 'num_train': 1, 'seed': 1}
    with pytest.raises(DataError, match=r'old.*--overwrite'):
        synthetic.generate(tmp_path / 'old', **fewer)
    assert synthetic.generate(tmp_path / 'old', **fewer, overwrite=True)
    synthetic.generate(tmp_path / 'new', **fewer)
    assert contents(tmp_path / 'old') == contents(tmp_path / 'new')
    assert json.loads((tmp_path / 'old/meta.json').read_text())['options']['seed'] == 1


@pytest.mark.parametrize('foreign', ['VOC2012/JPEGImages/2007_000032.jpg', 'VOC2012/hed/train_00000.png',
                                     'lists/val.txt', 'VOC2012-test/JPEGImages/test_00000.jpg'])
def test_a_folder_with_other_data_is_left_alone(tmp_path, foreign):
    path = tmp_path / foreign
    path.parent.mkdir(parents=True)
    path.write_bytes(b'years of work')
    with pytest.raises(DataError, match=foreign.split('/')[0]):
        synthetic.generate(tmp_path, **TINY, overwrite=True)
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == [path]
    assert path.read_bytes() == b'years of work'


def test_other_images_beside_the_built_in_ones_are_left_alone(tmp_path):
    synthetic.generate(tmp_path, **TINY)
    foreign = tmp_path / 'VOC2012/JPEGImages/2007_000032.jpg'
    foreign.write_bytes(b'a photograph')
    before = contents(tmp_path)
    with pytest.raises(DataError, match='2007_000032'):
        synthetic.generate(tmp_path, **{**TINY, 'seed': 2}, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(('key', 'value'), [
    ('num_train', 0), ('num_val', 0), ('num_test', -1), ('num_train', 100000), ('seed', -1), ('num_classes', 1),
    ('num_classes', 22), ('size', (47, 64)), ('size', (64, 129)), ('size', (800, 1025)),
])
def test_impossible_options_are_named(tmp_path, key, value):
    with pytest.raises(DataError, match=f'^{key}'):
        synthetic.generate(tmp_path / 'none', **{**TINY, key: value})
    assert not (tmp_path / 'none').exists()


def test_script_writes_then_skips_then_refuses_other_options(tmp_path, call_script):
    out = tmp_path / 'demo'
    options = ['--out', out, '--num_train', 2, '--num_val', 1, '--num_test', 0, '--size', '48,64', '--num_classes', 3]
    for more, status, words in (
            ((), 0, 'wrote 2 train, 1 val, 0 test'), ((), 0, 'holds already'),
            (('--seed', 5), 2, f'error: {out}: holds a data set made differently (seed: 0 -> 5); '),
            (('--seed', 5, '--overwrite'), 0, 'wrote 2 train'), (('--size', 48), 2, "'48' is not of the form")):
        found = call_script('make_synthetic', *options, *more)
        assert found[0] == status
        assert words in found[2 if status else 1]
        assert not status or '\n' not in found[2].rstrip() or 'usage' in found[2]
