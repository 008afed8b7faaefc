"""What each pipeline's script lists: its stages in order with their arguments, its settings, and what it refuses."""
import os
import pathlib
import shutil
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

STAGE_1 = ['train_embedding', 'prototypes', 'inference_retrieval', 'score_retrieval', 'inference_softmax_joint',
           'score_softmax_joint']
FINAL = ['inference_single', 'score_single', 'inference_final', 'score_final', 'picture']
ONE_CLASSIFIER = ['pseudo_labels', 'score_pseudo', 'train_classifier']
TAG = ['cam_walk_labels', 'score_cam_walk', 'score_cam_walk_by_instance', 'prototypes_retrieval_1',
       'retrieval_1_labels', 'score_retrieval_1', 'score_retrieval_1_by_instance', 'train_classifier_1',
       'inference_classifier_1', 'score_classifier_1', 'softmax_labels', 'score_softmax', 'score_softmax_by_instance',
       'prototypes_retrieval_2', 'retrieval_2_labels', 'score_retrieval_2', 'score_retrieval_2_by_instance',
       'train_classifier_2']


@pytest.mark.parametrize(('script', 'run_name', 'config', 'train_list', 'between'), [
    ('voc12/train_spml_scribble.sh', 'spml_scribble', 'voc12/scribble', 'train_scribble', ONE_CLASSIFIER),
    ('voc12/train_spml_point.sh', 'spml_point', 'voc12/point', 'train_point', ONE_CLASSIFIER),
    ('voc12/train_spml_box.sh', 'spml_box', 'voc12/tag_box', 'train_box', ONE_CLASSIFIER),
    ('voc12/train_spml_tag.sh', 'spml_tag', 'voc12/tag_box', 'train_tag', TAG),
    ('densepose/train_spml_point.sh', 'spml_densepose_point', 'densepose/point', 'train_point', ONE_CLASSIFIER)])
def test_stages_lists_and_configurations(place, script, run_name, config, train_list, between):
    place.choose(script, run_name)
    plan = place.plan()
    assert plan.names == [*STAGE_1, *between, *FINAL]
    assert place.arguments == ['-m', 'spml.pipeline', str(place.run_dir), '--script', str(place.script)]
    train = plan.stages['train_embedding']
    assert train.script == 'pyscripts/train/train.py'
    assert train.options['--cfg_path'].endswith(f'configs/{config}.yaml')
    assert train.options['--data_list'] == str(place.data / 'lists' / f'{train_list}.txt')
    assert train.overrides == []
    final = plan.stages['inference_final'].options
    assert final['--multi_scale'] is final['--crf'] is True
    assert final['--cfg_path'].endswith(f'configs/{config.split("/")[0]}/classifier.yaml')
    assert plan.stages['score_final'].options['--cfg_path'].endswith(f'configs/{config}.yaml')
    assert {plan.stages[name].title != '' for name in plan.names if name.startswith('score_')} == {True}


def test_arguments_of_the_contract(place):
    plan, run = place.plan(), place.run_dir
    stages = {name: stage.options for name, stage in plan.stages.items()}
    assert stages['prototypes']['--kmeans_num_clusters'] == '12,12'
    assert stages['pseudo_labels']['--source'] == 'softmax_random_walk'
    assert stages['pseudo_labels']['--snapshot_dir'] == str(run / 'stage1')
    assert stages['pseudo_labels']['--list_out'] == stages['train_classifier']['--data_list'] == str(
        run / 'lists' / 'train_pseudo.txt')
    assert stages['train_classifier']['--embedding'] == str(run / 'stage1')
    assert stages['inference_single']['--snapshot_dir'] == str(run / 'classifier')
    assert stages['picture']['--pseudo_dir'] == str(run / 'pseudo_labels' / 'semantic_gray')
    assert plan.stages['score_retrieval'].title == 'embedding, retrieval (prototypes from full truth)'


