import math

import naive_segsort as naive
import numpy as np
import pytest
import torch

from spml.segsort import contrast, group_batches, relations
from spml.segsort.contrast import contrastive_loss
from spml.utils import device

CLASSES = 4
UNLABELLED = 200


def random_scene(segments=9, pixels=30, images=3, channels=4):
    """Return random float64 vectors that need gradients, and random labels for every relation."""
    rng = np.random.default_rng()
    own = rng.integers(0, segments, pixels)
    own[:segments] = range(segments)
    return {'embeddings': naive.random_units(pixels, channels).requires_grad_(), 'own': torch.from_numpy(own),
            'prototypes': naive.random_units(segments, channels).requires_grad_(),
            'semantic': torch.from_numpy(rng.choice([0, 1, 2, 3, UNLABELLED, 254], segments)),
            'image': torch.from_numpy(rng.integers(0, images, segments)),
            'instance': torch.from_numpy(rng.choice([0, 5, 255], segments)),
            'sets': torch.from_numpy(rng.random((segments, CLASSES)) < 0.25)}


def rounded(scene, device='cpu'):
    """Return the scene with float32 leaves on the device, and the same numbers as float64 leaves."""
    narrow = {key: (value.detach().float() if value.is_floating_point() else value).to(device)
              for key, value in scene.items()}
    wide = {key: value.cpu().double() if value.is_floating_point() else value.cpu() for key, value in narrow.items()}
    for one in (narrow, wide):
        for key in ('embeddings', 'prototypes'):
            one[key].requires_grad_()
    return narrow, wide


def as_sets(matrix):
    """Turn an (S, T) bool matrix into a list of S sets."""
    return [set(row.nonzero()[:, 0].tolist()) for row in matrix]


def loss_of(relation, scene, kappa):
    """Return the loss of the code under test."""
    vectors = scene['embeddings'], scene['own'], scene['prototypes']
    if relation == 'sem_ann':
        return relations.semantic_annotation_loss(*vectors, scene['semantic'], kappa, CLASSES)
    if relation == 'img_sim':
        return relations.image_similarity_loss(*vectors, scene['image'], scene['instance'], kappa)
    function = relations.co_occurrence_loss if relation == 'sem_occ' else relations.feature_affinity_loss
    return function(*vectors, scene['sets'], kappa)


def naive_loss(relation, scene, kappa):
    """Return the loss pixel by pixel."""
    vectors = scene['embeddings'], scene['own'], scene['prototypes']
    if relation == 'sem_ann':
        return naive.semantic_annotation(*vectors, scene['semantic'], kappa, CLASSES)
    if relation == 'img_sim':
        return naive.image_similarity(*vectors, scene['image'], scene['instance'], kappa)
    return naive.sharing(*vectors, as_sets(scene['sets']), kappa)


def gradients(loss, scene):
    return torch.autograd.grad(loss, [scene['embeddings'], scene['prototypes']], retain_graph=True)


def check(relation, scene, kappa=8.0, rtol=1e-9):
    """Compare loss and gradients with the naive ones; return the loss."""
    got, want = loss_of(relation, scene, kappa), naive_loss(relation, scene, kappa)
    assert got.shape == ()
    assert torch.isfinite(got)
    torch.testing.assert_close(got, want, rtol=rtol, atol=rtol)
    for one, other in zip(gradients(got, scene), gradients(want, scene), strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol)
    return got.item()


RELATIONS = ('sem_ann', 'sem_occ', 'img_sim', 'feat_aff')


@pytest.fixture(params=[None, 20, 1], ids=['whole', 'two pixels', 'one pixel'])
def chunks(request, monkeypatch):
    """Run a test with all pixels at once and in chunks of two and of one."""
    if request.param:
        monkeypatch.setattr(device, 'CPU_CHUNK_ELEMENTS', request.param)


@pytest.mark.parametrize('relation', RELATIONS)
@pytest.mark.usefixtures('chunks')
def test_loss_and_gradient_equal_the_naive_ones(relation):
    for kappa in (0.5, 6.0, 16.0):
        check(relation, random_scene(), kappa)


def test_images_of_too_many_segments_for_tables_of_their_own(monkeypatch):
    monkeypatch.setattr(contrast, 'CHUNK_ELEMENTS', 3)
    for kappa in (0.5, 6.0, 16.0):
        check('img_sim', random_scene(), kappa)


def others_pixels():
    """Segments without own pixels, as those of other processes and of the memory bank are."""
    scene = random_scene(segments=20, pixels=40)
    scene['own'], scene['semantic'][0] = scene['own'].clamp(max=3), 1
    return scene, None


def one_segment():
    scene = random_scene(segments=1, pixels=5)
    scene['semantic'][:], scene['sets'][:] = 2, True
    return scene, 0


