"""The scribble pipeline's script: stages, their arguments, skipping, forcing and stopping (Python is a fake)."""
import os
import shutil
import signal
import subprocess
import time

import pytest

STAGES = ['train_embedding', 'prototypes', 'inference_retrieval', 'score_retrieval', 'inference_softmax_joint',
          'score_softmax_joint', 'pseudo_labels', 'score_pseudo', 'train_classifier', 'inference_single',
          'score_single', 'inference_final', 'score_final', 'picture']


def option(args, name):
    return args[args.index(name) + 1]


def skipped(output):
    return [line.split('] ')[1].split(':')[0] for line in output.splitlines() if line.endswith('skipped')]


def done(output):
    return [line.split('] ')[1].split(' done')[0] for line in output.splitlines() if '] ' in line and 'done in' in line]


def test_all_stages_run_in_order_with_the_arguments_of_the_contract(place):
    result = place.run()
    assert result.returncode == 0, result.stderr
    assert done(result.stdout) == STAGES
    assert f'[14/{len(STAGES)}] picture ...' in result.stdout
    assert str(place.run_dir / 'contact_sheet.png') in result.stdout

    lists, run = place.data / 'lists', place.run_dir
    train = place.call('train.py')
    assert option(train, '--data_list') == str(lists / 'train_scribble.txt')
    assert f'network.pretrained={place.weights}' in train
    prototypes = place.call('prototype.py')
    assert option(prototypes, '--data_list') == str(lists / 'train_full.txt')
    assert option(prototypes, '--kmeans_num_clusters') == '12,12'
    retrieval = place.call('inference.py', '--predictor retrieval')
    assert option(retrieval, '--semantic_memory_dir') == str(run / 'prototypes' / 'semantic_prototype')
    pseudo = place.call('pseudo_label.py')
    assert option(pseudo, '--source') == 'softmax_random_walk'
    assert option(pseudo, '--snapshot_dir') == str(run / 'stage1')
    classifier = place.call('train_classifier.py')
    assert option(classifier, '--data_list') == str(run / 'lists' / 'train_pseudo.txt') == option(pseudo, '--list_out')
    assert f'network.pretrained={run}/stage1/model-10.pth' in classifier  # 10, not 9: by number, not by name
    final = place.call('inference.py', '--crf')
    assert '--multi_scale' in final
    assert option(final, '--cfg_path').endswith('configs/voc12/classifier.yaml')
    assert option(final, '--snapshot_dir') == str(run / 'classifier')
    single = place.call('inference.py', 'inference_single')
    assert '--multi_scale' not in single
    assert '--crf' not in single
    picture = place.call('contact_sheet.py')
    assert option(picture, '--pseudo_dir') == str(run / 'pseudo_labels' / 'semantic_gray')
    table = place.call('summary.py')
    assert 'score_retrieval=embedding, retrieval (prototypes from full truth)' in table


def test_each_stage_leaves_its_log(place):
    place.run()
    assert sorted(path.stem for path in (place.run_dir / 'logs').iterdir()) == sorted(STAGES)
    assert (place.run_dir / 'logs' / 'prototypes.log').read_text() == 'stage output prototype.py\n'


def test_second_run_skips_everything(place):
    place.run()
    result = place.run()
    assert result.returncode == 0
    assert skipped(result.stdout) == STAGES
    assert place.scripts() == []
    assert len(place.calls) == 1  # the table is printed again


def test_stops_at_the_first_failing_stage_and_goes_on_from_there(place):
    result = place.run(FAKE_FAIL='pseudo_label.py')
    assert result.returncode == 3
    assert '[7/14] pseudo_labels FAILED with status 3' in result.stderr
    assert 'pseudo_label.py' in result.stderr
    log = place.run_dir / 'logs' / 'pseudo_labels.log'
    assert str(log) in result.stderr
    assert log.read_text() == 'sorry, no luck\n'
    assert place.scripts()[-1] == 'pseudo_label.py'
    result = place.run()
    assert result.returncode == 0
    assert skipped(result.stdout) == STAGES[:6]
    assert done(result.stdout) == STAGES[6:]


def test_success_without_output_is_a_failure(place):
    result = place.run(FAKE_LAZY='prototype.py')
    assert result.returncode == 1
    assert '[2/14] prototypes FAILED' in result.stderr
    assert 'semantic_prototype is missing' in result.stdout


def test_a_forced_stage_and_the_later_ones_run_again(place):
    place.run()
    result = place.run(FORCE='train_classifier')
    assert skipped(result.stdout) == STAGES[:8]
    assert done(result.stdout) == STAGES[8:]
    assert (place.run_dir / 'classifier.previous-1' / 'model-10.pth').exists()  # weights are not thrown away


