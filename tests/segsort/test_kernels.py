"""The Triton kernels against naive losses in float64: on the GPU where there is one, else by Triton's interpreter.

`tests/conftest.py` asks for the interpreter. It is slow, so that inputs are as small as they can be.
"""
import dataclasses
import importlib

import naive_segsort as naive
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_criterion import CLASSES as STEP_CLASSES
from test_criterion import KAPPAS, by_pixel, naive_losses, random_step, settings_of_kinds
from test_relations import (
    CLASSES,
    RELATIONS,
    SCENES,
    check_bfloat16,
    gradients,
    images_in_any_order,
    loss_of,
    naive_loss,
    random_scene,
    rounded,
)

from spml.segsort import clustering, kernels, relations, retrieval
from spml.segsort.criterion import RelationCriterion

pytest.importorskip('triton')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture(scope='module', autouse=True)
def interpreter():
    """Have the interpreter, which takes the bits of bfloat16 for whole numbers, multiply them."""
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE == 'cpu':
            import triton.language as tl
            from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

            multiply = InterpreterBuilder.create_dot

            def widened(handle):
                if handle.dtype.scalar != tl.bfloat16:
                    return handle
                return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

            patch.setattr(InterpreterBuilder, 'create_dot', lambda self, one, other, *rest: multiply(
                self, widened(one), widened(other), *rest))
        yield


MODULES = {'contrast': 'contrastive_losses', 'kmeans': 'iterate', 'retrieval': 'largest_by_block'}


@pytest.fixture(autouse=True)
def used(monkeypatch):
    """Let the library take the kernels, in small tiles, and return the list of what it took them for."""
    calls = []
    modules = {name: importlib.import_module(f'spml.segsort.kernels.{name}') for name in MODULES}
    if DEVICE == 'cuda':
        for name in MODULES:
            assert kernels.available(torch.device('cuda'), name)
            assert kernels.available(torch.device('cuda', torch.cuda.current_device()), name)
    else:
        monkeypatch.setattr(kernels, 'available', lambda device, name: True)
        monkeypatch.setattr(modules['contrast'], '_ROWS', 16)
        monkeypatch.setattr(modules['contrast'], '_COLUMNS', 16)
        monkeypatch.setattr(modules['kmeans'], '_SMALL', (16, 2))
        monkeypatch.setattr(modules['retrieval'], '_ROWS', 16)
    # Few programs, so that each has several tiles and, of prototypes, several sums to add up.
    monkeypatch.setattr(modules['kmeans'], '_PROGRAMS', {True: 3, False: 2})
    monkeypatch.setattr(modules['kmeans'], '_SUMS', 2)
    monkeypatch.setattr(modules['retrieval'], '_PROGRAMS', 3)
    for name, entry in MODULES.items():
        function = getattr(modules[name], entry)

        def spy(*args, function=function, name=name, **options):
            calls.append(name)
            return function(*args, **options)
        monkeypatch.setattr(modules[name], entry, spy)
    return calls


def compare(got, narrow, want, wide):
    """Compare a loss of the kernels and its gradients with those in float64."""
    assert got.item() == pytest.approx(want.item(), rel=1e-5, abs=1e-6)
    for one, other in zip(gradients(got, narrow), gradients(want, wide), strict=True):
        assert one.dtype == torch.float32
        # Relative to the largest: single entries may cancel out. Two parts instead of three do not get there.
        torch.testing.assert_close(one.cpu().double(), other, rtol=1e-5, atol=1e-5 * max(1, other.abs().max().item()))


def check(relation, scene, used, kappa=8.0):
    """Compare one relation with the naive one; return the loss."""
    narrow, wide = rounded(scene, DEVICE)
    used.clear()
    got = loss_of(relation, narrow, kappa)
    assert set(used) == {'contrast'}
    compare(got, narrow, naive_loss(relation, wide, kappa), wide)
    return got.item()


@pytest.mark.parametrize(('channels', 'kappa'), [(4, 0.5), (16, 16.0), (18, 16.0)])
@pytest.mark.parametrize('relation', RELATIONS)
def test_loss_and_gradient_equal_the_naive_ones(relation, channels, kappa, used):
    check(relation, random_scene(segments=20, pixels=40, channels=channels), used, kappa)


@pytest.mark.parametrize(('relation', 'images'), [*((relation, 1) for relation in RELATIONS), ('img_sim', 2)])
def test_whole_tiles_and_columns_in_parts(relation, images, used, monkeypatch):
    contrast = importlib.import_module('spml.segsort.kernels.contrast')
    # On a GPU too.
    monkeypatch.setattr(contrast, '_COLUMNS', 16)
    scene = random_scene(segments=16 * images, pixels=128 * images, images=images)
    scene['image'] = torch.arange(images).repeat_interleave(16)
    scene['own'] = scene['own'].sort().values
    scene['semantic'] %= CLASSES
    parts = []
    monkeypatch.setattr(contrast, '_grid', lambda *args, grid=contrast._grid: parts.append(grid(*args)) or parts[-1])
    check(relation, scene, used)
    assert max(number for _, number in parts) > 1


