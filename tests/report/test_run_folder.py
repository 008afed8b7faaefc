import shutil

import pytest

from spml.errors import DataError
from spml.pipeline.record import Recorder
from spml.report.run_folder import read_runs


def test_everything_a_pipeline_left_is_read(made):
    first, second = read_runs(made.runs)
    assert (first.name, second.name) == ('a/run', 'b/run')
    assert first.made.endswith(', SPML 1.2, PyTorch 3.4')
    assert first.settings['DATAROOT'] == str(made.data)
    assert list(first.metrics) == ['stage1', 'classifier']
    assert len(first.metrics['stage1']) == 20
    assert (first.configs['stage1']['train.base_lr'], second.configs['stage1']['train.base_lr']) == (0.01, 0.02)
    assert first.configs['stage1']['seed'] == 5
    assert [(score.name, score.title) for score in first.scores] == [
        ('score_pseudo', 'pseudo labels'), ('score_final', 'the end')]
    assert first.costs['train_embedding'].seconds == 9.5
    assert first.class_names == made.class_names
    assert first.predictions.folder == made.runs[0] / 'predicted' / 'semantic_gray'
    assert first.predictions.image_list == first.predictions.truth_list == made.data / 'val.txt'
    assert first.pseudo_labels.folder == made.runs[0] / 'labelled' / 'semantic_gray'
    assert (first.pseudo_labels.image_list.name, first.pseudo_labels.truth_list.name) == ('train.txt', 'full.txt')
    assert first.prototypes == [made.runs[0] / 'prototypes']
    assert first.data_dir == made.data


def test_the_copy_of_a_list_comes_before_the_original(made):
    (made.runs[0] / 'lists').mkdir()
    shutil.copy(made.data / 'val.txt', made.runs[0] / 'lists' / 'input_val.txt')
    (made.data / 'full.txt').unlink()
    run = read_runs(made.runs[:1])[0]
    assert run.predictions.truth_list == made.runs[0] / 'lists' / 'input_val.txt'
    assert run.pseudo_labels.truth_list is None


def test_a_training_alone_is_a_run_and_replaced_trainings_are_left_out(made):
    run, = read_runs([made.runs[0] / 'stage1'])
    assert (run.name, list(run.metrics), run.scores, run.settings) == ('stage1', ['stage1'], [], {})
    shutil.copytree(made.runs[0] / 'stage1', made.runs[0] / 'stage1.previous-1')
    assert list(read_runs(made.runs[:1])[0].metrics) == ['stage1', 'classifier']


@pytest.mark.parametrize('script', ['prepare_cam.py', 'cam_label.py'])  # the latter until it was one with the former
def test_labels_from_cams_are_labels_of_training_images(made, script):
    """In a run that has come no further: the classifier of tags, labels from its CAMs, their score."""
    run, old = made.data / 'tags', made.runs[0]
    for before, after in (('stage1', 'cam_classifier'), ('labelled', 'cam_labels'), ('scores', 'scores')):
        shutil.copytree(old / before, run / after)
    recorder = Recorder(run)
    recorder.write('run', run_dir=str(run), script='x.sh', version='1.2', torch='3.4', settings={})
    for path, output, arguments in (
            ('train/train_cam.py', 'cam_classifier', []),
            (f'data/{script}', 'cam_labels', ['--data_list', str(made.data / 'train.txt')]),
            ('benchmark/benchmark_by_mIoU.py', 'scores/score_pseudo.json',
             ['--pred_dir', str(run / 'cam_labels/semantic_gray'), '--gt_list', str(made.data / 'full.txt')])):
        recorder.write('stage', stage=output, title='labels' if 'score' in output else '', status='done', seconds=1,
                       script=f'pyscripts/{path}', output=output,
                       arguments=['--data_dir', str(made.data), *arguments])
    found, = read_runs([run])
    assert list(found.metrics) == list(found.configs) == ['cam_classifier']
    assert found.pseudo_labels.folder == run / 'cam_labels' / 'semantic_gray'
    assert found.predictions is None


def test_mistakes_are_named(made, tmp_path):
    run = made.runs[0]
    with pytest.raises(DataError, match='twice'):
        read_runs([run, run / '..' / 'run'])
    for folder in (tmp_path / 'none', made.data):
        with pytest.raises(DataError, match=str(folder)):
            read_runs([folder])
    for name, text in (('scores/score_final.json', '{}'), ('stage1/config.yaml', 'a: ['),
                       ('stage1/config.yaml', '[1]')):
        before = (run / name).read_text()
        (run / name).write_text(text)
        with pytest.raises(DataError, match=str(run / name)):
            read_runs([run])
        (run / name).write_text(before)
    for name in ('scores', 'stage1', 'classifier'):
        shutil.rmtree(run / name)
    with pytest.raises(DataError, match='neither a training nor a score'):
        read_runs([run])
