"""Options of pseudo labels on scores known to the test, and the tags of lists in jobs."""
import naive_inference as naive
import numpy as np
import pytest
from PIL import Image

from spml.data.lists import read_list
from spml.errors import ConfigError, DataError
from spml.inference import pseudo_labels
from spml.inference.outputs import CrfParameters, Prediction
from spml.inference.sources import SOURCES

pytestmark = pytest.mark.usefixtures('one_thread')

SIZE = 40, 36
# Weak enough for random scores to stay undecided at some pixels.
CRF = CrfParameters(iter_max=2, pos_w=0.5, bi_w=0.5)


@pytest.fixture
def scores(place, monkeypatch):
    """A function that makes a source find random scores on a random image; it returns both by the images' names.

    Only class 2 is in the upper left, and none of it in the lower right.
    """
    def make(source):
        rng = np.random.default_rng()
        made = {}
        for name in 'abc':
            values = rng.uniform(size=(3, *SIZE)).astype(np.float32) ** 2
            values[:2, :10, :9] = 0
            values[2, 30:, 20:] = 0
            made[name] = values, rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        left = list(made.values())

        def found(*_, **__):
            values, rgb = left.pop(0)
            left.append((values, rgb))
            # In the middle of each grey level: whatever rounds, the bytes that CRF sees are these.
            image = ((rgb + 0.5) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
            return Prediction(values.copy(), image.astype(np.float32), SIZE)

        # Retrieval's own part is what it makes of the probabilities.
        monkeypatch.setattr(pseudo_labels, 'predict' if source == 'retrieval' else SOURCES[source].function, found)
        return made
    return make


@pytest.fixture
def cam_dir(tmp_path):
    (tmp_path / 'cams').mkdir()
    for name in 'abc':
        np.save(tmp_path / 'cams' / f'{name}.npy', np.array({}, dtype=object), allow_pickle=True)
    return tmp_path / 'cams'


def relative(values, tagged):
    """METHOD.md, "Pseudo labels", retrieval: a tagged class is divided by max(0.15, its maximum)."""
    return np.stack([layer / (max(np.float32(0.15), layer.max()) if index in tagged else 1)
                     for index, layer in enumerate(values)]).astype(np.float32)


@pytest.mark.parametrize('source', SOURCES)
def test_a_threshold_leaves_uncertain_pixels_unlabelled(place, scores, cam_dir, source):
    made, final = scores(source), {}
    for name, (values, rgb) in made.items():
        final[name] = relative(values, set(place.read('semantic', name).flat)) if source == 'retrieval' else values
        if source != 'softmax':
            final[name] = naive.crf(final[name], rgb, 2, pos_w=0.5, bi_w=0.5)
    shares = {name: (values / values.sum(axis=0, dtype=np.float64)).max(axis=0) for name, values in final.items()}
    upper = np.unique(np.stack(list(shares.values())))
    upper = upper[len(upper) // 4:]
    threshold = float(upper[:-1][np.diff(upper) > 1e-5][0]) + 5e-6  # at a distance from every pixel's
    place.make('pseudo_labels', source=source, cam_dir=cam_dir, crf=CRF, threshold=threshold)
    for name in made:
        expected = np.where(shares[name] < threshold, 254, final[name].argmax(axis=0))
        assert 0 < (expected == 254).sum() < expected.size
        if source == 'densepose_random_walk':
            expected[place.read('semantic', name) == 255] = 255
        np.testing.assert_array_equal(place.read('semantic_gray', name), expected)
        assert (place.read('semantic_color', name)[expected == 254] == 72).all()


@pytest.mark.parametrize(('threshold', 'num_workers'), [(None, 0), (0.6, 0), (0.6, 1)])
def test_only_tagged_classes_are_kept(place, scores, threshold, num_workers):
    label = place.read('semantic', 'b')
    label[label == 0] = 200  # background is a class like any other: this image has only class 2 left
    label[0, 0] = 2
    Image.fromarray(label).save(place.data.folder / 'semantic' / 'b.png')
    Image.fromarray(np.full(SIZE, 200, np.uint8)).save(place.data.folder / 'semantic' / 'c.png')  # no tag at all
    made = scores('retrieval')
    place.make('pseudo_labels', source='retrieval', tagged_only=True, crf=CRF, threshold=threshold,
               num_workers=num_workers)
    gray = {name: place.read('semantic_gray', name) for name in made}
    for name, (values, rgb) in made.items():
        tagged = {value for value in set(place.read('semantic', name).flat) if value < 3}
        probability = relative(values, tagged)
        for index in {0, 1, 2} - tagged:
            probability[index] = 0
        final = naive.crf(probability, rgb, 2, pos_w=0.5, bi_w=0.5)
        expected = np.where((probability == 0).all(axis=0), 254, final.argmax(axis=0))
        if threshold is not None:
            expected[final.max(axis=0) < threshold] = 254
        np.testing.assert_array_equal(gray[name], expected)
        assert set(expected.flat) <= {*tagged, 254}
    if threshold is None:
        # Image a, of classes 0 and 1: only class 2 was found there.
        assert (gray['a'][:10, :9] == 254).all()
        assert set(gray['b'].flat) == {2, 254}
    assert (gray['c'] == 254).all()


@pytest.mark.parametrize('source', [source for source in SOURCES if source != 'retrieval'])
def test_tagged_classes_only_belongs_to_retrieval(place, source):
    with pytest.raises(ConfigError, match=f'--tagged_classes_only .*--source retrieval.* {source}'):
        place.make('pseudo_labels', source=source, tagged_only=True)
    assert not place.out.exists()


@pytest.mark.parametrize('crf', [None, CRF])
def test_own_labels_stay_where_that_is_asked_for(place, scores, crf):
    made = scores('softmax_random_walk')
    place.make('pseudo_labels', source='softmax_random_walk', crf=crf, keep_labels=True)
    for name, (values, rgb) in made.items():
        label, final = place.read('semantic', name), values if crf is None else naive.crf(values, rgb, 2, pos_w=0.5,
                                                                                        bi_w=0.5)
        own = (label < 3) | (label == 255)
        assert 0 < own.sum() < own.size
        np.testing.assert_array_equal(place.read('semantic_gray', name), np.where(own, label, final.argmax(axis=0)))


def test_an_image_with_its_full_truth_keeps_it_and_no_network_looks_at_it(place, scores):
    made = scores('softmax_random_walk')
    lines = place.data.list.read_text().splitlines()
    place.data.list.write_text(f'{lines[0]} - mask\n{lines[1]} - scribble\n{lines[2]}\n')
    out = place.folder / 'new.txt'
    place.make('pseudo_labels', source='softmax_random_walk', crf=CRF, keep_labels=True, list_out=out)
    label = place.read('semantic', 'a')
    kept = np.where((label < 3) | (label == 255), label, 254)
    np.testing.assert_array_equal(place.read('semantic_gray', 'a'), kept)
    assert 'a' in made  # no source was asked for it
    assert str(place.path('semantic_gray', 'a').resolve()) in out.read_text()
    # Without the option it is an image like the others, and all are made again.
    assert place.make('pseudo_labels', source='softmax_random_walk', crf=CRF) == ['a', 'b', 'c']
    place.data.list.write_text(f'{lines[0]} - point\n{lines[1]} - scribble\n{lines[2]}\n')
    assert place.make('pseudo_labels', source='softmax_random_walk', crf=CRF) == []


def test_another_kind_makes_a_kept_label_again(place, scores):
    scores('softmax')
    lines = place.data.list.read_text().splitlines()
    for kind, again in (('mask', ['a', 'b', 'c']), ('mask', []), ('point', ['a'])):
        place.data.list.write_text(f'{lines[0]} - {kind}\n{lines[1]}\n{lines[2]}\n')
        assert place.make('pseudo_labels', keep_labels=True) == again


@pytest.mark.parametrize('source', [source for source in SOURCES if not source.startswith('softmax')])
def test_a_normalisation_belongs_to_the_softmax_sources(place, source):
    with pytest.raises(ConfigError, match=f'--normalise .*softmax and softmax_random_walk.* {source}'):
        place.make('pseudo_labels', source=source, normalise='none')
    assert not place.out.exists()


def write_list(place, *fields):
    """Give the images a, b, c the fields from the second on."""
    lines = [f'image/{name}.png {rest}\n' for name, rest in zip('abc', fields, strict=True)]
    place.data.list.write_text(''.join(lines))


@pytest.fixture
def taken(place, monkeypatch):
    """What the source `softmax` was given: a list of the tags of each image."""
    seen = []

    def found(embedder, classifier, image, tags, **_):
        seen.append(tags.nonzero()[0].tolist())
        return Prediction(np.ones((3, *SIZE), np.float32) * tags[:, None, None], image, SIZE)

    monkeypatch.setattr(pseudo_labels, 'softmax_once', found)
    return seen


def test_tags_restrict_the_classes_and_leave_the_background_in(place, taken):
    # Images a and b have the classes 0 and 1, and 0 and 2, in their label maps.
    write_list(place, '- instance/a.png 2 tag', 'semantic/b.png instance/b.png 1 scribble', 'semantic/c.png')
    place.make('pseudo_labels')
    assert taken == [[0, 2], [0, 1, 2], [0]]
    assert set(place.read('semantic_gray', 'a').flat) <= {0, 2}


def test_without_tags_the_label_map_alone_counts(place, taken):
    write_list(place, '- instance/a.png', 'semantic/b.png instance/b.png - point', 'semantic/c.png instance/c.png')
    place.make('pseudo_labels')
    # Of a, nothing is known: no class is possible.
    assert taken == [[0, 2], [0]]
    assert (place.read('semantic_gray', 'a') == 254).all()


def test_cams_of_other_classes_than_the_tags_are_left_out(place, monkeypatch):
    seen = []

    def found(embedder, image, cams, num_classes, background, walk_cells):
        seen.append(sorted(cams))
        return Prediction(np.ones((3, *SIZE), np.float32), image, SIZE)

    monkeypatch.setattr(pseudo_labels, 'cam_random_walk', found)
    write_list(place, '- instance/a.png 2 tag', 'semantic/b.png', 'semantic/c.png')
    (place.folder / 'cams').mkdir()
    for name in 'abc':
        cams = {0: np.ones(SIZE, np.float32), 1: np.ones(SIZE, np.float32)}
        np.save(place.folder / 'cams' / f'{name}.npy', np.array(cams, dtype=object), allow_pickle=True)
    place.make('pseudo_labels', source='cam_random_walk', cam_dir=place.folder / 'cams')
    assert seen == [[1], [0, 1], [0, 1]]


def test_retrieval_is_told_how_large_views_may_be(place, monkeypatch):
    seen = []

    def found(predictor, image, tags, tagged_only, max_pixels):
        seen.append((image.shape[:2], max_pixels))
        return Prediction(np.ones((3, *SIZE), np.float32), image, SIZE)

    monkeypatch.setattr(pseudo_labels, 'retrieval', found)
    place.make('pseudo_labels', 'test.max_pixels=3000', source='retrieval')
    assert seen == [(SIZE, 3000)] * 3


def test_other_tags_make_a_label_again(place):
    write_list(place, '- instance/a.png 2', 'semantic/b.png', 'semantic/c.png')
    assert place.make('pseudo_labels') == ['a', 'b', 'c']
    write_list(place, '- instance/a.png 1', 'semantic/b.png instance/b.png 1', 'semantic/c.png')
    assert place.make('pseudo_labels') == ['a', 'b']
    assert place.make('pseudo_labels') == []


def test_the_list_of_pseudo_labels_keeps_tags_and_kinds(place):
    write_list(place, '- instance/a.png 2 tag', 'semantic/b.png instance/b.png - scribble', 'semantic/c.png')
    place.make('pseudo_labels', list_out=place.folder / 'new.txt')
    entries = read_list(place.folder / 'new.txt', place.data.folder)
    assert [(entry.tags, entry.kind) for entry in entries] == [((2,), 'tag'), ((), 'scribble'), ((), None)]
    assert all(entry.semantic == place.path('semantic_gray', entry.name) for entry in entries)


def test_the_list_of_pseudo_labels_does_not_replace_its_own(place):
    before = place.data.list.read_text()
    for path, words in ((place.data.list, 'written over the one it is made from'), (place.folder, 'is a folder')):
        with pytest.raises(DataError, match=words):
            place.make('pseudo_labels', list_out=path)
    assert place.data.list.read_text() == before
    assert not place.path('semantic_gray', 'a').exists()


def test_pseudo_labels_do_not_replace_the_labels_that_they_are_made_from(place):
    own = place.path('semantic_gray', 'b')
    own.parent.mkdir(parents=True)
    content = (place.data.folder / 'semantic/b.png').read_bytes()
    own.write_bytes(content)
    write_list(place, 'semantic/a.png', f'{own} instance/b.png', 'semantic/c.png')
    with pytest.raises(DataError, match=rf'{own}: the new label map of .*:2 would be written over it'):
        place.make('pseudo_labels')
    assert own.read_bytes() == content


def test_prototypes_of_an_image_without_label_map_have_no_class(place):
    write_list(place, '- instance/a.png 2 tag', 'semantic/b.png', 'semantic/c.png')
    place.make('prototypes')
    with np.load(place.path('semantic_prototype', 'a')) as arrays:
        assert set(arrays['prototype_label'].tolist()) == {254}