@pytest.mark.parametrize('relation', RELATIONS)
@pytest.mark.parametrize(('segments', 'pixels'), [(1, 1), (1, 20), (16, 16), (17, 1)])
def test_sizes_at_the_borders_of_tiles(relation, segments, pixels, used):
    scene = random_scene(segments=max(segments, pixels), pixels=max(segments, pixels))
    for key in ('prototypes', 'semantic', 'image', 'instance', 'sets'):
        scene[key] = scene[key][:segments].detach()
    scene['own'] = scene['own'][:pixels] % segments
    scene['semantic'][scene['own']] = 2
    scene['embeddings'] = scene['embeddings'][:pixels].detach()
    # Of one pixel's terms that cancel out, float32 leaves about kappa ** 2 * 1e-7.
    check(relation, scene, used, kappa=1.0)


@pytest.mark.parametrize('relation', RELATIONS)
def test_vectors_that_are_not_contiguous_and_do_without_gradients(relation, used):
    narrow, wide = rounded(random_scene(segments=20, pixels=40), DEVICE)
    want = naive_loss(relation, wide, 8.0)
    for key in ('embeddings', 'prototypes'):
        narrow[key] = narrow[key].detach().T.contiguous().T
    narrow['own'] = torch.stack([narrow['own']] * 2, dim=1)[:, 0]
    with torch.inference_mode():
        assert loss_of(relation, narrow, 8.0).item() == pytest.approx(want.item(), rel=1e-5, abs=1e-6)
        narrow['own'] = narrow['own'].clone()
    # Integers made for inference serve in training, too; one side may be fixed.
    narrow['embeddings'].requires_grad_()
    got = loss_of(relation, narrow, 8.0)
    found, = torch.autograd.grad(got, [narrow['embeddings']])
    expected, = torch.autograd.grad(want, [wide['embeddings']])
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-5 * max(1, expected.abs().max()))
    assert set(used) == {'contrast'}


@pytest.mark.parametrize('relation', RELATIONS)
@pytest.mark.parametrize('make', SCENES)
def test_scenes_at_the_limits(make, relation, used):
    scene, known = make()
    loss = check(relation, scene, used)
    assert known is None or loss == known


def test_no_labelled_pixel(used):
    narrow, wide = rounded(random_scene(), DEVICE)
    narrow['semantic'][:] = wide['semantic'][:] = 200
    given = narrow['embeddings'], narrow['own'], narrow['prototypes']
    alone, = relations.losses(*given, [relations.ClassRelation(8.0, narrow['semantic'], CLASSES)])
    assert not used
    pair = relations.losses(*given, [relations.ClassRelation(8.0, narrow['semantic'], CLASSES),
                                     relations.SetRelation(8.0, narrow['sets'])])
    assert used == ['contrast']
    assert alone.item() == pair[0].item() == 0
    compare(pair[0] + pair[1], narrow, naive_loss('sem_occ', wide, 8.0), wide)


@pytest.mark.parametrize('numbers', [[10 ** 6] * 7 + [5] * 7, [4, 5] * 6 + [2 ** 60, -3]])
def test_images_of_any_number(numbers, used):
    check('img_sim', images_in_any_order(numbers)[0], used)


def test_relations_evaluated_together_are_those_evaluated_alone(used, rng):
    narrow, wide = rounded(random_scene(segments=20, pixels=40), DEVICE)
    affine = torch.from_numpy(rng.random((20, CLASSES)) < 0.4)
    found = relations.losses(narrow['embeddings'], narrow['own'], narrow['prototypes'], [
        relations.ClassRelation(6.0, narrow['semantic'], CLASSES), relations.SetRelation(12.0, narrow['sets']),
        relations.SetRelation(9.0, affine.to(DEVICE))])
    assert used == ['contrast'] * 2
    wanted = [naive_loss('sem_ann', wide, 6.0), naive_loss('sem_occ', wide, 12.0),
              naive_loss('feat_aff', {**wide, 'sets': affine}, 9.0)]
    for got, want in zip(found, wanted, strict=True):
        compare(got, narrow, want, wide)
    shares = rng.random(3)
    compare(sum(share * one for share, one in zip(shares, found, strict=True)), narrow,
            sum(share * one for share, one in zip(shares, wanted, strict=True)), wide)