def test_stages_after_one_that_ran_run_again_even_if_it_was_stopped_in_between(place):
    place.run()
    assert place.run(FORCE='pseudo_labels', FAKE_FAIL='score_pseudo').returncode == 3
    result = place.run()
    assert skipped(result.stdout) == STAGES[:7]
    assert done(result.stdout) == STAGES[7:]


def test_an_unknown_forced_stage_is_named_with_the_choices(place):
    result = place.run(FORCE='training')
    assert result.returncode == 2
    assert 'FORCE=training' in result.stderr
    assert 'train_classifier' in result.stderr
    assert place.calls == []


def test_a_changed_setting_is_refused_unless_told(place):
    place.run()
    result = place.run(CLUSTERS='8,8')
    assert result.returncode == 2
    assert place.scripts() == []
    for word in (str(place.run_dir), 'prototypes: 8,8', 'RUN_NAME', 'OVERWRITE=1'):
        assert word in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = place.run(CLUSTERS='8,8', OVERWRITE='1')
    assert skipped(result.stdout) == ['train_embedding']
    assert '[2/14] prototypes ... (its settings changed, runs again)' in result.stdout
    assert option(place.call('prototype.py'), '--kmeans_num_clusters') == '8,8'


def test_settings_of_a_forced_stage_and_those_after_it_may_change(place):
    place.run()
    result = place.run(SET_CLASSIFIER='train.base_lr=1', FORCE='train_classifier')
    assert result.returncode == 0, result.stderr
    assert skipped(result.stdout) == STAGES[:8]
    assert place.run(CLUSTERS='8,8', SET_CLASSIFIER='train.base_lr=1', FORCE='train_classifier').returncode == 2


def test_a_changed_list_is_a_changed_setting(place):
    place.run()
    (place.data / 'lists' / 'train_full.txt').write_text('other')
    assert place.run().returncode == 2
    assert skipped(place.run(OVERWRITE='1').stdout) == ['train_embedding']


def test_gpus_and_workers_rerun_nothing(place):
    place.run()
    result = place.run(NUM_WORKERS='3', GPUS='1', FAKE_GPUS='1')
    assert skipped(result.stdout) == STAGES


def test_a_lost_output_is_made_again_without_stale_files(place):
    place.run()
    shutil.rmtree(place.run_dir / 'inference_final')
    result = place.run()
    assert done(result.stdout) == STAGES[11:]
    (place.run_dir / 'inference_final' / 'semantic_gray' / 'stale.png').write_text('from another list')
    place.run(FORCE='inference_final')
    assert [path.name for path in (place.run_dir / 'inference_final' / 'semantic_gray').iterdir()] == ['a.png']


def test_an_unfinished_training_resumes_from_its_snapshot(place):
    place.run(FAKE_FAIL='train.py', FAKE_SNAPSHOT='1')
    assert '--resume' not in place.call('train.py')
    place.run(FAKE_FAIL='train.py', SET_EMBEDDING='train.base_lr=1', OVERWRITE='1')  # another training does not
    assert '--resume' not in place.call('train.py')
    place.run(FAKE_FAIL='train.py', SET_EMBEDDING='train.base_lr=1', FAKE_SNAPSHOT='1')
    result = place.run(SET_EMBEDDING='train.base_lr=1')
    assert '--resume' in place.call('train.py')
    assert result.returncode == 0
    assert skipped(place.run(SET_EMBEDDING='train.base_lr=1').stdout) == STAGES


def test_checkpoint_takes_the_place_of_stage_1(place):
    weights = place.folder / 'released.pth'
    weights.write_text('weights')
    result = place.run(CHECKPOINT='released.pth', PRETRAINED='/nowhere.pth')  # relative to the working directory
    assert result.returncode == 0, result.stderr
    assert done(result.stdout) == STAGES[1:]
    assert option(place.call('prototype.py'), '--checkpoint') == str(weights)
    assert option(place.call('pseudo_label.py'), '--checkpoint') == str(weights)
    assert f'network.pretrained={weights}' in place.call('train_classifier.py')
    assert '--checkpoint' not in place.call('inference.py', '--crf')


def test_torchvisions_weights_come_with_their_stem(place):
    result = place.run(PRETRAINED='torchvision')
    assert result.returncode == 0, result.stderr
    assert 'network.pretrained=torchvision' in place.call('train.py')
    scripts = [call['args'] for call in place.calls if '--cfg_path' in call['args']]
    assert len(scripts) >= 8
    assert all('network.stem=7x7' in args for args in scripts)
    place.run(OVERWRITE='1')
    assert not any('network.stem=7x7' in call['args'] for call in place.calls)


