"""The two benchmark command lines, run as users run them."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

REPOSITORY = pathlib.Path(__file__).parents[2]
IOU, INSTANCE = 'benchmark_by_mIoU.py', 'benchmark_by_instance.py'


def run_script(name, *options):
    environment = {**os.environ, 'PYTHONPATH': str(REPOSITORY), 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, str(REPOSITORY / 'pyscripts/benchmark' / name), *map(str, options)],
                          capture_output=True, text=True, env=environment, check=False)


def save(path, label):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(label, np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path):
    """Two images: predictions `a_image.png`, truth `a_label.png`, instances `a_label.png`."""
    maps = {'pred': {'a': [[0, 0, 1], [1, 2, 2]], 'b': [[1, 1], [0, 0]]},
            'gt': {'a': [[0, 1, 1], [1, 2, 255]], 'b': [[1, 0], [0, 0]]},
            'inst': {'a': [[0, 1, 1], [2, 3, 3]], 'b': [[5, 255], [0, 0]]}}
    for folder, labels in maps.items():
        for name, label in labels.items():
            save(tmp_path / folder / f'{name}_{"image" if folder == "pred" else "label"}.png', label)
    return tmp_path


def options(folder, *more):
    return ['--pred_dir', folder / 'pred', '--gt_dir', folder / 'gt', '--num_classes', 4,
            '--string_replace', '_image,_label', *more]


def test_miou_script(folders):
    result = run_script(IOU, *options(folders, '--json', folders / 'out/score.json',
                                      '--class_names', 'sky,cat,dog,cow'))
    assert result.returncode == 0, result.stderr
    score = json.loads((folders / 'out/score.json').read_text())
    # By hand: class 0 tp 3, fp 1, fn 1; class 1 tp 3, fp 1, fn 1; class 2 tp 1 (its void pixel isn't scored).
    assert score['iou'] == pytest.approx({'sky': 3 / 5, 'cat': 3 / 5, 'dog': 1, 'cow': 0})
    assert score['mean_iou'] == pytest.approx((3 / 5 + 3 / 5 + 1) / 4)
    assert score['pixel_accuracy'] == pytest.approx(7 / 9)
    assert score['confusion'] == [[3, 1, 0, 0, 0], [1, 3, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5]
    assert score['absent_classes'] == ['cow']
    assert score['num_images'] == 2
    assert ['mean', 'IoU', '55.00'] in [line.split() for line in result.stdout.splitlines()]


def test_instance_script(folders):
    result = run_script(INSTANCE, *options(folders, '--inst_dir', folders / 'inst', '--json', folders / 'score.json'))
    assert result.returncode == 0, result.stderr
    score = json.loads((folders / 'score.json').read_text())
    # Image a: IoU 1/2, 2/3, 1 with 1, 2, 1 instances; image b: IoU 2/3, 1/2 with 2 and 1.
    expected = {'0': (1 / 2 + 2 * 2 / 3) / 3, '1': (2 * 2 / 3 + 1 / 2) / 3, '2': 1, '3': 0}
    assert score['iou'] == pytest.approx(expected)
    assert score['mean_iou'] == pytest.approx(sum(expected.values()) / 4)
    assert score['num_instances'] == {'0': 3, '1': 3, '2': 1, '3': 0}


def test_only_predictions_found_are_scored_and_other_files_ignored(folders):
    (folders / 'pred/b_image.png').unlink()
    (folders / 'pred/notes.txt').write_text('no image')
    (folders / 'pred/.a_image.png').write_bytes(b'half a file')
    result = run_script(IOU, *options(folders, '--json', folders / 'score.json'))
    assert result.returncode == 0, result.stderr
    assert json.loads((folders / 'score.json').read_text())['num_images'] == 1


def test_truth_from_a_list(folders):
    save(folders / 'other/a_image.png', [[0, 1, 1], [1, 2, 255]])
    (folders / 'list.txt').write_text('img/a_image.jpg other/a_image.png\nimg/c.jpg other/c.png inst/c.png\n')
    given = ['--pred_dir', folders / 'pred', '--gt_dir', folders, '--gt_list', folders / 'list.txt',
             '--num_classes', 4, '--json', folders / 'score.json']
    result = run_script(IOU, *given)
    assert result.returncode == 0, result.stderr
    assert '1 of 2 predictions' in result.stderr
    score = json.loads((folders / 'score.json').read_text())
    assert (score['num_images'], score['iou']) == (1, pytest.approx({'0': 1 / 2, '1': 2 / 3, '2': 1, '3': 0}))
    save(folders / 'inst/a_image.png', [[0, 1, 1], [2, 3, 3]])
    result = run_script(INSTANCE, *given, '--inst_dir', folders / 'inst')
    assert json.loads((folders / 'score.json').read_text())['num_instances'] == {'0': 1, '1': 2, '2': 1, '3': 0}
    (folders / 'list.txt').write_text('img/c.jpg other/c.png\n')
    assert str(folders / 'list.txt') in one_line_error(run_script(IOU, *given))


def test_common_options_of_every_script_are_accepted(folders):
    result = run_script(IOU, *options(folders, '--cfg_path', REPOSITORY / 'configs/demo/scribble.yaml', '--set',
                                      'seed=1', 'train.base_lr=2', '--set', 'num_threads=3', '--device', 'cpu'))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('script', [IOU, INSTANCE])
def test_classes_of_a_configuration(folders, script):
    config = REPOSITORY / 'configs/demo/scribble.yaml'
    unknown = ['--pred_dir', folders / 'pred', '--gt_dir', folders / 'gt', '--string_replace', '_image,_label',
               '--json', folders / 'score.json', *(['--inst_dir', folders / 'inst'] if script == INSTANCE else [])]
    paths = [*unknown, '--cfg_path', config]

    def names(*more):
        result = run_script(script, *paths, *more)
        assert result.returncode == 0, result.stderr
        return list(json.loads((folders / 'score.json').read_text())['iou'])

    demo = ['background', 'stripe_disc', 'checker_square', 'dot_triangle', 'ring_star', 'pillar_cross']
    assert names() == names('--num_classes', 6) == demo
    assert names('--class_names', 'a,b,c,d,e,f') == list('abcdef')
    assert names('--num_classes', 4) == list('0123')
    assert names('--set', 'dataset.num_classes=3', 'dataset.class_names=[x, y, z]') == list('xyz')
    for more, naming in ((['--cfg_path', 'gone.yaml'], 'gone.yaml'),
                         (['--set', 'dataset.num=3'], 'dataset.num_classes'), (['--class_names', 'a,b'], '6 classes')):
        assert naming in one_line_error(run_script(script, *paths, *more))
    assert '--num_classes' in one_line_error(run_script(script, *unknown))


def one_line_error(result):
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1
    assert 'Traceback' not in result.stderr
    return lines[0]


def test_missing_truth_is_named(folders):
    (folders / 'gt/b_label.png').unlink()
    message = one_line_error(run_script(IOU, *options(folders)))
    assert str(folders / 'gt/b_label.png') in message
    assert str(folders / 'pred/b_image.png') in message


def test_missing_instances_are_named(folders):
    (folders / 'inst/a_label.png').unlink()
    message = one_line_error(run_script(INSTANCE, *options(folders, '--inst_dir', folders / 'inst')))
    assert str(folders / 'inst/a_label.png') in message


def test_size_mismatch_names_both_files_and_sizes(folders):
    save(folders / 'gt/b_label.png', np.zeros((2, 5)))
    message = one_line_error(run_script(IOU, *options(folders)))
    for part in (folders / 'gt/b_label.png', folders / 'pred/b_image.png', '5x2', '2x2'):
        assert str(part) in message


def test_damaged_truth_is_named(folders):
    path = folders / 'gt/a_label.png'
    path.write_bytes(path.read_bytes()[:40])
    assert str(path) in one_line_error(run_script(IOU, *options(folders)))


def test_empty_and_missing_prediction_folders(folders):
    (folders / 'none').mkdir()
    for name in ('none', 'nowhere'):
        message = one_line_error(run_script(IOU, *options(folders, '--pred_dir', folders / name)))
        assert str(folders / name) in message


def test_wrong_number_of_class_names(folders):
    assert '--class_names' in one_line_error(run_script(IOU, *options(folders, '--class_names', 'a,b')))


@pytest.mark.parametrize('more', [('--string_replace', 'a'), ('--string_replace', ',b'), ('--num_classes', '0'),
                                  ('--num_classes', '256')])
def test_impossible_options_are_refused(folders, more):
    result = run_script(IOU, *options(folders, *more))
    assert result.returncode == 2
    assert more[0] in result.stderr