def no_other_positive():
    scene = random_scene(segments=CLASSES)
    scene['semantic'], scene['image'] = torch.arange(CLASSES), torch.zeros(CLASSES, dtype=torch.int64)
    scene['instance'], scene['sets'] = torch.arange(CLASSES), torch.eye(CLASSES, dtype=torch.bool)
    return scene, None


def no_negative():
    scene = random_scene()
    for key, value in (('semantic', 1), ('instance', 5), ('sets', True)):
        scene[key][:] = value
    return scene, 0


def empty_sets():
    """Tags of images without foreground, which share none, not even with themselves."""
    scene = random_scene(segments=20, pixels=40)
    scene['sets'][::2] = False
    return scene, None


def no_set():
    scene = random_scene()
    scene['sets'][:] = False
    return scene, None


def images_in_any_order(numbers=(*[3] * 9, *[70] * 3, 8, 200)):
    """Images of very different sizes, the last of which has no pixel at all."""
    scene = random_scene(segments=len(numbers), pixels=40)
    scene['image'] = torch.from_numpy(np.random.default_rng().permutation(numbers))
    scene['own'] = scene['own'][scene['image'][scene['own']] != numbers[-1]]
    scene['embeddings'] = scene['embeddings'][:len(scene['own'])].detach().requires_grad_()
    return scene, None


# Functions that make a scene, and what its loss is if that is known.
SCENES = (others_pixels, one_segment, no_other_positive, no_negative, empty_sets, no_set, images_in_any_order)


@pytest.mark.parametrize('relation', RELATIONS)
@pytest.mark.parametrize('make', SCENES)
@pytest.mark.usefixtures('chunks')
def test_scenes_at_the_limits(make, relation):
    scene, known = make()
    loss = check(relation, scene)
    assert known is None or loss == known


@pytest.mark.parametrize('relation', RELATIONS)
@pytest.mark.parametrize('emptied', [('embeddings', 'own'), tuple(random_scene())], ids=['no pixel', 'no segment'])
def test_nothing_to_learn_from(relation, emptied):
    scene = random_scene()
    scene |= {key: scene[key][:0].detach() for key in emptied}
    for key in ('embeddings', 'prototypes'):
        scene[key].requires_grad_()
    assert check(relation, scene) == 0


def test_labelled_pixels_are_few_or_none():
    scene = random_scene()
    scene['semantic'][:] = UNLABELLED
    assert check('sem_ann', scene) == 0
    scene['semantic'][:2] = torch.tensor([0, 3])
    assert check('sem_ann', scene) > 0


def test_another_positive_counts_although_its_similarity_underflows():
    # The other positive is opposite the pixel: exp(-1000) is 0 next to the own term exp(1000) in any float.
    embeddings = torch.tensor([[1.0, 0]], requires_grad=True)
    prototypes = torch.tensor([[1.0, 0], [-1, 0], [0, 1]], requires_grad=True)
    loss = relations.semantic_annotation_loss(embeddings, torch.tensor([0]), prototypes, torch.tensor([1, 1, 0]),
                                              1000.0, 2)
    loss.backward()
    # log(1 + exp(1000 * (0 - -1))), whose derivative by the difference of the two logits is 1.
    assert loss.item() == pytest.approx(1000)
    torch.testing.assert_close(embeddings.grad, torch.tensor([[1000.0, 1000]]))
    torch.testing.assert_close(prototypes.grad, torch.tensor([[0.0, 0], [-1000, 0], [1000, 0]]))


@pytest.mark.parametrize('relation', RELATIONS)
def test_float32_with_a_large_concentration(relation):
    # exp(300) overflows float32 and not float64.
    narrow, wide = rounded(random_scene())
    got, want = loss_of(relation, narrow, 300.0), naive_loss(relation, wide, 300.0)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)
    for one, other in zip(gradients(got, narrow), gradients(want, wide), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize('kappa', [1000.0, 1e-3])
@pytest.mark.parametrize('relation', RELATIONS)
def test_extreme_concentrations_stay_finite_in_float32(relation, kappa):
    scene, _ = rounded(random_scene())
    loss = loss_of(relation, scene, kappa)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(grad).all() for grad in gradients(loss, scene))


