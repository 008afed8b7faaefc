"""Each source on a fake network against its row in METHOD.md, "Pseudo labels", in float64."""
import inspect

import naive_inference as naive
import numpy as np
import pytest
import torch
from naive_layers import nearest

from spml.inference import pseudo_labels
from spml.inference.predictors import Embedder, RetrievalPredictor
from spml.inference.pseudo_labels import affinity, transition, walk
from spml.inference.sources import SOURCES

CPU = torch.device('cpu')
CROP = (40, 48)
SIZES = [(37, 45), (53, 61), (40, 30)]  # within the crop, beyond it, beyond it along one axis


def build(dtype=np.float64):
    network = naive.FakeNetwork(dtype=dtype)
    return network, Embedder(network, CROP, (8, 8), CPU)


def whole(network, view):
    """The embedding of the whole padded view in one pass, cut back."""
    return network.embed(naive.pad(view, CROP))[:, :view.shape[1], :view.shape[2]]


def walked(scores, matrix, size):
    return naive.resize((scores.reshape(len(scores), -1) @ matrix).reshape(scores.shape), size)


def relative(scores, present, power=1):
    return np.stack([layer / layer.max() ** power * (index in present) for index, layer in enumerate(scores)])


def mirrored_back(values, mirrored):
    return values[:, :, ::-1] if mirrored else values


def grid_of(size):
    return size[0] // 8, size[1] // 8


@pytest.mark.parametrize('size', SIZES)
def test_cam_random_walk(size, rng):
    network, embedder = build(np.float32)
    image = naive.random_image(*size)
    cams = {1: rng.uniform(0, 1, size).astype(np.float32), 3: rng.uniform(0, 0.5, size).astype(np.float32)}
    found = pseudo_labels.cam_random_walk(embedder, image.astype(np.float32), cams, num_classes=5)
    scores = np.zeros((5, *grid_of(size)))
    for y in range(size[0] // 8):
        for x in range(size[1] // 8):
            # Half-pixel centres by a factor of 8: the middle of a cell is between its pixels 3 and 4.
            for dy in (3, 4):
                for dx in (3, 4):
                    maps = np.zeros(5)
                    maps[2], maps[4] = (cams[index][8 * y + dy, 8 * x + dx] for index in (1, 3))
                    maps[0] = (1 - maps[1:].max()) ** 6
                    scores[:, y, x] += maps / 4
    embeddings = [mirrored_back(whole(network, view), mirrored) for view, mirrored in naive.views(image, (1,))]
    matrix = np.linalg.matrix_power(naive.transition(embeddings, grid_of(size)), 64)
    np.testing.assert_allclose(found.probability, walked(scores, matrix, size), atol=1e-3)
    assert found.size == size
    assert set(network.shown) == {(1, 3, max(size[0], 40), max(size[1], 48))}


def test_an_image_without_objects_is_background():
    _, embedder = build(np.float32)
    found = pseudo_labels.cam_random_walk(embedder, naive.random_image(24, 32).astype(np.float32), {}, num_classes=4)
    np.testing.assert_allclose(found.probability[0], 1, atol=1e-4)
    np.testing.assert_array_equal(found.probability[1:], 0)


def test_an_image_smaller_than_a_cell_is_labelled():
    _, embedder = build(np.float32)
    cams = {0: np.ones((5, 20), np.float32)}
    found = pseudo_labels.cam_random_walk(embedder, naive.random_image(5, 20).astype(np.float32), cams, num_classes=3)
    assert found.probability.shape == (3, 5, 20)
    assert (found.probability.argmax(axis=0) == 1).all()


def test_cams_without_a_background_are_walked_as_they_are(rng):
    _, embedder = build(np.float32)
    size = SIZES[0]
    image = naive.random_image(*size)
    cams = {0: np.full(size, 0.25, np.float32), 3: np.full(size, 0.75, np.float32)}
    found = pseudo_labels.cam_random_walk(embedder, image.astype(np.float32), cams, 4, background=False)
    # Each column of the transition sums to 1, so that constant scores stay, and there is no row of a background.
    for index, value in enumerate([0.25, 0, 0, 0.75]):
        np.testing.assert_allclose(found.probability[index], value, atol=1e-4)
    assert not found.unlabelled.any()
    assert pseudo_labels.cam_random_walk(embedder, image.astype(np.float32), {}, 4, background=False).unlabelled.all()


def softmax_then_average(logits):
    return np.mean([naive.softmax(view) for view in logits], axis=0)


def average_then_softmax(logits):
    return naive.softmax(np.mean(logits, axis=0))


def whole_views(network, head, image, ratios):
    """Embeddings of views and logits at the walk's cells, mirrored back."""
    embeddings = [(whole(network, view), mirrored) for view, mirrored in naive.views(image, ratios)]
    return ([mirrored_back(embedding, mirrored) for embedding, mirrored in embeddings],
            [naive.resize(mirrored_back(head.logits(embedding), mirrored), grid_of(image.shape[:2]))
             for embedding, mirrored in embeddings])


@pytest.mark.parametrize(('normalise', 'power'), [({}, 1), ({'normalise': 'root'}, 0.5), ({'normalise': 'none'}, 0)])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('function', 'ratios', 'combine', 'steps'), [
    (pseudo_labels.softmax_random_walk, (1,), softmax_then_average, 64),
    (pseudo_labels.softmax_once, (0.75, 1), average_then_softmax, 1)])
def test_softmax(size, function, ratios, combine, steps, normalise, power):
    network, embedder = build()
    head, image = naive.FakeHead(), naive.random_image(*size)
    found = function(embedder, head, image, np.array([True, False, True]), **normalise)
    embeddings, logits = whole_views(network, head, image, ratios)
    assert len(logits) == 2 * len(ratios)
    matrix = np.linalg.matrix_power(naive.transition(embeddings, grid_of(size)), steps)
    expected = walked(relative(combine(logits), {0, 2}, power), matrix, size)
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)
    assert (found.probability[1] == 0).all()


