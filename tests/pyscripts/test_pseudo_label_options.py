"""`--tagged_classes_only` and `--confidence_threshold`, through the script, on scores known to the test."""
import numpy as np
import pytest
from PIL import Image

from spml.inference import pseudo_labels
from spml.inference.outputs import Prediction

pytestmark = pytest.mark.usefixtures('one_thread')

SIZE = 40, 36
# Weak enough for random scores to stay undecided at some pixels.
CRF = {'crf_iter_max': 2, 'crf_pos_w': 0.5, 'crf_bi_w': 0.5, 'num_workers': 0}
FUNCTIONS = {'cam_random_walk': 'cam_random_walk', 'softmax': 'softmax_once',
             'softmax_random_walk': 'softmax_random_walk', 'densepose_random_walk': 'densepose_random_walk',
             'retrieval': 'predict'}


@pytest.fixture
def scores(place, monkeypatch):
    """A function that makes a source find random scores on a random image; it returns both by the images' names.

    There is class 2 alone in the upper left and none of it in the lower right.
    """
    def make(source):
        rng = np.random.default_rng()
        made = {}
        for name in place.data.names:
            values = rng.uniform(size=(3, *SIZE)).astype(np.float32) ** 2
            values[:2, :10, :9] = 0
            values[2, 30:, 20:] = 0
            made[name] = values, rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        play(monkeypatch, source, made)
        return made
    return make


def play(monkeypatch, source, made):
    """Let the source find what was made, image by image in the order of the list."""
    left = list(made.values())

    def found(*_, **__):
        values, rgb = left.pop(0)
        # In the middle of each grey level: whatever rounds, the bytes that CRF sees are these.
        image = ((rgb + 0.5) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        return Prediction(values.copy(), image.astype(np.float32), SIZE)

    monkeypatch.setattr(pseudo_labels, FUNCTIONS[source], found)


def options_of(place, source):
    """What the source needs, files included."""
    options = {'source': source, **CRF}
    if source == 'cam_random_walk':
        (place.folder / 'cams').mkdir(exist_ok=True)
        for name in place.data.names:
            np.save(place.folder / 'cams' / f'{name}.npy', np.array({}, dtype=object), allow_pickle=True)
        options['cam_dir'] = place.folder / 'cams'
    if source == 'retrieval':
        (place.folder / 'memory').mkdir(exist_ok=True)
        np.savez(place.folder / 'memory' / 'x.npz', prototype=np.ones((30, 8), np.float32),
                 prototype_label=np.arange(30) % 3)
        options['semantic_memory_dir'] = place.folder / 'memory'
    if source in ('retrieval', 'densepose_random_walk'):
        options['kmeans_num_clusters'] = '2,2'
    return options


def weak(place, name):
    return np.array(Image.open(place.label(name)))


def marginals(probability, rgb):
    """pydensecrf called directly with the parameters of `CRF`."""
    densecrf = pytest.importorskip('pydensecrf.densecrf')
    crf = densecrf.DenseCRF2D(SIZE[1], SIZE[0], len(probability))
    unary = -np.log(np.clip(probability, 1e-5, 1)).reshape(len(probability), -1)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.astype(np.float32)))
    crf.addPairwiseGaussian(sxy=1, compat=0.5)
    crf.addPairwiseBilateral(sxy=67, srgb=3, rgbim=rgb, compat=0.5)
    return np.array(crf.inference(2)).reshape(probability.shape)


def relative(values, tagged):
    """METHOD.md, "Pseudo labels", retrieval: a tagged class is divided by max(0.15, its maximum)."""
    return np.stack([layer / (max(np.float32(0.15), layer.max()) if index in tagged else 1)
                     for index, layer in enumerate(values)]).astype(np.float32)


