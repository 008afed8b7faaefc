import json
import shutil
import subprocess

import pytest

from spml.errors import DataError
from spml.report.run_folder import read_runs


def test_everything_a_pipeline_left_is_read(made):
    first, second = read_runs(made.runs)
    assert (first.name, second.name) == ('a/run', 'b/run')
    assert first.made == '2026-01-02 03:04:05: bashscripts/x.sh, SPML 1.2, PyTorch 3.4'
    assert first.settings['DATAROOT'] == str(made.data)
    assert list(first.metrics) == ['stage1', 'classifier']
    assert len(first.metrics['stage1']) == 20
    assert (first.configs['stage1']['train.base_lr'], second.configs['stage1']['train.base_lr']) == (0.01, 0.02)
    assert first.configs['stage1']['seed'] == 5
    assert [score.name for score in first.scores] == ['score_pseudo', 'score_final']
    assert [score.title for score in first.scores] == ['pseudo', 'final']
    assert list(first.usage) == ['train_embedding', 'score_final']
    assert first.class_names == made.class_names
    assert first.last_prediction == made.runs[0] / 'inference_final' / 'semantic_gray'
    assert first.pseudo_labels == made.runs[0] / 'pseudo_labels' / 'semantic_gray'
    assert first.list_path('VAL_LIST') == made.data / 'val.txt'


def test_settings_are_read_as_bash_quotes_them(made):
    words = ['a b', "it's", '', '$HOME', 'a,b;c', '"x"', '[1, 2]', 'back\\slash', '/plain']
    script = 'for word in "$@"; do printf "NAME=%q\\n" "$word"; done'
    lines = subprocess.run(['bash', '-c', script, 'bash', *words], capture_output=True, text=True, check=True).stdout
    for word, line in zip(words, lines.splitlines(), strict=True):
        (made.runs[0] / 'run.txt').write_text(f'-- now: x\n{line}\n')
        assert read_runs(made.runs[:1])[0].settings == {'NAME': word}


def test_titles_and_order_are_those_of_the_summary(made):
    (made.runs[0] / 'summary.json').write_text(json.dumps([
        {'name': 'score_final', 'title': 'The end', 'mean_iou': 0.1}, {'name': 'score_gone', 'title': 'x'}]))
    scores = read_runs(made.runs[:1])[0].scores
    assert [(score.name, score.title) for score in scores] == [('score_final', 'The end'), ('score_pseudo', 'pseudo')]


def test_the_copy_of_a_list_comes_before_the_original(made):
    (made.runs[0] / 'lists').mkdir()
    shutil.copy(made.data / 'val.txt', made.runs[0] / 'lists' / 'input_val.txt')
    (made.data / 'full.txt').unlink()
    run = read_runs(made.runs[:1])[0]
    assert run.list_path('VAL_LIST') == made.runs[0] / 'lists' / 'input_val.txt'
    assert run.list_path('FULL_LIST') is None


def test_a_training_alone_is_a_run_and_replaced_trainings_are_left_out(made):
    run, = read_runs([made.runs[0] / 'stage1'])
    assert (run.name, list(run.metrics), run.scores, run.settings) == ('stage1', ['stage1'], [], {})
    shutil.copytree(made.runs[0] / 'stage1', made.runs[0] / 'stage1.previous-1')
    assert list(read_runs(made.runs[:1])[0].metrics) == ['stage1', 'classifier']


def test_mistakes_are_named(made, tmp_path):
    run = made.runs[0]
    with pytest.raises(DataError, match='twice'):
        read_runs([run, run / '..' / 'run'])
    for folder in (tmp_path / 'none', made.data):
        with pytest.raises(DataError, match=str(folder)):
            read_runs([folder])
    for name, text in (('summary.json', '{'), ('summary.json', '[1]'), ('scores/score_final.json', '{}'),
                       ('stage1/config.yaml', 'a: ['), ('stage1/config.yaml', '[1]')):
        before = (run / name).read_text() if (run / name).is_file() else '[]'
        (run / name).write_text(text)
        with pytest.raises(DataError, match=str(run / name)):
            read_runs([run])
        (run / name).write_text(before)
    read_runs([run])
