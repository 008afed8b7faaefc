import numpy as np
import pytest
import torch
from naive_layers import nearest
from naive_segsort import kmeans, normalised

from spml.segsort.segments import group, make_segments, nearest_resize


@pytest.mark.parametrize(('source', 'target'), [
    ((7, 5), (3, 9)), ((4, 6), (4, 6)), ((5, 8), (13, 1)), ((129, 3), (33, 2))])
def test_nearest_resize(source, target):
    labels = np.random.default_rng().integers(0, 256, (2, *source))
    got = nearest_resize(torch.from_numpy(labels), target)
    np.testing.assert_array_equal(got, [nearest(label, target) for label in labels])


def test_group_numbers_the_combinations_that_occur(rng):
    # So many images that the packed key nearly needs the sign bit, and the largest labels there are.
    labels = [rng.choice([0, 7, 8, 19, 2 ** 15 - 1], 60), rng.choice([0, 2 ** 16 - 1], 60), rng.choice([1, 255], 60),
              rng.choice([0, 3, 255], 60)]
    ids, parts = group(*(torch.from_numpy(label) for label in labels))
    combinations = set(zip(*(label.tolist() for label in labels), strict=True))
    assert set(ids.tolist()) == set(range(len(combinations)))
    assert all(len(part) == len(combinations) for part in parts)
    for n, i in enumerate(ids.tolist()):
        assert [int(part[i]) for part in parts] == [label[n] for label in labels]


def random_batch(batch=3, channels=3, height=5, width=9):
    """Return float64 embeddings and local features, label maps with void and unlabelled pixels, and tags."""
    rng = np.random.default_rng()
    return {'embeddings': torch.from_numpy(rng.standard_normal((batch, channels, height, width)) * 3),
            'local_features': torch.from_numpy(rng.uniform(-0.5, 0.5, (batch, 2, height, width))),
            'semantic': torch.from_numpy(rng.choice([0, 1, 2, 200, 255], (batch, height, width))),
            'instance': torch.from_numpy(rng.choice([0, 3, 255], (batch, height, width))),
            'tags': torch.from_numpy(rng.random((batch, 256)) < 0.5)}


def naive_segments(data, grid, iterations, scale):
    """Return (image, cluster, semantic, instance), unit embedding, vector with location and place of kept pixels."""
    emb, local = data['embeddings'].numpy(), data['local_features'].numpy()
    batch, channels, height, width = emb.shape
    # Heights 5 and widths 9 with grids 3 and 2: the halves are exact in float32, python rounds them to even too.
    initial = {(y, x): round(y * (grid[0] - 1) / (height - 1)) + grid[0] * round(x * (grid[1] - 1) / (width - 1))
               for y in range(height) for x in range(width)}
    num_clusters = len(set(initial.values()))
    out = []
    for b in range(batch):
        kept = [place for place in initial if data['semantic'][b][place] != 255]
        units = [normalised(emb[b, :, y, x]) for y, x in kept]
        both = [normalised(np.concatenate([unit, local[b, :, y, x]]))
                for unit, (y, x) in zip(units, kept, strict=True)]
        clusters = kmeans(np.array(both).reshape(len(kept), channels + 2), [initial[place] for place in kept],
                          num_clusters, iterations)
        for unit, place, cluster in zip(units, kept, clusters, strict=True):
            y, x = place
            handed_on = normalised(np.concatenate([scale * unit, local[b, :, y, x]]))
            key = (b, cluster, int(data['semantic'][b, y, x]), int(data['instance'][b, y, x]))
            out.append((key, unit, handed_on, place))
    return out


@pytest.mark.parametrize(('iterations', 'scale'), [(0, 1.0), (3, 1.0), (10, 0.1)])
@pytest.mark.parametrize('wholly_void', [False, True])
def test_make_segments_equals_naive(iterations, scale, wholly_void):
    data, grid = random_batch(), (3, 2)
    if wholly_void:
        data['semantic'][1] = 255
    pixels, segments = make_segments(**data, grid=grid, iterations=iterations, image_offset=6, embedding_scale=scale)
    naive = naive_segments(data, grid, iterations, scale)
    keys = [entry[0] for entry in naive]
    assert len(segments) == len(set(keys))
    assert set(pixels.segment.tolist()) == set(range(len(segments)))
    assert pixels.image.tolist() == [key[0] for key in keys]
    np.testing.assert_allclose(pixels.embedding, [entry[1] for entry in naive], atol=1e-12)
    np.testing.assert_allclose(pixels.embedding_with_location, [entry[2] for entry in naive], atol=1e-12)
    for n, (key, _, _, place) in enumerate(naive):
        s = pixels.segment[n]
        assert (int(segments.image[s]), int(segments.semantic[s]), int(segments.instance[s])) == (6 + key[0], *key[2:])
        assert torch.equal(segments.tags[s], data['tags'][key[0]])
        assert pixels.clusters[key[0]][place] == key[1]
        members = [entry for entry in naive if entry[0] == key]
        np.testing.assert_allclose(segments.prototype[s], normalised(sum(m[1] for m in members)), atol=1e-12)
        np.testing.assert_allclose(segments.prototype_with_location[s], normalised(sum(m[2] for m in members)),
                                   atol=1e-12)
    # Pixels of one segment are pixels of one combination: with the counts equal, the partitions are.
    assert len({(int(s), key) for s, key in zip(pixels.segment, keys, strict=True)}) == len(segments)
    assert (pixels.clusters[data['semantic'] == 255] == 6).all()


def test_more_than_eight_images_keep_their_numbers():
    data = random_batch(batch=19)
    pixels, segments = make_segments(**data, grid=(3, 2), iterations=1)
    assert set(segments.image.tolist()) == set(range(19))
    assert torch.equal(segments.image[pixels.segment], pixels.image)
    assert torch.equal(segments.tags, data['tags'][segments.image])


def test_a_wholly_void_batch_has_no_segments():
    data = random_batch()
    data['semantic'][:] = 255
    pixels, segments = make_segments(**data, grid=(3, 2), iterations=2)
    assert len(segments) == len(pixels.segment) == len(pixels.embedding) == 0
    assert segments.tags.shape == (0, 256)


def test_gradients_flow_through_pixels_and_prototypes():
    data = random_batch(batch=2)
    embeddings = data.pop('embeddings').requires_grad_()

    def function(embeddings):
        pixels, segments = make_segments(embeddings, **data, grid=(3, 2), iterations=0, embedding_scale=0.1)
        return pixels.embedding, pixels.embedding_with_location, segments.prototype, segments.prototype_with_location

    assert torch.autograd.gradcheck(function, (embeddings,))