def test_a_run_from_given_weights_forgets_nothing_of_the_full_run(place):
    place.run()
    weights = place.folder / 'released.pth'
    weights.write_text('weights')
    assert place.run(CHECKPOINT=str(weights)).returncode == 2
    assert done(place.run(CHECKPOINT=str(weights), OVERWRITE='1').stdout) == STAGES[1:]
    result = place.run(OVERWRITE='1')
    assert skipped(result.stdout) == STAGES[:1]
    assert (place.run_dir / 'stage1' / 'model-10.pth').exists()


def test_weights_are_kept_however_often_a_training_is_forced(place):
    place.run()
    for _ in range(2):
        place.run(FORCE='train_embedding')
    assert (place.run_dir / 'stage1.previous-1' / 'model-10.pth').exists()
    assert (place.run_dir / 'stage1.previous-2' / 'model-10.pth').exists()


def test_the_run_says_how_it_was_made(place):
    place.run(SET_EMBEDDING='train.base_lr=1')
    text = (place.run_dir / 'run.txt').read_text()
    for part in ('SPML ', f'DATAROOT={str(place.data)!r}'.replace("'", '').replace(' ', r'\ '), 'BATCH=16',
                 'SET_EMBEDDING=train.base_lr=1', '[train_embedding] ', 'pyscripts/train/train.py', '[picture] '):
        assert part in text
    kept = {path.name for path in (place.run_dir / 'lists').glob('input_*')}
    assert kept == {'input_train_scribble.txt', 'input_train_full.txt', 'input_val.txt'}
    assert (place.run_dir / 'lists' / 'input_val.txt').read_text() == 'val'


@pytest.mark.parametrize(('settings', 'expected'), [
    ({}, ['train.total_batch_size=16']), ({'BATCH': '6'}, ['train.total_batch_size=6']),
    ({'SET_EMBEDDING': 'a.b=c train.batch_size=2'}, ['train.batch_size=2']),
    ({'SET_EMBEDDING': 'train.batch_size=2'}, ['train.batch_size=2'])])
def test_images_of_a_step(place, settings, expected):
    place.run(**settings)
    assert [word for word in place.call('train.py') if 'batch_size' in word] == expected
    assert not [word for word in place.call('train_classifier.py') if 'batch_size' in word]


def test_classes_come_from_the_configuration_unless_given(place):
    place.run()
    for script, containing in (('benchmark_by_mIoU.py', 'score_final'), ('contact_sheet.py', '')):
        arguments = place.call(script, containing)
        assert option(arguments, '--cfg_path').endswith('configs/voc12/scribble.yaml')
        assert '--num_classes' not in arguments
        assert '--class_names' not in arguments
    place.run(RUN_NAME='other', NUM_CLASSES='4', CLASS_NAMES='a,b,c,d')
    for script, containing in (('benchmark_by_mIoU.py', 'score_final'), ('contact_sheet.py', '')):
        arguments = place.call(script, containing)
        assert (option(arguments, '--num_classes'), option(arguments, '--class_names')) == ('4', 'a,b,c,d')


def test_without_truth_of_the_training_images(place):
    (place.data / 'lists/train_full.txt').unlink()
    assert 'FULL_LIST' in place.run().stderr
    result = place.run(FULL_LIST='')
    assert result.returncode == 0, result.stderr
    without = ('prototypes', 'inference_retrieval', 'score_retrieval', 'score_pseudo')
    assert done(result.stdout) == [stage for stage in STAGES if stage not in without]
    assert '--full_list' not in place.call('contact_sheet.py')
    assert 'score_pseudo' not in ' '.join(place.call('summary.py'))


def test_scribble_chooses_list_and_folder(place):
    place.run(SCRIBBLE='dilate_3_0.5')
    train = place.call('train.py')
    assert option(train, '--data_list') == str(place.data / 'lists' / 'train_scribble_0.5.txt')
    assert option(train, '--snapshot_dir') == str(place.folder / 'snap' / 'spml_scribble_0.5' / 'stage1')


def test_overrides_from_the_environment_reach_the_command_lines(place):
    val = place.folder / 'val2.txt'
    val.write_text('val')
    place.run(VAL_LIST=str(val), RUN_NAME='mine', NUM_WORKERS='5', SET_EMBEDDING='train.crop_size=[64,64] a.b=c',
              SET_CLASSIFIER='d.e=f')
    final = place.call('inference.py', '--crf')
    assert option(final, '--data_list') == str(val)
    assert option(final, '--num_workers') == '5'
    assert option(final, '--save_dir') == str(place.folder / 'snap' / 'mine' / 'inference_final')
    assert 'd.e=f' in final
    train = place.call('train.py')
    assert 'train.crop_size=[64,64]' in train
    assert 'a.b=c' in train
    assert 'd.e=f' not in train