@pytest.mark.parametrize('tagged', [{2}, {1, 2}, {0, 1, 2}, set()])
def test_retrieval_divides_tagged_classes_and_may_drop_the_others(tagged, rng):
    network, embedder = build()
    stored, labels = naive.unit(rng.normal(size=(60, 5)), 1), rng.integers(0, 2, 60)
    labels[:2] = 2  # few: its share stays below 0.15, and clusters far from both retrieve nothing of it
    image, grid, iterations = naive.random_image(32, 40), (3, 3), 2
    predictor = RetrievalPredictor(embedder, torch.from_numpy(stored), torch.from_numpy(labels), 4, grid, iterations)
    tags = np.isin(range(4), list(tagged))
    found = pseudo_labels.retrieval(predictor, image, tags, tagged_only=True)
    shares = naive.retrieve_pyramid(image, network, CROP, (8, 8), grid, iterations, (0.5, 1, 1.5, 2), stored, labels, 4)
    assert shares[2].max() < 0.15
    default = pseudo_labels.retrieval(predictor, image, tags)
    assert default.unlabelled is None
    for index in range(4):
        expected = shares[index] / max(0.15, shares[index].max()) if index in tagged else shares[index]
        np.testing.assert_allclose(default.probability[index], expected, atol=1e-5)
        np.testing.assert_allclose(found.probability[index], expected * (index in tagged), atol=1e-5)
    empty = [[all(shares[index, y, x] == 0 for index in tagged) for x in range(40)] for y in range(32)]
    np.testing.assert_array_equal(found.unlabelled, empty)


@pytest.mark.parametrize(('max_pixels', 'ratios'), [
    (5120, (0.5, 1, 1.5, 2)), (5119, (0.5, 1, 1.5)), (2880, (0.5, 1, 1.5)), (2879, (0.5, 1)), (64, (0.5, 1))])
def test_retrieval_leaves_out_ratios_at_which_an_image_has_too_many_pixels(max_pixels, ratios, rng):
    """Of 32 x 40 pixels, 1.5 makes 2880 and 2 makes 5120. Without tags nothing is divided."""
    network, embedder = build()
    stored, labels = naive.unit(rng.normal(size=(60, 5)), 1), rng.integers(0, 3, 60)
    predictor = RetrievalPredictor(embedder, torch.from_numpy(stored), torch.from_numpy(labels), 3, (3, 3), 2)
    image = naive.random_image(32, 40)
    found = pseudo_labels.retrieval(predictor, image, np.zeros(3, bool), max_pixels=max_pixels)
    expected = naive.retrieve_pyramid(image, network, CROP, (8, 8), (3, 3), 2, ratios, stored, labels)
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)


