"""The chain of stages: what runs, is kept or is refused, and what each change makes again (scripts are stubs)."""
import io
import itertools
import json
import os
import shutil
import subprocess

import pytest
import torch

from spml.config import effective
from spml.errors import DataError
from spml.models.build import build_embedding
from spml.pipeline.plan import Stage, read_plan
from spml.pipeline.recipes import configuration, recipe_of
from spml.pipeline.record import read_record
from spml.recipe import FileDigests

STAGES = ['train_embedding', 'inference', 'score', 'labels', 'train_classifier', 'score_final']


@pytest.fixture
def done(place):
    """The pipeline after a first run."""
    place.works()
    return place


def test_everything_runs_once_in_order_and_is_recorded(place):
    out = place.works(RUN_NAME='mine')
    assert place.calls == STAGES
    assert f'{place.run_dir}:\n  to run: train_embedding (11 steps), inference, score,' in out
    assert '[2/6] inference ...' in out
    assert 'output of labels' in out
    assert (place.run_dir / 'logs' / 'labels.log').read_text() == 'output of labels\n'
    assert [line.split() for line in out.splitlines()[-10:-3]] == [
        ['IoU:', 'final', '%'], ['cat', '50.00'], ['dog', '0.00', *['(absent,', 'counts', 'as', '0)']], [],
        ['mean', 'IoU', '%'], ['joint', 'head', '25.00'], ['final', '25.00']]
    assert (place.run_dir / 'lists' / 'input_val.txt').read_text() == 'a.jpg truth.png\n'
    record = read_record(place.run_dir)
    assert record.settings['RUN_NAME'] == 'mine'
    assert [stage.name for stage in record.stages] == STAGES
    assert {stage.status for stage in record.stages} == {'done'}
    assert record.stages[1].options['--save_dir'] == str(place.run_dir / 'inference') == str(record.stages[1].output)
    assert all(stage.seconds > 0 and stage.memory > 1 << 20 for stage in record.stages)

    out = place.works()
    assert place.calls == []
    assert out.count('done before, skipped') == len(STAGES)
    assert 'to run: nothing' in out
    assert {stage.status for stage in read_record(place.run_dir).stages} == {'stands'}


def test_a_record_outlives_the_move_of_its_folder(done):
    moved = done.folder / 'elsewhere'
    done.run_dir.rename(moved)
    stage = read_record(moved).stages[2]
    assert (stage.output, stage.options['--pred_dir']) == (moved / 'scores/score.json',
                                                           str(moved / 'inference/semantic_gray'))
    (moved / 'run.jsonl').unlink()
    with pytest.raises(DataError, match=r'no readable run\.jsonl'):
        read_record(moved)
    (moved / 'run.txt').write_text('')
    with pytest.raises(DataError, match='run its script once more'):
        read_record(moved)


@pytest.mark.parametrize(('change', 'again'), [
    (lambda place: place.overrides['embedding'].append('test.image_size=64'), ['inference']),
    (lambda place: place.overrides['embedding'].append('test.crop_size=[64,64]'), ['inference', 'labels']),
    (lambda place: (place.data / 'truth.png').write_text('other'), ['score', 'score_final']),
    (lambda place: (place.folder / 'embedding.yaml').open('a').write('# a comment\n'), []),
    (lambda place: place.overrides['embedding'].append('num_threads=1'), []),
    (lambda place: os.utime(place.data / 'weak.png'), []),
    (lambda place: (place.data / 'val.txt').write_text('\na.jpg   truth.png\n'), []),
    (lambda place: place.overrides['embedding'].append('dataset.class_names=[x,y,z]'), ['score', 'score_final']),
    (lambda place: shutil.rmtree(place.run_dir / 'inference'), ['inference']),
    (lambda place: (place.run_dir / 'inference/semantic_gray/a.png').unlink(), ['inference']),
    (lambda place: (place.run_dir / 'scores/score.json').unlink(), ['score'])])
def test_what_does_not_read_a_change_stays(done, change, again):
    change(done)
    assert done.made() == again
    assert done.made() == []


@pytest.mark.parametrize(('change', 'named'), [
    (lambda place: (place.data / 'weak.png').write_text('corrected'), 'weak.png: other content'),
    (lambda place: replace_by_older(place.data / 'regions.png'), 'regions.png: other content'),
    (lambda place: (place.data / 'train.txt').write_text('a.jpg weak.png regions.png\n' * 2), 'lines of --data_list'),
    (lambda place: (place.data / 'train.txt').write_text('a.jpg weak.png regions.png 1\n'), 'lines of --data_list'),
    (lambda place: place.overrides['embedding'].append('train.base_lr=0.5'), 'train.base_lr: 0.003 -> 0.5')])