@pytest.mark.parametrize('source', list(FUNCTIONS))
def test_a_threshold_leaves_uncertain_pixels_unlabelled(place, scores, source):
    options = options_of(place, source)
    made, final = scores(source), {}
    for name in place.data.names:
        values, rgb = made[name]
        final[name] = relative(values, set(weak(place, name).flat)) if source == 'retrieval' else values
        if source != 'softmax':
            final[name] = marginals(final[name], rgb)
    shares = {name: (values / values.sum(axis=0, dtype=np.float64)).max(axis=0) for name, values in final.items()}
    upper = np.unique(np.stack(list(shares.values())))
    upper = upper[len(upper) // 4:]
    threshold = upper[:-1][np.diff(upper) > 1e-5][0] + 5e-6  # at a distance from every pixel's
    place.works('pseudo_label', confidence_threshold=repr(float(threshold)), **options)
    for name in place.data.names:
        expected = np.where(shares[name] < threshold, 254, final[name].argmax(axis=0))
        assert 0 < (expected == 254).sum() < expected.size
        if source == 'densepose_random_walk':
            expected[weak(place, name) == 255] = 255
        np.testing.assert_array_equal(place.gray(name), expected)
        colour = np.array(Image.open(place.out / 'semantic_color' / f'{name}.png'))
        assert (colour[expected == 254] == 72).all()


@pytest.mark.parametrize('threshold', [None, 0.6])
def test_only_tagged_classes_are_kept(place, scores, threshold):
    label = weak(place, 'b')
    label[label == 0] = 200  # background is a class like any other: this image has only class 2 left
    label[0, 0] = 2
    Image.fromarray(label).save(place.label('b'))
    Image.fromarray(np.full(SIZE, 200, np.uint8)).save(place.label('c'))  # no tag at all
    options = options_of(place, 'retrieval')
    made = scores('retrieval')
    place.works('pseudo_label', '--tagged_classes_only', confidence_threshold=threshold, **options)
    for name in place.data.names:
        tagged = {value for value in set(weak(place, name).flat) if value < 3}
        values, rgb = made[name]
        probability = relative(values, tagged)
        for index in {0, 1, 2} - tagged:
            probability[index] = 0
        final = marginals(probability, rgb)
        expected = np.where((probability == 0).all(axis=0), 254, final.argmax(axis=0))
        if threshold is not None:
            expected[final.max(axis=0) < threshold] = 254
        np.testing.assert_array_equal(place.gray(name), expected)
        assert set(expected.flat) <= {*tagged, 254}
    if threshold is None:
        # Image a, of classes 0 and 1: only class 2 was found there.
        assert (place.gray('a')[:10, :9] == 254).all()
        assert set(place.gray('b').flat) == {2, 254}
    assert (place.gray('c') == 254).all()


def test_without_the_options_nothing_is_unlabelled(place, scores):
    options = options_of(place, 'retrieval')
    made = scores('retrieval')
    place.works('pseudo_label', **options)
    for name, (values, rgb) in made.items():
        final = marginals(relative(values, set(weak(place, name).flat)), rgb)
        np.testing.assert_array_equal(place.gray(name), final.argmax(axis=0))


def test_workers_do_the_same(place, scores):
    pytest.importorskip('pydensecrf')
    options = {**options_of(place, 'retrieval'), 'confidence_threshold': 0.7}
    made = scores('retrieval')
    place.works('pseudo_label', '--tagged_classes_only', **options)
    here = [place.gray(name) for name in place.data.names]
    play(place.monkeypatch, 'retrieval', made)
    place.works('pseudo_label', '--tagged_classes_only', **{**options, 'num_workers': 1})
    for name, expected in zip(place.data.names, here, strict=True):
        np.testing.assert_array_equal(place.gray(name), expected)


def test_the_classifier_and_prototypes_take_such_labels(place):
    listing = place.folder / 'pseudo.txt'
    place.works('pseudo_label', source='softmax', confidence_threshold=0.99, list_out=listing)
    assert any((place.gray(name) == 254).any() for name in place.data.names)
    place.works('train_classifier', '--set', 'train.max_iteration=1',
                f'network.pretrained={place.make_weights(place.make_config())}', data_list=listing,
                snapshot_dir=place.folder / 'classifier')
    place.works('prototype', data_list=listing)


@pytest.mark.parametrize('source', ['softmax', 'softmax_random_walk', 'cam_random_walk', 'densepose_random_walk'])
def test_tagged_classes_only_belongs_to_retrieval(place, source):
    place.fails('pseudo_label', '--tagged_classes_only', naming=['--tagged_classes_only', '--source retrieval', source],
                **options_of(place, source))
    assert not place.out.exists()


@pytest.mark.parametrize('threshold', ['0', '1.5', '-0.1', 'nan', 'high'])
def test_a_threshold_is_a_share(place, threshold):
    status, err = place.run('pseudo_label', f'--confidence_threshold={threshold}', source='softmax')
    assert status == 2
    assert '--confidence_threshold' in err
    assert threshold in err