def propagated(embedding, label, regions, grid, iterations):
    """Class frequencies (3, h, w) of each pixel's segment; every pixel takes the nearest labelled segment's class."""
    size = label.shape
    clusters = naive.cluster(embedding, size, grid, iterations, span=size)
    vectors = naive.unit(embedding, 0)
    keys = {(y, x): (clusters[y, x], min(label[y, x], 3), regions[y, x]) for y, x in np.ndindex(size)}
    members = {}
    for pixel, key in keys.items():
        members.setdefault(key, []).append(pixel)
    labelled = sorted(key for key in members if key[1] < 3)
    centres = [naive.unit(sum(vectors[:, y, x] for y, x in members[key]), 0) for key in labelled]
    taken = {(y, x): labelled[int(np.argmax(np.stack(centres) @ vectors[:, y, x]))][1] for y, x in keys}
    result = np.zeros((3, *size))
    for pixels in members.values():
        for y, x in pixels:
            result[:, y, x] = [np.mean([taken[p] == c for p in pixels]) for c in range(3)]
    return result


@pytest.mark.parametrize('size', SIZES)
def test_densepose_random_walk(size, rng):
    network, embedder = build()
    image, grid, iterations = naive.random_image(*size), (3, 2), 2
    half = size[0] // 2, size[1] // 2
    label = rng.choice([200, 200, 255, 0, 2], size).astype(np.uint8)
    regions = np.kron(rng.integers(0, 4, (8, 8)), np.ones((8, 8), int))[:size[0], :size[1]].astype(np.uint8)
    found = pseudo_labels.densepose_random_walk(embedder, image, label, regions, np.array([True, False, True]), 3, grid,
                                                iterations)

    padded = network.embed(naive.pad(image.transpose(2, 0, 1), CROP))
    halved = naive.resize(padded, (padded.shape[1] // 2, padded.shape[2] // 2))[:, :half[0], :half[1]]
    frequencies = propagated(halved, nearest(label, half), nearest(regions, half), grid, iterations)
    scores = naive.resize(frequencies, grid_of(size))
    scores[1] = 0
    for index in (0, 2):
        scores[index] /= scores[index].max()
    matrix = np.linalg.matrix_power(naive.transition([halved], grid_of(size)), 64)
    np.testing.assert_allclose(found.probability, walked(scores, matrix, size), atol=1e-5)


def test_densepose_without_a_point_is_finite():
    _, embedder = build()
    label = np.full((32, 40), 255, np.uint8)
    found = pseudo_labels.densepose_random_walk(embedder, naive.random_image(32, 40), label, label,
                                                np.zeros(3, bool), 3, (2, 2), 2)
    np.testing.assert_array_equal(found.probability, 0)


@pytest.mark.parametrize('source', SOURCES.values())
def test_an_entry_says_what_its_function_takes(source):
    assert set(inspect.signature(getattr(pseudo_labels, source.function)).parameters) == set(source.takes)


@pytest.mark.parametrize(('size', 'cells', 'seen'), [
    ((480, 640), 4800, (480, 640)), ((487, 647), 4800, (487, 647)), ((488, 640), 4800, None),
    ((3000, 4000), 6400, None), ((1, 65535), 100, None), ((65535, 3), 100, None), ((7, 9), 1, (7, 9)),
    ((90, 8), 1, None)])
def test_the_walk_s_grid_has_a_bound_and_smaller_images_their_own(size, cells, seen):
    found = pseudo_labels.walk_size(size, cells)
    rows, columns = (max(1, side // 8) for side in found)
    assert rows * columns <= cells
    assert found == (seen or found)
    if seen is None and min(size) > 7:  # hardly smaller than it has to be
        assert rows * columns > 0.9 * cells - rows - columns
        assert found[0] / size[0] == pytest.approx(found[1] / size[1], rel=1 / min(found))


def test_beyond_the_bound_networks_and_walk_see_the_image_scaled_down(rng):
    """Scaled by a whole factor, pixels are means of blocks and scores are those of the small image, resized."""
    small = naive.random_image(32, 40).astype(np.float32)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    network, embedder = build(np.float32)
    head, tags = naive.FakeHead(dtype=np.float32), np.array([True, True, False])
    cams = {1: rng.uniform(0, 1, (32, 40)).astype(np.float32)}
    label = rng.choice([200, 0, 2], (32, 40)).astype(np.uint8)
    calls = {'softmax_random_walk': lambda image, _: {'classifier': head, 'tags': tags},
             'softmax_once': lambda image, _: {'classifier': head, 'tags': tags},
             'cam_random_walk': lambda image, grow: {'cams': {1: grow(cams[1])}, 'num_classes': 3},
             'densepose_random_walk': lambda image, grow: {'label': grow(label), 'regions': grow(label), 'tags': tags,
                                                           'num_classes': 3, 'grid': (2, 2), 'iterations': 2}}
    for name, more in calls.items():
        function = getattr(pseudo_labels, name)
        wanted = function(embedder, image=small, **more(small, lambda values: values))
        network.shown.clear()
        found = function(embedder, image=large, walk_cells=20, **more(
            large, lambda values: values.repeat(3, axis=0).repeat(3, axis=1)))
        assert max(shape[-2] * shape[-1] for shape in network.shown) <= 40 * 48
        np.testing.assert_array_equal(found.image, large)
        # Bilinear from the same grid: in the middle of a cell of pixels the same value.
        np.testing.assert_allclose(found.probability[:, 1::3, 1::3], wanted.probability, atol=1e-4)


@pytest.mark.parametrize('size', [(1, 1), (1, 3), (3, 1), (2, 2), (40, 1), (1, 60)])
def test_images_of_a_pixel_or_a_few_are_labelled(size, rng):
    """Mirrored, they have no stride of their own."""
    _, embedder = build(np.float32)
    head, tags = naive.FakeHead(dtype=np.float32), np.array([True, True, False])
    image, label = rng.normal(size=(*size, 3)).astype(np.float32), np.zeros(size, np.uint8)
    predictor = RetrievalPredictor(embedder, torch.from_numpy(naive.unit(rng.normal(size=(60, 5)), 1)).float(),
                                   torch.arange(60) % 3, 3, (2, 2), 2)
    for found in (pseudo_labels.softmax_once(embedder, head, image, tags),
                  pseudo_labels.softmax_random_walk(embedder, head, image, tags),
                  pseudo_labels.cam_random_walk(embedder, image, {0: np.ones(size, np.float32)}, 3),
                  pseudo_labels.densepose_random_walk(embedder, image, label, label, tags, 3, (2, 2), 2),
                  pseudo_labels.retrieval(predictor, image, tags)):
        assert found.probability.shape == (3, *size)
        assert np.isfinite(found.probability).all()


GRID = (12, 15)


def clustered(rng, classes=8, channels=16, noise=0.05):
    """Return (1, D, *GRID) float32: blocks of `classes` orthogonal directions, with noise."""
    directions = np.linalg.qr(rng.normal(size=(channels, channels)))[0][:classes]
    blocks = np.kron(rng.integers(0, classes, (4, 5)), np.ones((3, 3), int))
    vectors = directions[blocks] + noise * rng.normal(size=(*GRID, channels))
    return torch.from_numpy(vectors.transpose(2, 0, 1).astype(np.float32))[None]


@pytest.mark.parametrize('views', [1, 2])
def test_no_entry_is_denormal_and_the_scores_are_the_formula_s(rng, views):
    embeddings = [clustered(rng) for _ in range(views)]
    found = transition(affinity(embeddings, GRID))
    tiny = torch.finfo(torch.float32).tiny
    assert not ((found > 0) & (found < tiny)).any()
    exact = naive.transition([embedding[0].double().numpy() for embedding in embeddings], GRID)
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-4, atol=1e-29)
    scores = rng.random((4, GRID[0] * GRID[1])).astype(np.float32)
    for steps in (1, 64):
        wanted = scores @ np.linalg.matrix_power(exact, steps)
        np.testing.assert_allclose(walk(torch.from_numpy(scores), found, steps).numpy(), wanted, rtol=1e-4)


def test_what_is_left_out_changes_no_bit_of_the_scores(rng):
    affinities = affinity([clustered(rng)], GRID)
    powered = affinities ** 20
    assert ((powered > 0) & (powered < torch.finfo(torch.float32).tiny)).float().mean() > 0.1  # what this is about
    scores = torch.from_numpy(rng.random((4, GRID[0] * GRID[1])).astype(np.float32))
    assert torch.equal(walk(scores, transition(affinities)), walk(scores, powered / powered.sum(dim=0, keepdim=True)))


def test_cells_without_an_embedding_share_out_their_scores_evenly(rng):
    """A zero vector is as near to itself as to all others."""
    embedding = clustered(rng)
    embedding[:, :, 5, 7] = 0
    found = transition(affinity([embedding], GRID))
    cells = GRID[0] * GRID[1]
    np.testing.assert_allclose(found[:, 5 * GRID[1] + 7].numpy(), 1 / cells, rtol=0.05)
    np.testing.assert_allclose(found.sum(dim=0).numpy(), 1, rtol=1e-4)