def test_a_training_is_made_again_only_if_asked(done, change, named):
    (done.folder / 'weights').write_text('other weights')
    change(done)
    error = done.refused()
    for word in (str(done.run_dir), 'train_embedding', named, 'RUN_NAME', 'OVERWRITE=1'):
        assert word in error
    done.works(OVERWRITE='1')
    # Labels and scores came out the same, so what follows them is kept; the classifier starts from other weights.
    assert done.calls == ['train_embedding', 'inference', 'labels', 'train_classifier']
    assert (done.run_dir / 'stage1.previous-1' / 'model-10.pth').read_text() == 'weights'
    assert (done.run_dir / 'classifier.previous-1' / 'model-10.pth').exists()
    assert done.made() == []


def replace_by_older(path):
    path.write_text('older')
    os.utime(path, (0, 0))


def test_a_classifiers_setting_leaves_the_embedding_alone(done):
    done.overrides['classifier'] = ['train.base_lr=0.5']
    assert 'train_classifier was made differently (train.base_lr' in done.refused()
    assert done.made(OVERWRITE='1') == ['train_classifier']


def test_both_configurations_are_checked_before_the_first_stage(place):
    place.overrides['classifier'] = ['train.base_rl=0.5']
    assert 'train.base_lr' in place.refused()
    place.overrides = {'embedding': ['network.pretrained=/nowhere.pth'], 'classifier': []}
    assert 'network.pretrained=/nowhere.pth' in place.refused()
    assert 'PRETRAINED=/nowhere.pth' in place.refused(PRETRAINED='/nowhere.pth')
    place.overrides['embedding'] = ['network.pretrained=/no/such/folder']
    assert 'network.pretrained=/no/such/folder' in place.refused()
    place.overrides['embedding'] = []
    (place.data / 'val.txt').unlink()
    assert f'VAL_LIST={place.data}/val.txt: no such file' in place.refused()
    assert not (place.run_dir / 'run.jsonl').exists()


def test_given_weights_take_the_place_of_a_training(place):
    weights = place.folder / 'released.pth'
    place.drop, place.extra = ['demo_data', 'train_embedding', 'train_classifier'], ['--checkpoint', weights]
    assert 'released.pth: no such file' in place.refused()
    weights.write_text('weights')
    assert place.made() == ['inference', 'score', 'labels', 'score_final']
    weights.write_text('others')
    assert place.made() == ['inference', 'labels']


def test_the_last_word_of_a_key_counts_and_is_announced(place):
    place.overrides['embedding'] = ['train.total_batch_size=6', 'train.total_batch_size=8']
    out = place.works()
    assert out.count('note: train_embedding: train.total_batch_size=8 overrules BATCH=6') == 1
    place.overrides['embedding'][1] = 'train.batch_size=2'
    assert 'overrules BATCH=6' in place.works(OVERWRITE='1')


@pytest.mark.parametrize(('name', 'value'), [
    ('BATCH', '0'), ('BATCH', 'all'), ('PROCESSES', '0'), ('CLUSTERS', '6x6'), ('NUM_WORKERS', 'abc'),
    ('NUM_CLASSES', '-1'), ('OVERWRITE', '0'), ('GPUS', 'a')])
def test_a_bad_setting_is_one_line_before_anything_runs(place, name, value):
    error = place.refused(**{name: value})
    assert error.startswith(f'error: {name}={value}: must be ')
    assert error.count('\n') == 1


def test_what_is_overruled_or_read_by_nobody_is_said(place):
    place.drop = ['demo_data', 'train_classifier']
    out = place.works(GPUS='0', SET_EMBEDDING='seed=0 gpus=0', SET_CLASSIFIER='seed=1')
    assert 'note: gpus=0 overrules GPUS=0' in out
    assert 'note: SET_CLASSIFIER changes nothing' in out


def test_the_built_in_data_are_made_again_only_if_asked(place):
    place.drop = []
    assert 'to run: demo_data, train_embedding (11 steps)' in place.works()
    place.num_val = 5
    assert "demo_data was made differently (--num_val: '4' -> '5')" in place.refused()
    out = place.works(OVERWRITE='1')
    assert 'to run: demo_data (again), train_embedding (11 steps, again)' in out
    assert place.calls == ['demo_data']  # it drew the same
    assert '--overwrite' in place.all_calls[0]['words']