@pytest.mark.parametrize('count', [30, 32, 40, 62])
def test_sets_of_many_elements(count, used):
    scene = random_scene(segments=20, pixels=40)
    scene['sets'] = torch.from_numpy(np.random.default_rng().random((20, count)) < 1 / count)
    scene['sets'][0, -1] = scene['sets'][1, -1] = True
    check('sem_occ', scene, used)


@pytest.mark.parametrize('relation', RELATIONS)
def test_what_kernels_cannot_do_is_done_without(relation, used):
    scene = random_scene()
    narrow, wide = rounded(scene, DEVICE)
    # float64; exponentials out of the range of float32.
    for given, kappa in (({key: value.to(DEVICE) for key, value in wide.items()}, 8.0), (narrow, 300.0)):
        torch.testing.assert_close(loss_of(relation, given, kappa).cpu().double(), naive_loss(relation, wide, kappa),
                                   rtol=1e-4, atol=1e-4)
        assert used == ['contrast'] * (kappa == 300.0)
    if relation == 'sem_occ':  # sets of more elements than an integer has bits
        scene['sets'] = torch.cat([scene['sets'], torch.zeros(9, 70, dtype=torch.bool)], dim=1)
        narrow, wide = rounded(scene, DEVICE)
        assert loss_of(relation, narrow, 8.0).item() == pytest.approx(naive_loss(relation, wide, 8.0).item(), rel=1e-5)
        assert used == ['contrast']


def test_of_two_relations_one_may_go_without(used):
    narrow, wide = rounded(random_scene(segments=20, pixels=40), DEVICE)
    found = relations.losses(narrow['embeddings'], narrow['own'], narrow['prototypes'], [
        relations.ClassRelation(6.0, narrow['semantic'], CLASSES), relations.SetRelation(300.0, narrow['sets'])])
    assert used == ['contrast'] * 3
    compare(found[0], narrow, naive_loss('sem_ann', wide, 6.0), wide)
    assert found[1].item() == pytest.approx(naive_loss('sem_occ', wide, 300.0).item(), rel=1e-4)


@pytest.mark.parametrize('relation', RELATIONS)
@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_a_vector_that_is_not_finite_makes_a_loss_that_is_not(relation, value, monkeypatch):
    contrast, found = importlib.import_module('spml.segsort.kernels.contrast'), []
    monkeypatch.setattr(contrast, 'contrastive_losses', lambda *args, function=contrast.contrastive_losses: (
        found.append(function(*args)) or found[-1]))
    scene = random_scene()
    # Of its segment, one other is negative in every relation: the loss of a pixel without negatives is 0.
    segment = scene['own'][7]
    other = (segment + 1) % len(scene['prototypes'])
    scene['image'][other] = scene['image'][segment]
    for index, name in ((segment, 1), (other, 2)):
        scene['semantic'][index] = scene['instance'][index] = name
        scene['sets'][index] = torch.arange(scene['sets'].shape[1]) == name
    narrow, _ = rounded(scene, DEVICE)
    with torch.no_grad():
        narrow['embeddings'][7, 2] = value
        assert not torch.isfinite(loss_of(relation, narrow, 8.0))
    # The kernels hand such vectors back.
    assert found
    assert all(one is None for one in found)


def test_kernels_are_tried_out_where_they_are_used(used):
    for name in MODULES:
        with torch.inference_mode():
            importlib.import_module(f'spml.segsort.kernels.{name}').try_out(torch.device(DEVICE))
    assert set(used) == set(MODULES)


def test_without_a_gpu_or_on_demand_there_are_no_kernels(monkeypatch):
    monkeypatch.undo()
    assert not any(kernels.available.__wrapped__(torch.device('cpu'), name) for name in MODULES)
    monkeypatch.setenv('SPML_TRITON', '0')
    assert not any(kernels.available.__wrapped__(torch.device('cuda'), name) for name in MODULES)


@pytest.mark.parametrize('relation', RELATIONS)
def test_bfloat16_is_reduced_in_float32(relation, used):
    check_bfloat16(relation, DEVICE)
    assert set(used) == {'contrast'}


def margin(vectors, labels, clusters, iterations):
    """Return by how much, at least, the nearest of (P, D) vectors' prototypes is nearer than the next, in float64."""
    least, vectors = torch.inf, vectors.double()
    for _ in range(iterations):
        sums = torch.zeros(clusters + 1, vectors.shape[1], dtype=torch.float64).index_add_(0, labels, vectors)
        best = (vectors @ F.normalize(sums[:clusters], dim=1).T).topk(2, dim=1)
        least = min(least, (best.values[:, 0] - best.values[:, 1]).min().item())
        labels = best.indices[:, 0].where(labels < clusters, clusters)
    return least


@pytest.mark.parametrize(('clusters', 'channels', 'images', 'iterations'), [
    (2, 4, 2, 3), (5, 4, 2, 3), (9, 18, 2, 2), (20, 5, 1, 2), (65, 18, 1, 1)])