def check_bfloat16(relation, device):
    """The loss of bfloat16 vectors is reduced in float32, and their gradients are bfloat16 again."""
    scene = {key: value.detach().bfloat16().to(device) if value.is_floating_point() else value.to(device)
             for key, value in random_scene(segments=20, pixels=40).items()}
    got = loss_of(relation, {**scene, 'embeddings': scene['embeddings'].requires_grad_()}, 6.0)
    got.backward()
    assert got.dtype == torch.float32
    assert scene['embeddings'].grad.dtype == torch.bfloat16
    _, wide = rounded(scene)
    assert got.item() == pytest.approx(naive_loss(relation, wide, 6.0).item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize('relation', RELATIONS)
def test_bfloat16_is_reduced_in_float32(relation):
    check_bfloat16(relation, 'cpu')


@pytest.mark.parametrize('relation', RELATIONS)
def test_autocast_does_not_reach_the_losses(relation):
    scene, _ = rounded(random_scene())
    want = loss_of(relation, scene, 6.0)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(loss_of(relation, scene, 6.0), want)


@pytest.mark.usefixtures('chunks')
@pytest.mark.parametrize('many', [2, 1000])
@pytest.mark.parametrize('count', [1, 62, 63, 200])
def test_any_number_of_tags_and_of_sets(count, many, monkeypatch):
    # More than fit one integer, and sets that differ in one integer only.
    monkeypatch.setattr(relations, '_MANY_SETS', many)
    scene, rng = random_scene(segments=12), np.random.default_rng()
    scene['sets'] = torch.from_numpy(rng.random((12, count)) < 0.5 / count)
    scene['sets'][torch.arange(0, 12, 2), torch.from_numpy(rng.integers(0, count, 6))] = True
    check('sem_occ', scene)


@pytest.mark.parametrize('in_order', [True, False])
@pytest.mark.parametrize('chunk', [1, 120, 400])
def test_images_in_tiles(chunk, in_order, monkeypatch):
    # One image at once, of whole tiles and a rest, whose pixels follow each other, as in training, or do not.
    monkeypatch.setattr(device, 'CPU_CHUNK_ELEMENTS', chunk)
    monkeypatch.setattr(group_batches, 'TILE', 4)
    scene = random_scene(segments=20, pixels=110)
    if in_order:
        order = scene['image'][scene['own']].argsort(stable=True)
        scene['own'] = scene['own'][order]
    check('img_sim', scene)


@pytest.mark.usefixtures('chunks')
def test_gradients_by_any_masks(rng):
    scene = random_scene(segments=6, pixels=12)
    positive, negative = (torch.from_numpy(rng.random((6, 6)) < 0.4) for _ in range(2))

    def function(embeddings, prototypes):
        return contrastive_loss(embeddings, scene['own'], prototypes,
                                lambda rows: (positive[rows].clone(), (negative & ~positive)[rows]), 5.0)

    assert torch.autograd.gradcheck(function, (scene['embeddings'], scene['prototypes']))


def test_without_gradients_the_loss_is_the_same():
    scene = random_scene()
    with_grad = loss_of('sem_ann', scene, 6.0)
    with torch.no_grad():
        assert torch.equal(loss_of('sem_ann', scene, 6.0), with_grad)


@pytest.mark.usefixtures('chunks')
def test_gradients_through_one_tensor_alone():
    scene = random_scene()
    embeddings = scene['embeddings'].detach()
    loss = relations.co_occurrence_loss(embeddings, scene['own'], scene['prototypes'], scene['sets'], 6.0)
    want = naive.sharing(embeddings, scene['own'], scene['prototypes'], as_sets(scene['sets']), 6.0)
    torch.testing.assert_close(*(torch.autograd.grad(value, scene['prototypes'])[0] for value in (loss, want)))


@pytest.mark.parametrize('threshold', [0.95, 0.3])
@pytest.mark.usefixtures('chunks')
def test_propagated_classes_equal_the_naive_ones(threshold):
    for _ in range(5):
        scene = random_scene(segments=20, channels=3)
        prototypes = scene['prototypes'].detach()
        got = relations.propagate_classes(prototypes, scene['image'], scene['semantic'], CLASSES, threshold)
        assert got.dtype == torch.bool
        want = naive.propagated_classes(prototypes, scene['image'], scene['semantic'], CLASSES, threshold)
        assert as_sets(got) == want


def test_propagation_stays_in_the_image_keeps_labels_and_falls_back_to_all_classes():
    angle = math.acos(0.95)
    near, far = angle * 0.99, angle * 1.01
    angles = torch.tensor([0, near, far, 0, 0, 0], dtype=torch.float64)
    prototypes = torch.stack([angles.cos(), angles.sin()], dim=1)
    #                      labelled near  far  other image   labelled twice in one place
    semantic = torch.tensor([2, UNLABELLED, UNLABELLED, UNLABELLED, 1, 0])
    image = torch.tensor([0, 0, 0, 1, 2, 2])
    sets = as_sets(relations.propagate_classes(prototypes, image, semantic, 3))
    assert sets == [{2}, {2}, {0, 1, 2}, {0, 1, 2}, {1}, {0}]


@pytest.mark.parametrize('count', [0, 4])
def test_propagation_without_labelled_segments_gives_all_classes(count):
    scene = random_scene()
    got = relations.propagate_classes(scene['prototypes'][:count].detach(), scene['image'][:count],
                                      torch.full((count,), UNLABELLED), CLASSES)
    assert got.shape == (count, CLASSES)
    assert got.all()