def test_every_key_that_a_training_depends_on_is_in_its_recipe(place):
    stage, digests = read_plan(io.BytesIO(place.words())).stages[0], FileDigests()
    found = recipe_of(stage, digests).values
    config = configuration(stage)
    images = {'train.batch_size', 'train.total_batch_size'}
    assert {*effective(config, 'embedding')} - images == found.keys() - images - {'script'}
    assert found['network.pretrained'] == ''
    place.overrides['embedding'] = ['network.pretrained=torchvision', 'network.stem=7x7',
                                    'network.backbone_types=panoptic_deeplab_50']
    stage = read_plan(io.BytesIO(place.words())).stages[0]
    assert recipe_of(stage, digests).values['network.pretrained'] == 'torchvision'


@pytest.mark.parametrize('script', ['cam_label.py', 'prepare_cam.py'])
def test_labels_that_were_made_before_their_script_changed_its_name_stand(tmp_path, script):
    stage = Stage('cam_labels', '', tmp_path, f'pyscripts/data/{script}', ['--alpha', '6'])
    assert recipe_of(stage, FileDigests()).values == {'script': 'cam_label.py', '--alpha': '6'}


def test_a_moved_run_continues(done):
    done.run_dir = done.run_dir.rename(done.folder / 'moved')
    out = done.works()
    # The list of the labels names files where they were, so it is written again; they are the same.
    assert done.calls == ['labels']
    assert str(done.run_dir / 'labels') in (done.run_dir / 'lists/pseudo.txt').read_text()
    assert out.count('skipped') == len(STAGES) - 1


def test_a_lost_list_is_written_again_and_the_classifier_stays(done):
    (done.run_dir / 'lists/pseudo.txt').unlink()
    assert done.made() == ['labels']


def test_weights_without_a_state_are_taken_over_or_refused_never_trained_again(done):
    shutil.rmtree(done.run_dir / '.stages')
    for name, stage in (('embedding', 'stage1'), ('classifier', 'classifier')):
        shutil.copy(done.folder / f'{name}.yaml', done.run_dir / stage / 'config.yaml')
    done.works()
    assert 'train_embedding' not in done.calls
    assert 'train_classifier' not in done.calls
    shutil.rmtree(done.run_dir / '.stages')
    done.overrides['embedding'] = ['network.kmeans_iterations=3']
    assert 'network.kmeans_iterations: 10 -> 3' in done.refused()


def test_overwriting_reaches_what_a_training_resumes(place):
    place.overrides['embedding'] = ['train.total_batch_size=12']  # of all processes, however many
    place.behave(train_embedding={'fail': 3})
    place.run()
    place.behave()
    place.works(OVERWRITE='1', PROCESSES='2')
    assert {'--resume', '--accept_changes'} <= set(place.all_calls[0]['words'])
    assert (place.run_dir / 'logs' / 'train_embedding.log').read_text() == 2 * 'output of train_embedding\n'


def test_damaged_lines_of_a_record_are_skipped(done):
    path = done.run_dir / 'run.jsonl'
    text = path.read_text()
    path.write_text('{"event": "stage"}\n[]\n{"ev' + '\n' + text + '{"event": "sta')
    done.works()
    assert [stage.name for stage in read_record(done.run_dir).stages] == STAGES


def test_the_first_failure_ends_it_and_it_goes_on_from_there(place):
    place.behave(labels={'fail': 3})
    status, out, error = place.run()
    assert (status, place.calls[-1]) == (3, 'labels')
    assert '[4/6] labels FAILED with status 3' in error
    assert str(place.run_dir / 'logs' / 'labels.log') in error
    assert 'pseudo_label.py' in error
    place.behave()
    out = place.works()
    assert place.calls == STAGES[3:]
    assert '[4/6] labels ... (continues where it stopped)' in out
    assert [stage.status for stage in read_record(place.run_dir).stages] == ['stands'] * 3 + ['done'] * 3


def test_success_without_output_is_a_failure(place):
    place.behave(labels={'lazy': True})
    status, out, _ = place.run()
    assert status == 1
    assert 'labels is missing although the stage reported success' in out