def test_several_gpus_run_the_network_with_a_process_each(place):
    place.run(GPUS='2,3', FAKE_GPUS='2')
    for call in (place.call('train.py'), place.call('prototype.py'), place.call('pseudo_label.py'),
                 place.call('inference.py', '--crf')):
        assert option(call, '--num_processes') == '2'
    assert '--num_processes' not in place.call('train_classifier.py')
    assert {call['visible'] for call in place.calls} == {'2,3'}


def test_without_a_gpu_gpus_is_ignored(place):
    result = place.run(GPUS='0,1,2,3', FAKE_GPUS='0')
    assert result.returncode == 0
    assert option(place.call('train.py'), '--num_processes') == '1'


def test_the_number_of_processes_can_be_given(place):
    result = place.run(PROCESSES='3', FAKE_GPUS='0')
    assert result.returncode == 0
    assert option(place.call('train.py'), '--num_processes') == '3'


def test_gpus_that_are_not_there_are_an_error(place):
    result = place.run(GPUS='0,1,2,3', FAKE_GPUS='1')
    assert result.returncode == 2
    assert 'GPUS=0,1,2,3' in result.stderr


@pytest.mark.parametrize(('settings', 'named'), [
    ({'DATAROOT': None}, 'DATAROOT'), ({'SNAPSHOT_ROOT': '/tmp/my runs'}, 'SNAPSHOT_ROOT'), ({'BATCH': '0'}, 'BATCH=0'),
    ({'BATCH': 'all'}, 'BATCH=all'), ({'PROCESSES': '0'}, 'PROCESSES=0'),
    ({'DATAROOT': '/nowhere'}, '/nowhere/lists/train_scribble.txt'),
    ({'PRETRAINED': '/nowhere.pth'}, 'PRETRAINED=/nowhere.pth'),
    ({'CHECKPOINT': '/nowhere.pth'}, 'CHECKPOINT=/nowhere.pth'),
    ({'DATASET': 'voc2007'}, 'DATASET=voc2007'),
    ({'SPML_PYTHON': '/nowhere/python'}, 'setup.sh'),
])
def test_bad_settings_are_one_line(place, settings, named):
    result = place.run(**settings)
    assert result.returncode == 2
    assert named in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert place.calls == []


def test_the_demo_makes_its_data_and_starts_from_random_weights(place):
    result = place.run(DATASET='demo', DATAROOT=str(place.folder / 'demo'), PRETRAINED=None,
                       DEMO_OPTIONS='--num_train 3')
    assert result.returncode == 0, result.stderr
    assert done(result.stdout) == ['demo_data', *STAGES]
    data = place.call('make_synthetic.py')
    assert option(data, '--out') == str(place.folder / 'demo')
    assert option(data, '--num_train') == '3'
    train = place.call('train.py')
    assert option(train, '--cfg_path').endswith('configs/demo/scribble.yaml')
    assert 'network.pretrained=' in train
    assert option(place.call('prototype.py'), '--kmeans_num_clusters') == '6,6'


def test_two_runs_in_one_folder_do_not_mix(place):
    if not shutil.which('flock'):
        pytest.skip('no flock on this machine')
    place.run_dir.mkdir(parents=True)
    result = place.run(['flock', str(place.run_dir / '.lock'), 'bash', str(place.script)])
    assert result.returncode == 2
    assert 'another run' in result.stderr


def test_interrupt_stops_everything_with_one_line(place):
    environment = place.environment(FAKE_WAIT='prototype.py')
    # What a shell starts in the background ignores Ctrl-C, and so would everything below these tests.
    process = subprocess.Popen(['bash', str(place.script)], env=environment, cwd=place.folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    log = place.run_dir / 'logs' / 'prototypes.log'
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and 'waiting' in log.read_text()):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.strip().startswith('[2/14] prototypes interrupted; run the same script again')
    assert len(err.strip().splitlines()) == 1
    assert 'inference_retrieval' not in out
    assert skipped(place.run().stdout) == ['train_embedding']


def test_works_from_any_folder_by_relative_path(place):
    folder = place.folder / 'elsewhere'
    folder.mkdir()
    relative = os.path.relpath(place.script, folder)
    result = place.run(['bash', relative], cwd=folder, DATAROOT='../my data', SNAPSHOT_ROOT='../snap')
    assert result.returncode == 0, result.stderr
    assert option(place.call('train.py'), '--data_dir') == f'{folder}/../my data'
    assert (folder / '..' / 'snap' / 'spml_scribble' / 'contact_sheet.png').exists()