def test_every_command_line_in_full(place):
    """Results of earlier versions are recognised by these words, which are written out in `command_lines.txt`."""
    place.choose('voc12/train_spml_tag.sh', 'spml_tag')
    # Without the settings below, CAMs are others' and both rounds of labels take the embedding of stage 1.
    stages, stage1 = place.plan().stages, str(place.run_dir / 'stage1')
    assert stages['cam_walk_labels'].options['--cam_dir'] == str(place.data / 'VOC2012' / 'cam_npy')
    for number in (1, 2):
        assert stages[f'prototypes_retrieval_{number}'].options['--snapshot_dir'] == stage1
        assert stages[f'retrieval_{number}_labels'].options['--snapshot_dir'] == stage1
        assert stages[f'train_classifier_{number}'].options['--embedding'] == stage1
    assert not any('by_instance' in name for name in place.plan(INST_DIR='').names)
    plan = place.plan(
        DATASET='demo', CAM_DIR='', PRETRAINED='efficientnet_lite0', BATCH='6', CHECKPOINT='/w.pth', CLASS_NAMES='a,b',
        NUM_CLASSES='2', SET_EMBEDDING='seed=1 train.base_lr=0.1', SET_CLASSIFIER='seed=2', SET_CAM='seed=3')
    expected = pathlib.Path(__file__).with_name('command_lines.txt').read_text().splitlines()
    places = {'{run}': place.run_dir, '{data}': place.data, '{configs}': ROOT / 'configs' / 'demo'}
    lines = [f'{stage.name}: {stage.script} {" ".join(stage.arguments)}' for stage in plan.stages.values()]
    for name, path in places.items():
        lines = [line.replace(str(path), name) for line in lines]
    assert lines == expected


OWN_CAMS = ['train_cam', 'cams', 'cam_labels', 'score_cam']


@pytest.mark.parametrize(('kind', 'between', 'cam_dir'), [
    ('tag', TAG, '{run}/cams/cam_npy'), ('box', ONE_CLASSIFIER, None)])
def test_with_an_empty_cam_dir_the_cams_are_made_first(place, kind, between, cam_dir):
    place.choose(f'voc12/train_spml_{kind}.sh', f'spml_{kind}')
    run, lists = place.run_dir, place.data / 'lists'
    plan = place.plan(CAM_DIR='', SET_CAM='train.max_iteration=7', BATCH='6', SET_EMBEDDING='seed=3')
    assert plan.names == [*OWN_CAMS, *STAGE_1, *between, *FINAL]
    stages = {name: stage.options for name, stage in plan.stages.items()}
    for name in ('train_cam', 'cams'):
        assert stages[name]['--data_list'] == str(lists / 'train_full.txt')  # whose tags alone count
        assert stages[name]['--cfg_path'].endswith('configs/voc12/cam.yaml')
        assert stages[name]['--snapshot_dir'] == str(run / 'cam_classifier')
        assert plan.stages[name].overrides == ['train.total_batch_size=6', 'train.max_iteration=7']
    labels = stages['cam_labels']
    assert labels['--cam_dir'] == str(run / 'cams' / 'cam_npy') == str(plan.stages['cams'].output)
    assert labels['--list_out'] == stages['train_embedding']['--data_list'] == str(run / 'lists' / f'train_{kind}.txt')
    assert labels['--gt_list'] == str(lists / 'train_full.txt')
    assert labels.get('--boxes') == (str(place.data / 'boxes.json') if kind == 'box' else None)
    assert (labels['--alpha'], labels['--threshold']) == ('1', '0.7')
    labels = place.plan(CAM_DIR='', CAM_LABELS='--normalise').stages['cam_labels'].options
    assert ('--alpha' in labels, labels['--normalise']) == (False, True)
    if cam_dir:
        assert stages['cam_walk_labels']['--cam_dir'] == cam_dir.format(run=run)
    assert {'--gt_list', 'score_cam'} & {*place.plan(CAM_DIR='', FULL_LIST='').stages, *place.plan(
        CAM_DIR='', FULL_LIST='').stages['cam_labels'].options} == set()
    # With lists of tags, in either variable.
    for name in ('TRAIN_LIST', 'TAG_LIST'):
        stages = place.plan(CAM_DIR='', **{name: str(lists / 'val.txt')}).stages
        assert stages['train_cam'].options['--data_list'] == str(lists / 'val.txt')
        assert stages['train_embedding'].options['--data_list'] == str(run / 'lists' / f'train_{kind}.txt')


def test_without_a_file_for_tags_they_are_learned_with_the_settings_of_the_embedding(place):
    place.choose('voc12/train_spml_tag.sh', 'spml_tag')
    configs = place.folder / 'configs'
    shutil.copytree(ROOT / 'configs' / 'voc12', configs)
    (configs / 'cam.yaml').unlink()
    stages = place.plan(DATASET=os.path.relpath(configs, ROOT / 'configs'), CAM_DIR='',
                        RECIPE='published', SET_CAM='a.b=c').stages
    assert stages['train_cam'].options['--cfg_path'].endswith('configs/tag_box.yaml')
    assert stages['train_cam'].overrides == ['network.prediction_types=cam', 'a.b=c']


