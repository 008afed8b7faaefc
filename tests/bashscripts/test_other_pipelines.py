"""The scripts of the other annotations: their stages in order and what is their own (Python is a fake)."""
import pytest

STAGE_1 = ['train_embedding', 'prototypes', 'inference_retrieval', 'score_retrieval', 'inference_softmax_joint',
           'score_softmax_joint']
FINAL = ['inference_single', 'score_single', 'inference_final', 'score_final', 'picture']
TAG = ['cam_walk_labels', 'score_cam_walk', 'score_cam_walk_by_instance', 'prototypes_retrieval_1',
       'retrieval_1_labels', 'score_retrieval_1', 'score_retrieval_1_by_instance', 'train_classifier_1',
       'inference_classifier_1', 'score_classifier_1', 'softmax_labels', 'score_softmax', 'score_softmax_by_instance',
       'prototypes_retrieval_2', 'retrieval_2_labels', 'score_retrieval_2', 'score_retrieval_2_by_instance',
       'train_classifier_2']
ONE_CLASSIFIER = ['pseudo_labels', 'score_pseudo', 'train_classifier']


def option(args, name):
    return args[args.index(name) + 1]


def done(output):
    return [line.split('] ')[1].split(' done')[0] for line in output.splitlines() if '] ' in line and 'done in' in line]


@pytest.mark.parametrize(('script', 'run_name', 'config', 'train_list', 'between'), [
    ('voc12/train_spml_point.sh', 'spml_point', 'voc12/point', 'train_point', ONE_CLASSIFIER),
    ('voc12/train_spml_box.sh', 'spml_box', 'voc12/tag_box', 'train_box', ONE_CLASSIFIER),
    ('voc12/train_spml_tag.sh', 'spml_tag', 'voc12/tag_box', 'train_tag', TAG),
    ('densepose/train_spml_point.sh', 'spml_densepose_point', 'densepose/point', 'train_point', ONE_CLASSIFIER)])
def test_stages_lists_and_configurations(place, script, run_name, config, train_list, between):
    place.choose(script, run_name)
    result = place.run()
    assert result.returncode == 0, result.stderr
    assert done(result.stdout) == [*STAGE_1, *between, *FINAL]
    train = place.call('train.py')
    assert option(train, '--cfg_path').endswith(f'configs/{config}.yaml')
    assert option(train, '--data_list') == str(place.data / 'lists' / f'{train_list}.txt')
    final = place.call('inference.py', '--crf')
    assert '--multi_scale' in final
    assert option(final, '--cfg_path').endswith(f'configs/{config.split("/")[0]}/classifier.yaml')
    assert (place.run_dir / 'contact_sheet.png').exists()


def test_tags_take_two_rounds_of_labels(place):
    place.choose('voc12/train_spml_tag.sh', 'spml_tag')
    assert place.run().returncode == 0
    run, lists = place.run_dir, place.run_dir / 'lists'
    walk = place.call('pseudo_label.py', '--source cam_random_walk')
    assert option(walk, '--cam_dir') == str(place.data / 'VOC2012' / 'cam_npy')
    for number, source_list in ((1, 'train_cam_walk.txt'), (2, 'train_softmax.txt')):
        prototypes = place.call('prototype.py', f'{run}/prototypes_retrieval_{number} ')
        assert option(prototypes, '--data_list') == str(lists / source_list)
        assert '--multi_scale' in prototypes
        assert option(prototypes, '--snapshot_dir') == str(run / 'stage1')
        labels = place.call('pseudo_label.py', f'{run}/retrieval_{number}_labels ')
        assert option(labels, '--source') == 'retrieval'
        assert option(labels, '--snapshot_dir') == str(run / 'stage1')
        assert option(labels, '--semantic_memory_dir') == str(run / f'prototypes_retrieval_{number}/semantic_prototype')
        assert option(labels, '--data_list') == str(place.data / 'lists' / 'train_tag.txt')
        classifier = place.call('train_classifier.py', f'{run}/classifier_{number} ')
        assert option(classifier, '--data_list') == str(lists / f'train_retrieval_{number}.txt')
        assert f'network.pretrained={run}/stage1/model-10.pth' in classifier
    softmax = place.call('pseudo_label.py', 'train_softmax.txt --cfg_path')
    assert option(softmax, '--snapshot_dir') == str(run / 'classifier_1')
    assert option(place.call('inference.py', '--crf'), '--snapshot_dir') == str(run / 'classifier_2')
    assert option(place.call('benchmark_by_instance.py', 'retrieval_2'), '--inst_dir').endswith('VOC2012/seginst')


def test_scores_by_instance_can_be_left_out(place):
    place.choose('voc12/train_spml_tag.sh', 'spml_tag')
    assert place.run(INST_DIR='').returncode == 0
    assert 'benchmark_by_instance.py' not in place.scripts()


def test_densepose_clusters_and_classes(place):
    place.choose('densepose/train_spml_point.sh', 'spml_densepose_point')
    assert place.run().returncode == 0
    pseudo = place.call('pseudo_label.py')
    assert option(pseudo, '--source') == 'densepose_random_walk'
    assert option(pseudo, '--kmeans_num_clusters') == '24,24'
    for script, output in (('benchmark_by_mIoU.py', 'score_final'), ('contact_sheet.py', 'contact_sheet.png')):
        assert option(place.call(script, output), '--cfg_path').endswith('configs/densepose/point.yaml')


def test_densepose_on_the_built_in_data(place):
    place.choose('densepose/train_spml_point.sh', 'spml_densepose_point')
    result = place.run(DATASET='demo', DATAROOT=str(place.folder / 'demo'))
    assert result.returncode == 0, result.stderr
    train = place.call('train.py')
    assert option(train, '--cfg_path').endswith('configs/demo/densepose_point.yaml')
    assert 'train.total_batch_size=8' in train
