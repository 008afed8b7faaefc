import numpy as np
import pytest
import torch
from PIL import Image

from spml.data.datasets import SegmentationDataset
from spml.data.lists import read_list
from spml.errors import ConfigError, DataError

MEANS = (0.485, 0.456, 0.406)
STDS = (0.229, 0.224, 0.225)


@pytest.fixture
def build(tmp_path, rng):
    """Write images and labels of the given (height, width) and return a data set over them, plain by default."""
    def build(sizes=((12, 16),), crop=(12, 16), semantic=None, fields=3, **options):
        lines = []
        for number, size in enumerate(sizes):
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / f'{number}.png')
            label = rng.integers(0, 256, size, np.uint8) if semantic is None else np.full(size, semantic, np.uint8)
            Image.fromarray(label).save(tmp_path / f's{number}.png')
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / f'i{number}.png')
            lines.append(' '.join([f'{number}.png', f's{number}.png', f'i{number}.png'][:fields]))
        (tmp_path / 'list.txt').write_text('\n'.join(lines))
        settings = {'random_mirror': False, 'random_scale': False, 'random_crop': False} | options
        return SegmentationDataset(read_list(tmp_path / 'list.txt', tmp_path), crop, 21, MEANS, STDS, **settings)
    return build


def pixels(path):
    return np.asarray(Image.open(path))


def denormalise(item):
    return item['image'].permute(1, 2, 0).numpy() * np.array(STDS) + np.array(MEANS)


def test_plain_item(build, tmp_path):
    item = build()[5, 0]
    image = pixels(tmp_path / '0.png').astype(np.float64) / 255
    expected = ((image - MEANS) / STDS).transpose(2, 0, 1)
    assert item['image'].dtype == torch.float32
    assert item['image'].is_contiguous()
    np.testing.assert_allclose(item['image'], expected, atol=1e-5)
    for key, name in (('semantic_label', 's0.png'), ('instance_label', 'i0.png')):
        assert item[key].dtype == torch.int64
        np.testing.assert_array_equal(item[key], pixels(tmp_path / name))
    assert (item['index'], item['name']) == (0, '0')


def test_tags_are_those_of_the_whole_label(build, tmp_path):
    dataset = build(sizes=((40, 40),), crop=(4, 4), random_crop=True, random_mirror=True, random_scale=True)
    tags = dataset[0, 0]['tags']
    present = set(pixels(tmp_path / 's0.png').ravel().tolist())
    assert tags.dtype == torch.bool
    assert tags.tolist() == [value in present for value in range(256)]


def test_small_image_is_padded_on_the_right_and_bottom(build, tmp_path):
    item = build(sizes=((5, 6),), crop=(8, 9))[0, 0]
    assert item['image'].shape == (3, 8, 9)
    assert item['image'][:, 5:].abs().max() < 1e-6
    assert item['image'][:, :, 6:].abs().max() < 1e-6
    for key, name in (('semantic_label', 's0.png'), ('instance_label', 'i0.png')):
        np.testing.assert_array_equal(item[key][:5, :6], pixels(tmp_path / name))
        assert (item[key][5:] == 255).all()
        assert (item[key][:, 6:] == 255).all()
    assert item['tags'][255] == (255 in pixels(tmp_path / 's0.png'))


def test_without_random_crop_the_top_left_is_taken(build, tmp_path):
    item = build(sizes=((20, 5),), crop=(7, 9))[3, 0]
    np.testing.assert_array_equal(item['semantic_label'][:, :5], pixels(tmp_path / 's0.png')[:7])
    assert (item['semantic_label'][:, 5:] == 255).all()


@pytest.mark.parametrize('value', [254, 255, 21])
def test_labels_beyond_the_classes_are_kept(build, value):
    item = build(semantic=value)[0, 0]
    assert (item['semantic_label'] == value).all()
    assert item['tags'].nonzero().flatten().tolist() == [value]


def test_everything_moves_together(build, rng):
    """Image, semantic and instance label encode the same id map; after augmentation the labels still agree."""
    dataset = build(sizes=((30, 44),), crop=(24, 24), random_mirror=True, random_scale=True, random_crop=True)
    ids = rng.integers(0, 250, (30, 44), np.uint8)
    for path in (dataset.entries[0].semantic, dataset.entries[0].regions):
        Image.fromarray(ids).save(path)
    blocks = np.repeat(np.repeat(rng.integers(0, 250, (2, 2), np.uint8), 15, 0), 22, 1)
    Image.fromarray(np.repeat(blocks[:, :, None], 3, 2)).save(dataset.entries[0].image)
    for position in range(20):
        item = dataset[position, 0]
        assert torch.equal(item['semantic_label'], item['instance_label'])
    Image.fromarray(blocks).save(dataset.entries[0].semantic)
    for position in range(20):
        item = dataset[position, 0]
        inside = item['semantic_label'].numpy() != 255
        grey = denormalise(item)[:, :, 0] * 255
        # Only pixels on the seams between blocks may be blends.
        assert (abs(grey - item['semantic_label'].numpy())[inside] < 0.1).mean() > 0.7