def test_densepose_clusters_and_the_built_in_data(place):
    place.choose('densepose/train_spml_point.sh', 'spml_densepose_point')
    pseudo = place.plan().stages['pseudo_labels'].options
    assert (pseudo['--source'], pseudo['--kmeans_num_clusters']) == ('densepose_random_walk', '24,24')
    stages = place.plan(DATASET='demo').stages
    assert stages['train_embedding'].options['--cfg_path'].endswith('configs/demo/densepose_joint.yaml')
    assert stages['train_classifier'].options['--cfg_path'].endswith('configs/demo/densepose_classifier.yaml')
    assert stages['pseudo_labels'].options['--kmeans_num_clusters'] == '6,6'


@pytest.mark.parametrize(('script', 'dataset', 'recipe', 'config'), [
    ('voc12/train_spml_box.sh', 'voc12', 'joint', 'spml_joint'), ('voc12/train_spml_tag.sh', 'voc12', '', 'tag_box'),
    ('voc12/train_spml_box.sh', 'demo', 'published', 'tag_box'), ('voc12/train_spml_tag.sh', 'demo', '', 'spml_joint'),
    ('voc12/train_spml_point.sh', 'voc12', 'joint', 'spml_joint'),
    ('voc12/train_spml_point.sh', 'demo', 'published', 'point'),
    ('densepose/train_spml_point.sh', 'densepose', 'joint', 'spml_joint'),
    ('densepose/train_spml_point.sh', 'demo', 'published', 'densepose_point')])
def test_one_setting_chooses_the_recipe(place, script, dataset, recipe, config):
    place.choose(script, pathlib.Path(script).stem.removeprefix('train_'))
    plan = place.plan(RECIPE=recipe, DATASET=dataset)
    for name in ('train_embedding', 'score_final', 'inference_softmax_joint'):
        assert plan.stages[name].options['--cfg_path'].endswith(f'configs/{dataset}/{config}.yaml')
    assert plan.settings['RECIPE'] == (recipe or {'voc12': 'published', 'demo': 'joint'}[dataset])


@pytest.mark.parametrize(('settings', 'expected'), [
    ({}, []), ({'BATCH': '6'}, ['train.total_batch_size=6']), ({'PRETRAINED': ''}, ['network.pretrained=']),
    ({'PRETRAINED': 'w.pth'}, ['network.pretrained={folder}/w.pth']),
    ({'PRETRAINED': 'torchvision'}, ['network.stem=7x7', 'network.pretrained=torchvision']),
    ({'PRETRAINED': 'efficientnet_lite0'}, ['network.backbone_types=panoptic_deeplab_lite0',
                                            'network.pretrained=efficientnet_lite0']),
    ({'PRETRAINED': 'timm'}, ['network.pretrained=timm']),
    ({'SET_EMBEDDING': 'a.b=[1,*] c.d=e', 'BATCH': '6'}, ['train.total_batch_size=6', 'a.b=[1,*]', 'c.d=e'])])
def test_what_the_user_sets_comes_last_and_what_is_not_set_says_nothing(place, settings, expected):
    stages = place.plan(SET_CLASSIFIER='f.g=h', **settings).stages
    expected = [word.format(folder=place.folder) for word in expected]
    for name in ('train_embedding', 'prototypes', 'pseudo_labels', 'score_final'):
        assert stages[name].overrides == expected
    network = [word for word in expected if word.startswith(('network.stem', 'network.backbone_types'))]
    for name in ('train_classifier', 'inference_single'):
        assert stages[name].overrides == [*network, 'f.g=h']


def test_configurations_of_own_data_that_the_version_before_wrote(place):
    for name in ('scribble', 'scribble_classifier'):
        (place.folder / f'{name}.yaml').write_text('')
    stages = place.plan(DATASET=os.path.relpath(place.folder, place.script.parents[2] / 'configs'),
                        SET_CLASSIFIER='f.g=h').stages
    assert stages['train_embedding'].overrides == []
    for name in ('train_classifier', 'inference_final'):
        assert stages[name].options['--cfg_path'].endswith('/scribble_classifier.yaml')
        assert stages[name].overrides == ['network.pretrained=', 'f.g=h']


def test_checkpoint_takes_the_place_of_stage_1(place):
    stages = place.plan(CHECKPOINT='released.pth').stages  # relative to the working directory
    weights = str(place.folder / 'released.pth')
    assert 'train_embedding' not in stages
    assert stages['prototypes'].options['--checkpoint'] == stages['pseudo_labels'].options['--checkpoint'] == weights
    assert stages['train_classifier'].options['--embedding'] == weights
    assert '--checkpoint' not in stages['inference_final'].options


