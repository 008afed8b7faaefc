import numpy as np
import pytest
from PIL import Image

from spml.errors import DataError
from spml.report import prototypes
from spml.report.pictures import read_truths


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize('shape', [(50, 7), (5, 9), (40, 2), (3, 1)])
def test_the_plane_is_spanned_by_the_largest_eigenvectors_of_the_covariance(shape):
    vectors = np.random.default_rng().normal(size=shape) * np.arange(1, shape[1] + 1)
    plane, explained = prototypes.principal_plane(vectors.astype(np.float32))
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(vectors.T)))
    values, axes = values[::-1], axes[:, ::-1]
    count = min(2, shape[1])
    expected = (vectors - vectors.mean(axis=0)) @ axes[:, :count]
    np.testing.assert_allclose(np.abs(plane[:, :count]), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(explained[:count], values[:count] / values.sum(), atol=1e-4)
    assert not plane[:, count:].any()


def test_a_plane_without_variance_is_a_point():
    for vectors in (np.zeros((0, 4)), np.ones((1, 4)), np.ones((5, 4))):
        plane, explained = prototypes.principal_plane(vectors.astype(np.float32))
        np.testing.assert_array_equal(plane, np.zeros((len(vectors), 2)))
        assert explained == (0, 0)


def test_class_figures_by_loops(rng):
    vectors, labels, images = unit(rng.normal(size=(30, 5))), rng.integers(0, 4, 30), rng.integers(0, 6, 30)
    found = prototypes.class_figures(vectors, labels, images)
    assert [figures[0] for figures in found] == sorted(set(labels.tolist()))
    for index, count, cosine, nearest in found:
        own = [i for i in range(30) if labels[i] == index]
        mean = sum(vectors[i] for i in own)
        hits = 0
        for i in own:
            others = [j for j in range(30) if images[j] != images[i]]
            hits += labels[max(others, key=lambda j: vectors[i] @ vectors[j])] == index
        assert count == len(own)
        assert cosine == pytest.approx(sum(vectors[i] @ mean for i in own) / np.linalg.norm(mean) / len(own))
        assert nearest == pytest.approx(hits / len(own))


def test_statistics_of_a_folder(made):
    folder = made.runs[0] / 'prototypes'
    truths = read_truths(made.data / 'full.txt', made.data)
    found = prototypes.prototype_statistics(folder, truths, 3)
    assert (found.num_images, found.of_images, found.num_prototypes, found.dimension) == (5, 5, 45, 6)
    assert found.per_image == (9, 9, 9)
    sizes, pure, total = [], 0, 0
    for name in made.parts['train']:
        clusters = np.array(Image.open(folder / 'semantic_cluster' / f'{name}.png'))
        for index in np.unique(clusters):
            sizes.append((clusters == index).sum())
            inside = made.truths[name][clusters == index]
            inside = inside[inside < 3]
            pure += max((inside == label).sum() for label in range(3))
            total += len(inside)
    assert found.purity == pytest.approx(pure / total)
    assert found.pixels == pytest.approx(np.percentile(sizes, (10, 50, 90)))
    labels = np.concatenate([np.load(path)['prototype_label'] for path in
                             sorted((folder / 'semantic_prototype').iterdir())])
    np.testing.assert_array_equal(found.labels, labels[labels < 3])
    assert found.plane.shape == (len(found.labels), 2)


def test_what_is_not_there_is_not_counted(made):
    folder = made.runs[0] / 'prototypes'
    assert prototypes.prototype_statistics(folder, {}, 3).purity is None
    for path in (folder / 'semantic_cluster').iterdir():
        path.unlink()
    found = prototypes.prototype_statistics(folder, {}, 3)
    assert (found.pixels, found.purity) == (None, None)
    assert prototypes.prototype_statistics(made.data, {}, 3) is None


def test_large_folders_are_sampled(made, monkeypatch):
    monkeypatch.setattr(prototypes, 'MAX_IMAGES', 2)
    monkeypatch.setattr(prototypes, 'MAX_PROTOTYPES', 7)
    found = prototypes.prototype_statistics(made.runs[0] / 'prototypes', {}, 256)
    assert (found.num_images, found.of_images, found.num_prototypes, len(found.labels)) == (2, 5, 18, 7)


def test_damaged_files_are_named(made):
    folder = made.runs[0] / 'prototypes'
    truths = read_truths(made.data / 'full.txt', made.data)
    path = folder / 'semantic_cluster' / 't2.png'
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r't2\.png'):
        prototypes.prototype_statistics(folder, truths, 3)
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(path)
    with pytest.raises(DataError, match=r't2\.png'):
        prototypes.prototype_statistics(folder, truths, 3)
