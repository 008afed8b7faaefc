import naive_segsort as naive
import numpy as np
import pytest
import torch

from spml.names import RELATIONS
from spml.segsort import criterion as criteria
from spml.segsort.criterion import COMPUTED, RelationCriterion, Settings, retrieval_accuracy
from spml.segsort.memory_bank import MemoryBank
from spml.segsort.segments import Segments, make_segments
from spml.utils import device

CLASSES = 3
KAPPAS = {'sem_ann': 6.0, 'sem_occ': 8.0, 'img_sim': 16.0, 'feat_aff': 12.0}
IMAGES = 2


def random_step(image_offset=0, void=()):
    """Return (embeddings, Pixels, Segments) of one process's step; the images in `void` are wholly void."""
    rng = np.random.default_rng()
    size = (IMAGES, 4, 6)
    embeddings = torch.from_numpy(rng.standard_normal((IMAGES, 4, 4, 6))).requires_grad_()
    semantic = rng.choice([0, 1, 2, 200, 255], size)
    semantic[list(void)] = 255
    tags = torch.zeros(IMAGES, 256, dtype=torch.bool)
    for b in range(IMAGES):
        tags[b, rng.choice([0, 1, 2, 200, 255], 2, replace=False)] = True
    local = torch.from_numpy(rng.uniform(-0.5, 0.5, (IMAGES, 2, 4, 6)))
    pixels, segments = make_segments(
        embeddings, local, torch.from_numpy(semantic), torch.from_numpy(rng.integers(0, 3, size)), tags,
        grid=(2, 2), iterations=2, image_offset=image_offset)
    return embeddings, pixels, segments


def naive_losses(pixels, local, everyone, own_start, with_location, kappas=KAPPAS, weights=None):
    """Return the four losses, pixel by pixel, of what the criterion was given; kappas and weights by relation."""
    weights = weights or dict.fromkeys(KAPPAS, 1)
    own = pixels.segment + own_start
    tags = [{int(t) for t in row.nonzero()[:, 0] if 1 <= t < CLASSES} for row in everyone.tags]
    sets = naive.propagated_classes(everyone.prototype_with_location, everyone.image, everyone.semantic, CLASSES)
    vectors = pixels.embedding, own, everyone.prototype
    similar = (pixels.embedding_with_location, pixels.segment, local.prototype_with_location) if with_location else (
        pixels.embedding, pixels.segment, local.prototype)
    own_kappa, own_weight = ([values[name] for name in KAPPAS] for values in (kappas, weights))
    ann, occ, sim, aff = zip(own_kappa, own_weight, strict=True)
    return {'sem_ann_loss': naive.semantic_annotation(*vectors, everyone.semantic, ann[0], CLASSES, ann[1]),
            'sem_occ_loss': naive.sharing(*vectors, tags, *occ),
            'img_sim_loss': naive.image_similarity(*similar, local.image, local.instance, *sim),
            'feat_aff_loss': naive.sharing(*vectors, sets, *aff)}


def compare(embeddings, got, want):
    """Compare named losses and their gradients at the embedding network's output."""
    assert list(got) == [f'{name}_loss' for name in KAPPAS]
    for name, loss in got.items():
        torch.testing.assert_close(loss, want[name])
        grads = [torch.autograd.grad(value, embeddings, retain_graph=True)[0] for value in (loss, want[name])]
        torch.testing.assert_close(*grads)


def second_of_two(stored_steps, void):
    """The step of the second of two processes, whose images and segments follow another's, after earlier steps.

    Returns (embeddings, Pixels, its Segments, those of everyone, where its own begin).
    """
    bank = MemoryBank(2, 2 * IMAGES)
    for _ in range(stored_steps):
        bank.append(random_step()[2])
    _, _, other = random_step()
    embeddings, pixels, local = random_step(image_offset=IMAGES, void=void)
    return embeddings, pixels, local, bank.extend(Segments.cat([other, local])), len(other)


def by_pixel(of_images, pixels):
    """The kappas and weights of the pixels, by relation, of the Settings of each image."""
    of_pixels = [of_images[image] for image in pixels.image.tolist()]
    return ({name: [getattr(one, part)[f'{name}{end}'] for one in of_pixels] for name in KAPPAS}
            for part, end in (('concentrations', ''), ('weights', '_loss')))


@pytest.mark.parametrize('with_location', [True, False])
@pytest.mark.parametrize('void', [(), (1,), (0, 1)], ids=['no void image', 'one void image', 'all void'])
@pytest.mark.parametrize('stored_steps', [0, 2])
def test_losses_equal_the_naive_ones(with_location, void, stored_steps):
    embeddings, pixels, local, everyone, own_start = second_of_two(stored_steps, void)
    criterion = RelationCriterion(KAPPAS, CLASSES, with_location)
    got = criterion(pixels, local, everyone, own_start)
    compare(embeddings, got, naive_losses(pixels, local, everyone, own_start, with_location))
    sum(got.values()).backward()
    assert torch.isfinite(embeddings.grad).all()
    if void == (0, 1):
        assert [loss.item() for loss in got.values()] == [0, 0, 0, 0]
        assert not embeddings.grad.any()


def settings_of_kinds(rng):
    """Random kappas and weights of two kinds and of the rest."""
    return {kind: Settings({name: rng.uniform(4, 16) for name in KAPPAS},
                           {f'{name}_loss': rng.uniform(0.1, 2) for name in KAPPAS}) for kind in ('', 'point', 'tag')}