def test_an_unfinished_training_resumes(place):
    place.behave(train_embedding={'fail': 3})
    assert place.run()[0] == 3
    assert '--resume' not in place.all_calls[0]['words']
    place.behave()
    place.works()
    assert '--resume' in place.all_calls[0]['words']
    assert not (place.run_dir / 'stage1.previous-1').exists()
    assert read_record(place.run_dir).stages[0].resumed


def test_a_forced_stage_and_the_later_ones_run_again_even_when_stopped_in_between(done):
    done.behave(train_classifier={'fail': 3})
    assert done.run(FORCE='labels')[0] == 3
    assert done.calls == STAGES[3:5]
    done.behave()
    assert done.made() == STAGES[4:]
    assert (done.run_dir / 'classifier.previous-1' / 'model-10.pth').exists()
    assert 'FORCE=training: no such stage; stages: train_embedding' in done.refused(FORCE='training')
    done.overrides['classifier'] = ['train.base_lr=0.5']  # of a stage that is forced anyway
    done.works(FORCE='labels')


def test_stale_files_of_another_list_go(done):
    stale = done.run_dir / 'inference/semantic_gray/stale.png'
    stale.write_text('from another list')
    (done.data / 'b.jpg').write_text('b')
    (done.data / 'val.txt').write_text('b.jpg truth.png\n')
    done.works()
    assert not stale.exists()


@pytest.mark.parametrize(('settings', 'processes', 'visible'), [
    ({}, '1', None), ({'GPUS': '2,3'}, '1', '2,3'), ({'PROCESSES': '3'}, '3', None)])