def test_without_truth_of_the_training_images(place):
    plan = place.plan(FULL_LIST='')
    without = ('prototypes', 'inference_retrieval', 'score_retrieval', 'score_pseudo')
    assert plan.names == [name for name in [*STAGE_1, *ONE_CLASSIFIER, *FINAL] if name not in without]
    assert '--full_list' not in plan.stages['picture'].options


def test_settings_reach_the_command_lines(place):
    plan = place.plan(VAL_LIST='val2.txt', RUN_NAME='mine', CLUSTERS='8,8', NUM_CLASSES='4', CLASS_NAMES='a,b,c,d',
                      SCRIBBLE='dilate_3_0.5', GPUS='2,3')
    assert plan.stages['inference_final'].options['--data_list'] == f'{place.folder}/val2.txt'
    assert plan.stages['inference_final'].output == place.folder / 'snap' / 'mine' / 'inference_final'
    assert plan.stages['prototypes'].options['--kmeans_num_clusters'] == '8,8'
    assert plan.stages['train_embedding'].options['--data_list'].endswith('lists/train_scribble_0.5.txt')
    for name in ('score_final', 'picture'):
        options = plan.stages[name].options
        assert (options['--num_classes'], options['--class_names']) == ('4', 'a,b,c,d')
    assert (plan.settings['GPUS'], plan.settings['BATCH'], plan.settings['DATASET']) == ('2,3', '', 'voc12')
    plan = place.plan(NUM_CLASSES='4', CLASS_NAMES='a,b,c,d', SET_EMBEDDING='dataset.num_classes=3')
    assert '--num_classes' not in plan.stages['score_final'].options
    assert plan.stages['score_final'].options['--class_names'] == 'a,b,c,d'
    assert 'PRETRAINED' not in plan.settings
    assert place.plan(SCRIBBLE='dilate_3_0.5').stages['picture'].output.parent.name == 'spml_scribble_0.5'


def test_the_demo_makes_its_data(place):
    plan = place.plan(DATASET='demo', DATAROOT=str(place.folder / 'demo'), DEMO_OPTIONS='--num_train 3')
    assert plan.names[:2] == ['demo_data', 'train_embedding']
    assert plan.stages['demo_data'].options == {'--out': str(place.folder / 'demo'), '--num_train': '3'}
    assert plan.stages['train_embedding'].options['--cfg_path'].endswith('configs/demo/spml_joint.yaml')
    assert plan.stages['prototypes'].options['--kmeans_num_clusters'] == '6,6'


def test_the_baseline(place):
    place.choose('voc12/train_cross_entropy.sh', 'cross_entropy_point')
    plan = place.plan(LABELS='point')
    assert plan.names == ['train_embedding', *FINAL]
    assert plan.stages['train_embedding'].options['--data_list'].endswith('train_point.txt')
    assert '--pseudo_dir' not in plan.stages['picture'].options


@pytest.mark.parametrize(('settings', 'named'), [
    ({'DATAROOT': None}, 'DATAROOT'), ({'SNAPSHOT_ROOT': '/tmp/my runs'}, 'SNAPSHOT_ROOT'),
    ({'DATASET': 'voc2007'}, 'DATASET=voc2007'), ({'RECIPE': 'mine'}, 'RECIPE=mine'),
    ({'SPML_PYTHON': '/nowhere/python'}, 'setup.sh'), ({'BATCH': 'all'}, 'BATCH=all')])
def test_bad_settings_are_one_line(place, settings, named):
    result = place.run(**{'SPML_PYTHON': sys.executable, **settings})
    assert result.returncode == 2
    assert named in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (place.folder / 'snap').exists()


def test_works_from_any_folder_by_relative_path(place):
    folder = place.folder / 'elsewhere'
    folder.mkdir()
    result = place.run(['bash', os.path.relpath(place.script, folder)], cwd=folder, DATAROOT='../my data',
                       SNAPSHOT_ROOT='../snap')
    assert result.returncode == 0, result.stderr
    assert place.arguments[2] == f'{folder}/../snap/spml_scribble'


def own_data(place, *lines, others=()):
    """Choose the pipeline of own data, with these lines of the list to train on and other lists that are there."""
    place.choose('custom/train_spml.sh', 'spml')
    for path in (place.data / 'lists').iterdir():
        path.unlink()
    for name, text in (('train', '\n'.join(lines)), *((name, name) for name in others)):
        (place.data / 'lists' / f'{name}.txt').write_text(text + '\n')