def test_augmentation_depends_on_seed_and_position_alone(build):
    options = {'sizes': ((30, 40), (26, 30)), 'crop': (16, 16), 'random_mirror': True, 'random_scale': True,
               'random_crop': True, 'grey_probability': 0.5, 'blur_probability': 0.5}
    dataset = build(**options)
    first = dataset[7, 1]['image']
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    dataset[3, 0]
    assert torch.equal(dataset[7, 1]['image'], first)
    assert not torch.equal(dataset[8, 1]['image'], first)
    dataset.seed = 1
    assert not torch.equal(dataset[7, 1]['image'], first)


@pytest.mark.parametrize('swap_parts', [False, True])
def test_mirror_happens_about_half_the_time_and_densepose_parts_are_swapped_exactly_then(build, tmp_path, swap_parts):
    dataset = build(random_mirror=True, swap_parts=swap_parts)
    semantic, instance = pixels(tmp_path / 's0.png'), pixels(tmp_path / 'i0.png')
    partner = {2: 3, 3: 2, 4: 5, 5: 4, 6: 7, 7: 6, 8: 9, 9: 8, 10: 11, 11: 10, 12: 13, 13: 12} if swap_parts else {}
    swapped = np.array([[partner.get(value, value) for value in row[::-1]] for row in semantic.tolist()])
    times = 0
    for position in range(200):
        item = dataset[position, 0]
        mirrored = np.array_equal(item['instance_label'], instance[:, ::-1])
        np.testing.assert_array_equal(item['instance_label'], instance[:, ::-1] if mirrored else instance)
        np.testing.assert_array_equal(item['semantic_label'], swapped if mirrored else semantic)
        times += mirrored
    assert 60 < times < 140


def test_grey_and_blur(build, tmp_path):
    dataset = build(grey_probability=1.0)
    image = pixels(tmp_path / '0.png') / 255
    grey = image @ np.array([0.3, 0.59, 0.11])
    np.testing.assert_allclose(denormalise(dataset[0, 0]), np.repeat(grey[:, :, None], 3, 2), atol=1e-5)
    dataset = build(blur_probability=1.0)
    plain = (pixels(tmp_path / '0.png') / 255).std()
    # Of sigmas spread over 0.1..5, most flatten noise strongly; the smallest leave it alone.
    assert np.median([denormalise(dataset[position, 0]).std() for position in range(20)]) < 0.5 * plain
    partly = build(grey_probability=0.3)
    share = np.mean([np.ptp(denormalise(partly[position, 0]), axis=2).max() < 1e-4 for position in range(300)])
    assert 0.2 < share < 0.4


def test_without_instances(build):
    item = build(fields=2, with_regions=False)[0, 0]
    assert 'instance_label' not in item
    with pytest.raises(DataError, match=r'list\.txt:1: 2 fields, but training needs `image semantic instance`'):
        build(fields=2)
    with pytest.raises(DataError, match=r'list\.txt:1: 1 fields, but training needs `image semantic`'):
        build(fields=1, with_regions=False)


def test_densepose_needs_its_classes(build):
    dataset = build()
    with pytest.raises(ConfigError, match=r'dataset\.num_classes'):
        SegmentationDataset(dataset.entries, (8, 8), 14, MEANS, STDS, False, False, False, swap_parts=True)


def test_an_image_without_a_label_map_is_unlabelled_and_has_its_tags(build, tmp_path):
    dataset = build(sizes=((9, 7), (9, 7), (9, 7)), crop=(12, 8))
    (tmp_path / 'list.txt').write_text('0.png - i0.png 15,1 tag\n1.png s1.png i1.png 3 scribble\n'
                                       '2.png s2.png i2.png -\n')
    dataset = SegmentationDataset(read_list(tmp_path / 'list.txt', tmp_path), (12, 8), 21, MEANS, STDS, False, False,
                                  False)
    label = dataset[0, 0]['semantic_label']
    assert (label[:9, :7] == 254).all()
    assert (label[9:] == 255).all()
    tags = [{*item['tags'].nonzero().flatten().tolist()} for item in (dataset[0, index] for index in range(3))]
    assert tags[0] == {1, 15, 254}
    for number, own in ((1, {3}), (2, set())):
        assert tags[number] == {*pixels(tmp_path / f's{number}.png').ravel().tolist()} | own