def test_kmeans_equals_the_naive_one(clusters, channels, images, iterations, used, rng):
    while True:
        vectors = naive.random_units(images, 40, channels).float()
        labels = torch.from_numpy(rng.integers(0, clusters, (images, 40)))
        valid = torch.from_numpy(rng.random((images, 40)) < 0.9)
        # Rounding decides between prototypes that are equally near.
        taking_part = labels.where(valid, clusters)
        if min(margin(vectors[image], taking_part[image], clusters, iterations) for image in range(images)) > 1e-5:
            break
    got = clustering.spherical_kmeans(vectors.to(DEVICE), labels.to(DEVICE), clusters, iterations,
                                      valid.to(DEVICE)).cpu()
    assert used == ['kmeans']
    assert (got[~valid] == clusters).all()
    for image in range(images):
        taking = valid[image]
        want = naive.kmeans(vectors[image][taking].double().numpy(), labels[image][taking].tolist(), clusters,
                            iterations)
        assert got[image][taking].tolist() == want


def test_kmeans_of_one_cluster(used):
    vectors = naive.random_units(1, 20, 4).float().to(DEVICE)
    assert (clustering.spherical_kmeans(vectors, torch.zeros(1, 20, dtype=torch.int64, device=DEVICE), 1, 2) == 0).all()
    assert used == ['kmeans']


def test_a_void_pixel_that_is_not_finite_spoils_nothing(used):
    vectors = naive.random_units(1, 30, 18).float().to(DEVICE)
    labels = torch.arange(30, device=DEVICE)[None] % 4
    valid = labels != 3
    want = clustering.spherical_kmeans(vectors, labels, 4, 2, valid)
    spoilt = vectors.masked_fill(~valid[..., None], torch.nan)
    assert torch.equal(clustering.spherical_kmeans(spoilt, labels, 4, 2, valid), want)
    assert used == ['kmeans'] * 2


def test_kmeans_of_many_clusters_and_of_wide_vectors_goes_without(used):
    for clusters, channels in ((257, 4), (5, 129), (129, 81)):
        vectors = naive.random_units(1, 300, channels).float().to(DEVICE)
        labels = torch.arange(300, device=DEVICE)[None] % clusters
        assert clustering.spherical_kmeans(vectors, labels, clusters, 2).max() < clusters
    assert not used


@pytest.mark.parametrize(('queries', 'stored', 'channels'), [(3, 21, 4), (20, 64, 16), (17, 600, 18), (0, 30, 4)])
def test_retrieval_counts_the_labels_of_the_nearest(queries, stored, channels, used):
    vectors, bank = (F.normalize(torch.randn(count, channels, dtype=torch.float64), dim=1).float()
                     for count in (queries, stored))
    labels = torch.randint(0, 5, (stored,))
    got = retrieval.nearest_label_counts(vectors.to(DEVICE), bank.to(DEVICE), labels.to(DEVICE), 5)
    assert used == ['retrieval']
    products, nearest = (vectors.double() @ bank.double().T).sort(dim=1, descending=True)
    # Rounding decides between two that are equally near.
    clear = products[:, 19] - products[:, 20] > 1e-5
    assert clear.sum() >= 0.8 * queries
    want = [torch.bincount(labels[row], minlength=5).tolist() for row in nearest[clear, :20]]
    assert got[clear.to(DEVICE)].tolist() == want


def test_images_with_kappas_and_weights_of_their_own(used, rng):
    _, pixels, local = random_step()
    narrow = {'embeddings': pixels.embedding, 'prototypes': local.prototype}
    narrow = {key: value.detach().float().to(DEVICE).requires_grad_() for key, value in narrow.items()}
    wide = {key: value.detach().cpu().double().requires_grad_() for key, value in narrow.items()}

    def step(scene, device):
        """Plain vectors take the place of those with location, so that all gradients are of the same two tensors."""
        return (dataclasses.replace(pixels, embedding=scene['embeddings'], embedding_with_location=scene['embeddings'],
                                    segment=pixels.segment.to(device), image=pixels.image.to(device)),
                dataclasses.replace(local.map(lambda field: field.to(device)), prototype=scene['prototypes'],
                                    prototype_with_location=scene['prototypes']))

    kinds = settings_of_kinds(rng)
    of_images = [kinds['tag'], kinds['point']]
    here, there = step(narrow, DEVICE), step(wide, 'cpu')
    used.clear()
    got = RelationCriterion(KAPPAS, STEP_CLASSES, kinds=kinds)(*here, here[1], settings=of_images)
    assert used.count('contrast') >= 2 * len(of_images)
    want = naive_losses(*there, there[1], 0, True, *by_pixel(of_images, pixels))
    for name, loss in got.items():
        compare(loss, narrow, want[name], wide)
