"""Which keys count for which result. That those left out change nothing: tests/pyscripts/test_effective_keys.py."""
import pytest

from spml.config import differences, effective, flatten, images_per_process

TRAININGS = ('embedding', 'classifier')


@pytest.mark.parametrize(('kind', 'counts'), [
    ('embedding', ['seed', 'network.pretrained', 'network.frozen_stages', 'train.memory_bank_size',
                   'train.sem_occ_loss_weight', 'train.max_iteration', 'network.kmeans_num_clusters']),
    ('classifier', ['seed', 'network.pretrained', 'network.embedding_dim', 'train.base_lr', 'train.random_scale']),
    ('prototypes', ['network.kmeans_iterations', 'test.stride', 'network.pixel_means']),
    ('inference', ['test.image_size', 'dataset.num_classes', 'dataset.color_map', 'network.stem']),
    ('pseudo labels', ['test.image_size', 'dataset.num_classes', 'network.kmeans_iterations']),
    ('classes', ['dataset.num_classes', 'dataset.class_names', 'dataset.color_map'])])
def test_what_counts(small_config, kind, counts):
    config = small_config()
    found = effective(config, kind)
    assert found.keys() >= {*counts}
    assert found == {name: value for name, value in flatten(config).items() if name in found}


def test_what_an_inference_does_not_use_of_its_windows(small_config):
    def left_out(**narrowed):
        return effective(small_config(), 'pseudo labels').keys() - effective(
            small_config(), 'pseudo labels', **narrowed).keys()

    assert left_out(multi_scale=True) == {'test.image_size'}
    assert left_out(whole_image=True) == {'test.image_size', 'test.stride'}
    assert left_out(clusters=False) == {'network.kmeans_iterations'}


def test_keys_that_others_put_out_of_use(small_config):
    def counts(name, *overrides):
        return name in effective(small_config(*overrides), 'embedding')

    for relation in ('sem_ann', 'sem_occ', 'img_sim', 'feat_aff'):
        off = f'train.{relation}_loss_types=none'
        assert not counts(f'train.{relation}_concentration', off)
        assert counts(f'train.{relation}_loss_weight', off) == (relation == 'sem_ann')
        assert counts(f'train.{relation}_loss_weight', off.replace('none', 'segsort'))
        assert counts(f'train.{relation}_loss_types', off)
    assert not counts('train.decay_iterations')
    assert counts('train.decay_iterations', 'train.lr_policy=step')
    plain = 'train.img_sim_with_location=false'
    assert counts('train.embedding_scale')
    assert not counts('train.embedding_scale', plain)
    assert counts('train.embedding_scale', plain, 'train.feat_aff_loss_types=segsort')
    assert not counts('train.img_sim_with_location', 'train.img_sim_loss_types=none')


@pytest.mark.parametrize('kind', TRAININGS)
def test_the_batch_is_one_number_whichever_key_gives_it(small_config, kind):
    single, total = small_config('train.batch_size=3'), small_config('train.batch_size=9', 'train.total_batch_size=6')
    assert (images_per_process(single, 2), images_per_process(total, 2), images_per_process(total, 20)) == (3, 3, 1)
    assert effective(single, kind, processes=2) == effective(total, kind, processes=2)
    assert effective(single, kind, processes=1)['train.batch_size'] == 3
    assert 'train.batch_size' not in effective(total, kind)
    assert 'train.total_batch_size' not in effective(single, kind)


def test_differences_are_told_in_the_order_of_the_schema(small_config):
    before = effective(small_config('train.base_lr=0.5'), 'embedding')
    now = effective(small_config('seed=7', 'train.sem_occ_loss_types=none', 'test.image_size=3'), 'embedding')
    assert differences(before, now) == [
        'seed: 5 -> 7', 'train.base_lr: 0.5 -> 0.001', "train.sem_occ_loss_types: 'segsort' -> 'none'",
        'train.sem_occ_concentration: 8.0 -> without effect', 'train.sem_occ_loss_weight: 0.3 -> without effect',
        'train.sem_occ_largest_share: 1.0 -> without effect']
    assert differences(before, before) == []
