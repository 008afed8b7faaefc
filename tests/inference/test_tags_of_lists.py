"""Pseudo labels and prototypes of images whose tags the list gives, with and without a label map."""
import numpy as np
import pytest

from spml.data.lists import read_list
from spml.inference import pseudo_labels
from spml.inference.outputs import Prediction

pytestmark = pytest.mark.usefixtures('one_thread')
SIZE = 40, 36


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


def test_prototypes_of_an_image_without_label_map_have_no_class(place):
    write_list(place, '- instance/a.png 2 tag', 'semantic/b.png', 'semantic/c.png')
    place.make('prototypes')
    with np.load(place.path('semantic_prototype', 'a')) as arrays:
        assert set(arrays['prototype_label'].tolist()) == {254}