@pytest.mark.parametrize('way', ['by category', 'by masks', 'in small chunks'])
@pytest.mark.parametrize('void', [(), (0,)], ids=['no void image', 'one void image'])
def test_kappa_and_weight_are_those_of_the_image_of_each_pixel(way, void, monkeypatch, rng):
    if way == 'by masks':
        monkeypatch.setattr(criteria.relations, '_MANY_SETS', 0)
    elif way == 'in small chunks':
        monkeypatch.setattr(device, 'CPU_CHUNK_ELEMENTS', 40)
    embeddings, pixels, local, everyone, own_start = second_of_two(1, void)
    kinds = settings_of_kinds(rng)
    criterion = RelationCriterion(KAPPAS, CLASSES, kinds=kinds)
    of_images = [kinds[kind] for kind in ('point', '')]
    assert criterion.settings(['point', 'scribble']) == of_images  # nothing is said of scribbles
    got = criterion(pixels, local, everyone, own_start, of_images)
    compare(embeddings, got, naive_losses(pixels, local, everyone, own_start, True, *by_pixel(of_images, pixels)))


@pytest.mark.parametrize('images', [['tag', 'tag'], ['', 'mask']])
def test_images_of_one_kind_give_exactly_what_all_images_alike_give(images, rng, one_thread):
    kinds = settings_of_kinds(rng)
    one = kinds.get(images[0])
    embeddings, pixels, local = random_step()
    everyone = MemoryBank(1, IMAGES).extend(local)
    criterion = RelationCriterion(KAPPAS, CLASSES, kinds=kinds)
    got = criterion(pixels, local, everyone, settings=criterion.settings(images))
    plain = RelationCriterion(one.concentrations, CLASSES)(pixels, local, everyone)
    for name, loss in plain.items():
        assert torch.equal(got[name], one.weights[name] * loss)
        grads = [torch.autograd.grad(value, embeddings, retain_graph=True)[0] for value in
                 (got[name], one.weights[name] * loss)]
        assert torch.equal(*grads)


def test_without_a_background_class_0_is_a_tag_like_the_others(rng):
    _, pixels, local = random_step()
    local.tags = torch.zeros_like(local.tags)
    local.tags[:, 0] = True  # class 0 is all that the images share
    local.tags[local.image == 0, 1] = True
    sets = [{int(t) for t in row.nonzero()[:, 0]} for row in local.tags]
    everyone = MemoryBank(1, IMAGES).extend(local)
    got = RelationCriterion({'sem_occ': 8.0}, CLASSES, background=False)(pixels, local, everyone)['sem_occ_loss']
    torch.testing.assert_close(got, naive.sharing(pixels.embedding, pixels.segment, local.prototype, sets, 8.0))
    assert got.item() == 0
    assert RelationCriterion({'sem_occ': 8.0}, CLASSES)(pixels, local, everyone)['sem_occ_loss'].item() > 0


def test_only_active_relations_are_returned():
    _, pixels, local = random_step()
    assert list(RelationCriterion({'img_sim': 16.0}, CLASSES)(pixels, local, local)) == ['img_sim_loss']
    assert RelationCriterion({}, CLASSES)(pixels, local, local) == {}


def test_the_names_and_the_implementations_agree():
    assert list(RELATIONS) == list(COMPUTED)


@pytest.mark.parametrize('table', [RELATIONS, COMPUTED])
def test_a_relation_without_its_other_half_is_refused(table, monkeypatch):
    monkeypatch.setitem(table, 'new', table['img_sim'])
    with pytest.raises(ValueError, match='new'):
        RelationCriterion({'new': 6.0}, CLASSES)


def test_a_new_relation_is_an_entry_in_each_table(monkeypatch):
    monkeypatch.setitem(RELATIONS, 'new', RELATIONS['img_sim'])
    monkeypatch.setitem(COMPUTED, 'new', lambda batch, kappa: kappa * batch.pixels.embedding.sum())
    _, pixels, local = random_step()
    losses = RelationCriterion({'sem_occ': 8.0, 'new': 3.0, 'sem_ann': 6.0}, CLASSES)(pixels, local, local)
    assert list(losses) == ['sem_occ_loss', 'new_loss', 'sem_ann_loss']
    torch.testing.assert_close(losses['new_loss'], 3 * pixels.embedding.sum())


@pytest.mark.parametrize('count', [1, 3, 5, 30])
@pytest.mark.parametrize('chunk', [None, 40])
def test_retrieval_accuracy(count, chunk, monkeypatch, rng):
    if chunk:
        monkeypatch.setattr(device, 'CPU_CHUNK_ELEMENTS', chunk)
    prototypes, labels = naive.random_units(count, 4), rng.choice([0, 1, 200], count)
    segments = Segments(prototypes, naive.random_units(count, 6), torch.from_numpy(labels), torch.zeros(count),
                        torch.zeros(count), torch.zeros(count, 256, dtype=torch.bool))
    shares = []
    for s in range(count):
        dots = [float((prototypes[s] * other).sum()) for other in prototypes]
        nearest = sorted(range(count), key=lambda t: -dots[t])[:5]
        assert s in nearest
        shares.append(np.mean([labels[t] == labels[s] for t in nearest]))
    assert retrieval_accuracy(segments).item() == pytest.approx(np.mean(shares))


def test_retrieval_accuracy_without_segments():
    _, _, local = random_step(void=(0, 1))
    assert retrieval_accuracy(local).item() == 0