def test_launching_is_no_setting(place, settings, processes, visible, monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    place.overrides['embedding'] = ['train.total_batch_size=12']
    place.works(NUM_WORKERS='5', **settings)
    calls = {call['stage']: call for call in place.all_calls}
    for stage in ('train_embedding', 'inference', 'labels'):
        words = calls[stage]['words']
        assert words[words.index('--num_processes') + 1] == processes
        assert calls[stage]['gpus'] == visible
        assert ('--num_workers' in words) == (stage != 'train_embedding')
    assert '--num_processes' not in calls['train_classifier']['words']
    assert place.made(GPUS='1') == []


def test_versions_may_differ_in_which_keys_there_are(done):
    for path in (done.run_dir / '.stages').glob('*.json'):
        state = json.loads(path.read_text())
        state['recipe']['values'] |= {'train.abolished': 1}
        state['recipe']['values'].pop('network.embedding_dim', None)
        path.write_text(json.dumps(state))
    assert done.made() == []
    done.overrides['embedding'] = ['train.batch_size=2']
    assert "train.batch_size: '4 each' -> '2 each'" in done.refused()


@pytest.mark.parametrize('text', [
    '{"recipe"', '[]', '{"recipe": 1, "complete": true, "size": 1}',
    '{"recipe": {"values": {}, "files": {}}, "complete": true, "size": "one"}'])
def test_a_damaged_state_is_no_state(done, text):
    (done.run_dir / '.stages' / 'score.json').write_text(text)
    assert done.made() == ['score']


def earlier_version(place):
    """Turn a finished run into what the version before left: stamps of command lines, lists with checksums."""
    (place.run_dir / '.done').mkdir(exist_ok=True)
    for _, name, _, script, arguments in place.stages():
        words = [f'pyscripts/{script}', *map(str, arguments)]
        for option, path in itertools.pairwise(words):
            if option.endswith('_list'):
                checksum = subprocess.run(['cksum', path], capture_output=True, text=True, check=True).stdout.split()
                words[words.index(path)] = f'{path}  # {checksum[0]} {checksum[1]}'
        (place.run_dir / '.done' / name).write_text('\n'.join(words))
    shutil.rmtree(place.run_dir / '.stages')
    (place.run_dir / 'run.jsonl').unlink()


def test_a_run_of_the_version_before_is_taken_over(done):
    earlier_version(done)
    (done.run_dir / 'stage1' / 'config.yaml').write_text(done.folder.joinpath('embedding.yaml').read_text())
    out = done.works()
    assert done.calls == []
    assert out.count('skipped') == len(STAGES)
    (done.data / 'weak.png').write_text('corrected')  # known by content from now on
    assert 'weak.png: other content' in done.refused()


def test_a_run_of_the_version_before_with_other_settings_is_refused(done):
    earlier_version(done)
    text = done.folder.joinpath('embedding.yaml').read_text().replace('max_iteration: 11', 'max_iteration: 12')
    (done.run_dir / 'stage1' / 'config.yaml').write_text(text)
    assert 'train.max_iteration: 12 -> 11' in done.refused()


def test_a_run_of_the_version_before_is_not_taken_over_blindly(done):
    earlier_version(done)
    (done.run_dir / 'classifier' / 'model-10.pth').unlink()
    for path in (done.run_dir / 'labels/semantic_gray').iterdir():
        path.unlink()
    done.works()
    assert done.calls[:2] == ['labels', 'train_classifier']  # what is lost is made again
    assert '--resume' in next(call for call in done.all_calls if call['stage'] == 'train_classifier')['words']
    earlier_version(done)
    (done.data / 'train.txt').write_text('a.jpg weak.png regions.png\n' * 2)
    assert 'train.txt: other content' in done.refused()


def test_an_unfinished_stage_of_the_version_before_goes_on(done):
    earlier_version(done)
    for name in STAGES[1:]:
        (done.run_dir / '.done' / name).unlink()
    (done.run_dir / '.done' / 'train_embedding').rename(done.run_dir / '.done' / 'train_embedding.begun')
    done.works()
    assert '--resume' in done.all_calls[0]['words']
    assert json.loads((done.run_dir / '.stages/train_embedding.json').read_text())['complete']


def test_where_each_process_takes_so_many_images_their_number_is_a_setting(place):
    place.overrides['embedding'] = ['train.batch_size=2']
    place.works(PROCESSES='2')
    assert place.made(PROCESSES='2') == []
    assert 'train_embedding was made differently (processes: 2 -> 3)' in place.refused(PROCESSES='3')
    place.behave(train_embedding={'fail': 3})
    place.run(PROCESSES='3', OVERWRITE='1')
    assert place.calls == ['train_embedding']
    # What was begun with three processes does not go on with two.
    place.behave()
    assert 'processes: 3 -> 2' in place.refused(PROCESSES='2')
    assert place.calls == []
    place.works(PROCESSES='3')
    # A version before did not note the number.
    path = place.run_dir / '.stages' / 'train_embedding.json'
    state = json.loads(path.read_text())
    assert state['recipe']['values'].pop('processes') == 3
    path.write_text(json.dumps(state))
    assert place.made(PROCESSES='2') == []


def test_a_setting_that_an_earlier_version_did_not_know_had_its_default(place):
    place.works()
    path = place.run_dir / '.stages' / 'train_embedding.json'
    state = json.loads(path.read_text())
    assert state['recipe']['values'].pop('train.clip_grad_norm') == 0
    path.write_text(json.dumps(state))
    assert place.made() == []
    place.overrides['embedding'] = ['train.clip_grad_norm=1']
    assert 'train.clip_grad_norm: 0.0 -> 1.0' in place.refused()


def without_training(place, checkpoint):
    """Let weights take the place of the training; return the setting that says so."""
    place.drop += ['train_embedding', 'labels', 'train_classifier', 'score_final']
    place.extra = ['--checkpoint', str(checkpoint)]
    return {'CHECKPOINT': str(checkpoint)}


def test_a_checkpoint_that_is_junk_is_found_before_the_first_stage(place):
    junk = place.folder / 'junk.pth'
    junk.write_bytes(b'no weights')
    error = place.refused(**without_training(place, junk))
    assert f'CHECKPOINT={junk}: not a readable checkpoint' in error


def test_a_checkpoint_of_another_network_is_found_before_the_first_stage_and_a_good_one_runs(place):
    config = configuration(read_plan(io.BytesIO(place.words())).stages[0])
    weights = build_embedding(config).state_dict()
    path = place.folder / 'model-3.pth'
    torch.save({'embedding_model': weights}, path)
    settings = without_training(place, path)
    assert place.made(**settings) == ['inference', 'score']
    name = next(name for name in weights if 'res3' in name)
    weights[name.replace('res3.0', 'res3.7')] = weights[name]
    torch.save({'embedding_model': weights}, path)
    assert f'CHECKPOINT={path}: does not fit the configured network' in place.refused(**settings)


def test_without_truth_the_end_says_so(place):
    place.drop += ['score', 'score_final']
    says = 'scores:   none; there is no truth to score against (VAL_LIST and FULL_LIST are empty)'
    assert says in place.works(VAL_LIST='', FULL_LIST='').splitlines()
    assert says not in place.works(VAL_LIST='', FULL_LIST='x')
    place.drop = ['demo_data']
    assert says not in place.works(VAL_LIST='', FULL_LIST='')