def test_own_data_without_boxes_and_tags_needs_no_cams(place):
    own_data(place, 'a a r - scribble', 'b b r 1 point', 'c c r - mask', others=('val', 'train_full'))
    # Images with masks are trained on them: nothing is left to compare with labels of training images.
    plan = place.plan(DATASET='voc12')
    assert plan.names == ['train_embedding', *STAGE_1[4:], 'pseudo_labels', 'train_classifier', *FINAL]
    assert place.plan(DATASET='voc12', FULL_LIST='x').names == [*STAGE_1, *ONE_CLASSIFIER, *FINAL]
    assert plan.stages['train_embedding'].options['--data_list'] == str(place.data / 'lists/train.txt')
    assert plan.stages['train_embedding'].options['--cfg_path'].endswith('voc12/scribble.yaml')
    pseudo = plan.stages['pseudo_labels'].options
    assert pseudo['--data_list'] == str(place.data / 'lists/train.txt')
    assert (pseudo['--keep_labels'], pseudo['--normalise']) == (True, 'auto')
    pseudo = place.plan(DATASET='voc12', PSEUDO_LABELS='--source softmax').stages['pseudo_labels'].options
    assert pseudo['--source'] == 'softmax'
    assert '--keep_labels' not in pseudo


def test_own_data_without_pseudo_labels_need_no_classifier(place):
    own_data(place, 'a a r - scribble', 'b - r 1 tag', others=('val',))
    plan = place.plan(DATASET='voc12', PSEUDO_LABELS='', FULL_LIST='x')
    assert plan.names == ['train_cam', 'cams', 'cam_labels', 'score_cam', 'train_embedding', *FINAL]
    final = plan.stages['inference_final']
    assert final.output == place.folder / 'snap' / 'spml_head' / 'inference_final'
    assert final.options['--snapshot_dir'] == str(place.folder / 'snap' / 'spml_head' / 'stage1')
    assert final.options['--cfg_path'].endswith('voc12/scribble.yaml')
    assert '--pseudo_dir' not in plan.stages['picture'].options


def test_own_data_with_tags_gets_cams_but_keeps_only_what_people_drew(place):
    own_data(place, 'a a r - scribble', 'b - r 1,2 tag', others=('val',))
    plan = place.plan(DATASET='voc12')
    assert plan.names == ['train_cam', 'cams', 'cam_labels', 'train_embedding', *STAGE_1[4:], 'pseudo_labels',
                          'train_classifier', *FINAL]
    own, with_cams = str(place.data / 'lists/train.txt'), str(place.run_dir / 'lists/train.txt')
    stages = {name: stage.options for name, stage in plan.stages.items()}
    assert stages['train_cam']['--data_list'] == stages['cams']['--data_list'] == own
    assert (stages['cam_labels']['--data_list'], stages['cam_labels']['--list_out']) == (own, with_cams)
    assert '--boxes' not in stages['cam_labels']
    assert stages['train_embedding']['--data_list'] == with_cams
    assert stages['pseudo_labels']['--data_list'] == own
    own_data(place, 'b - r 1,2 tag', 'c c r 1 box', others=('val',))
    assert place.plan(DATASET='voc12').stages['cam_labels'].options['--boxes'] == str(place.data / 'boxes.json')


def test_own_data_without_truth_ends_in_pictures(place):
    own_data(place, 'a a r - scribble', others=('test', 'all'))
    plan = place.plan(DATASET='voc12')
    assert plan.names == ['train_embedding', 'pseudo_labels', 'train_classifier', 'inference_final', 'picture']
    assert plan.stages['inference_final'].options['--data_list'] == str(place.data / 'lists/all.txt')
    picture = plan.stages['picture'].options
    assert picture['--train_list'] == str(place.data / 'lists/train.txt')
    assert '--val_list' not in picture


def test_own_data_that_is_not_there(place):
    own_data(place)
    (place.data / 'lists/train.txt').unlink()
    for settings, words in (({'DATASET': 'voc12'}, 'lists/train.txt: no such list'), ({}, 'DATASET is not set')):
        result = place.run(**settings)
        assert result.returncode == 2
        assert words in result.stderr
        assert not place.told


def test_an_own_script_of_the_version_before_is_told_what_changed(place):
    command = f'. {ROOT}/bashscripts/lib/voc12.sh; RUN_NAME=mine; stages() {{ :; }}; run_pipeline stages'
    result = place.run(['bash', '-c', command, 'mine.sh'])
    assert result.returncode == 2
    assert result.stderr == ('error: mine.sh: run_pipeline needs the names of configurations; end it as '
                             'bashscripts/voc12/*.sh do\n')
