"""The two command lines that score predictions."""
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

CONFIG = pathlib.Path(__file__).parents[2] / 'configs/demo/scribble.yaml'
IOU, INSTANCE = 'benchmark_by_mIoU', 'benchmark_by_instance'


@pytest.fixture
def scores(works, folders):
    """A function from a script and its options to the scores that it writes."""
    def run(name, *options):
        works(name, *options, '--json', folders / 'out/score.json')
        return json.loads((folders / 'out/score.json').read_text())
    return run


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


def test_miou_script(folders, works):
    out = works(IOU, *options(folders, '--json', folders / 'out/score.json', '--class_names', 'sky,cat,dog,cow'))
    score = json.loads((folders / 'out/score.json').read_text())
    # By hand: class 0 tp 3, fp 1, fn 1; class 1 tp 3, fp 1, fn 1; class 2 tp 1 (its void pixel isn't scored).
    assert score['iou'] == pytest.approx({'sky': 3 / 5, 'cat': 3 / 5, 'dog': 1, 'cow': 0})
    assert score['mean_iou'] == pytest.approx((3 / 5 + 3 / 5 + 1) / 4)
    assert score['pixel_accuracy'] == pytest.approx(7 / 9)
    assert score['confusion'] == [[3, 1, 0, 0, 0], [1, 3, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5]
    assert score['absent_classes'] == ['cow']
    assert score['num_images'] == 2
    assert ['mean', 'IoU', '55.00'] in [line.split() for line in out.splitlines()]


def test_instance_script(folders, scores):
    score = scores(INSTANCE, *options(folders, '--inst_dir', folders / 'inst'))
    # Image a: IoU 1/2, 2/3, 1 with 1, 2, 1 instances; image b: IoU 2/3, 1/2 with 2 and 1.
    expected = {'0': (1 / 2 + 2 * 2 / 3) / 3, '1': (2 * 2 / 3 + 1 / 2) / 3, '2': 1, '3': 0}
    assert score['iou'] == pytest.approx(expected)
    assert score['mean_iou'] == pytest.approx(sum(expected.values()) / 4)
    assert score['num_instances'] == {'0': 3, '1': 3, '2': 1, '3': 0}


def test_only_predictions_found_are_scored_and_other_files_ignored(folders, scores):
    (folders / 'pred/b_image.png').unlink()
    (folders / 'pred/notes.txt').write_text('no image')
    (folders / 'pred/.a_image.png').write_bytes(b'half a file')
    assert scores(IOU, *options(folders))['num_images'] == 1


def test_truth_from_a_list(folders, scores, fails, caplog):
    save(folders / 'other/a_image.png', [[0, 1, 1], [1, 2, 255]])
    (folders / 'list.txt').write_text('img/a_image.jpg other/a_image.png\nimg/c.jpg other/c.png inst/c.png\n')
    given = ['--pred_dir', folders / 'pred', '--gt_dir', folders, '--gt_list', folders / 'list.txt',
             '--num_classes', 4]
    score = scores(IOU, *given)
    assert '1 of 2 predictions' in caplog.text
    assert (score['num_images'], score['iou']) == (1, pytest.approx({'0': 1 / 2, '1': 2 / 3, '2': 1, '3': 0}))
    save(folders / 'inst/a_image.png', [[0, 1, 1], [2, 3, 3]])
    assert scores(INSTANCE, *given, '--inst_dir', folders / 'inst')['num_instances'] == {'0': 1, '1': 2, '2': 1, '3': 0}
    (folders / 'list.txt').write_text('img/c.jpg other/c.png\n')
    fails(IOU, *given, naming=[folders / 'list.txt'])


@pytest.mark.parametrize('script', [IOU, INSTANCE])
def test_classes_of_a_configuration(folders, scores, fails, script):
    unknown = ['--pred_dir', folders / 'pred', '--gt_dir', folders / 'gt', '--string_replace', '_image,_label',
               *(['--inst_dir', folders / 'inst'] if script == INSTANCE else [])]
    paths = [*unknown, '--cfg_path', CONFIG]

    def names(*more):
        return list(scores(script, *paths, *more)['iou'])

    demo = ['background', 'stripe_disc', 'checker_square', 'dot_triangle', 'ring_star', 'pillar_cross']
    assert names() == names('--num_classes', 6, '--device', 'cpu', '--set', 'seed=1', 'train.base_lr=2') == demo
    assert names('--class_names', 'a,b,c,d,e,f') == list('abcdef')
    assert names('--num_classes', 4) == list('0123')
    assert names('--set', 'dataset.num_classes=3', 'dataset.class_names=[x, y, z]') == list('xyz')
    for more, naming in ((['--cfg_path', 'gone.yaml'], 'gone.yaml'),
                         (['--set', 'dataset.num=3'], 'dataset.num_classes'), (['--class_names', 'a,b'], '6 classes')):
        fails(script, *paths, *more, naming=[naming])
    fails(script, *unknown, naming=['--num_classes'])


def damage(path):
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(('change', 'changed', 'named'), [
    (pathlib.Path.unlink, 'gt/b_label.png', 'pred/b_image.png'),
    (pathlib.Path.unlink, 'inst/a_label.png', 'pred/a_image.png'),
    (damage, 'gt/a_label.png', ''),
    (lambda path: save(path, np.zeros((2, 5))), 'gt/b_label.png', 'pred/b_image.png'),
    (lambda path: save(path, np.zeros((2, 5))), 'gt/b_label.png', '5x2 pixels (width x height), but the prediction')])
def test_what_is_wrong_with_a_file_is_one_line(folders, fails, change, changed, named):
    change(folders / changed)
    fails(INSTANCE, *options(folders, '--inst_dir', folders / 'inst'), naming=[folders / changed, named])


@pytest.mark.parametrize(('more', 'named'), [
    (('--pred_dir', 'FOLDER/none'), 'none: holds no'), (('--pred_dir', 'FOLDER/nowhere'), 'nowhere: no such'),
    (('--class_names', 'a,b'), '--class_names'), (('--string_replace', 'a'), '--string_replace'),
    (('--string_replace', ',b'), '--string_replace'), (('--num_classes', '0'), '--num_classes'),
    (('--num_classes', '256'), '--num_classes')])
def test_impossible_options_are_refused(folders, call_script, more, named):
    (folders / 'none').mkdir()
    status, _, err = call_script(IOU, *options(folders, *(word.replace('FOLDER', str(folders)) for word in more)))
    assert (status, named in err, 'Traceback' in err) == (2, True, False)


def test_two_predictions_of_one_image_of_a_list(folders, fails):
    (folders / 'list.txt').write_text('x/a_image.jpg gt/a_label.png\nx/b_image.jpg gt/b_label.png\n')
    for round_ in ('one', 'two'):
        for name, label in (('a', [[0, 0, 1], [1, 2, 2]]), ('b', [[1, 1], [0, 0]])):
            save(folders / f'rounds/{round_}/{name}_image.png', label)
    fails(IOU, '--pred_dir', folders / 'rounds', '--gt_dir', folders, '--gt_list', folders / 'list.txt',
          '--num_classes', 4, naming=[folders / 'rounds/two/a_image.png', folders / 'rounds/one/a_image.png'])
