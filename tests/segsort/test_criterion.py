import naive_segsort as naive
import numpy as np
import pytest
import torch

from spml.segsort.criterion import RelationCriterion, retrieval_accuracy
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


def naive_losses(pixels, local, everyone, own_start, with_location):
    """Return the four losses by double loops over what the criterion was given."""
    own = pixels.segment + own_start
    tags = [{int(t) for t in row.nonzero()[:, 0] if 1 <= t < CLASSES} for row in everyone.tags]
    sets = naive.propagated_classes(everyone.prototype_with_location, everyone.image, everyone.semantic, CLASSES)
    vectors = pixels.embedding, own, everyone.prototype
    similar = (pixels.embedding_with_location, pixels.segment, local.prototype_with_location) if with_location else (
        pixels.embedding, pixels.segment, local.prototype)
    return {'sem_ann_loss': naive.semantic_annotation(*vectors, everyone.semantic, KAPPAS['sem_ann'], CLASSES),
            'sem_occ_loss': naive.sharing(*vectors, tags, KAPPAS['sem_occ']),
            'img_sim_loss': naive.image_similarity(*similar, local.image, local.instance, KAPPAS['img_sim']),
            'feat_aff_loss': naive.sharing(*vectors, sets, KAPPAS['feat_aff'])}


def compare(embeddings, got, want):
    """Compare named losses and their gradients at the embedding network's output."""
    assert list(got) == [f'{name}_loss' for name in KAPPAS]
    for name, loss in got.items():
        torch.testing.assert_close(loss, want[name])
        grads = [torch.autograd.grad(value, embeddings, retain_graph=True)[0] for value in (loss, want[name])]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize('with_location', [True, False])
@pytest.mark.parametrize('void', [(), (1,), (0, 1)], ids=['no void image', 'one void image', 'all void'])
@pytest.mark.parametrize('stored_steps', [0, 2])
def test_losses_equal_double_loops(with_location, void, stored_steps):
    bank = MemoryBank(2, 2 * IMAGES)
    for _ in range(stored_steps):
        bank.append(random_step()[2])
    # This process is the second of two: its images and segments follow another's.
    _, _, other = random_step()
    embeddings, pixels, local = random_step(image_offset=IMAGES, void=void)
    everyone = bank.extend(Segments.cat([other, local]))
    criterion = RelationCriterion(KAPPAS, CLASSES, with_location)
    got = criterion(pixels, local, everyone, own_start=len(other))
    compare(embeddings, got, naive_losses(pixels, local, everyone, len(other), with_location))
    sum(got.values()).backward()
    assert torch.isfinite(embeddings.grad).all()
    if void == (0, 1):
        assert [loss.item() for loss in got.values()] == [0, 0, 0, 0]


def test_nothing_at_all_is_zero_and_back_propagates():
    embeddings, pixels, local = random_step(void=(0, 1))
    losses = RelationCriterion(KAPPAS, CLASSES)(pixels, local, MemoryBank(2, IMAGES).extend(local))
    sum(losses.values()).backward()
    assert all(loss.item() == 0 for loss in losses.values())
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_only_active_relations_are_returned():
    _, pixels, local = random_step()
    assert list(RelationCriterion({'img_sim': 16.0}, CLASSES)(pixels, local, local)) == ['img_sim_loss']
    assert RelationCriterion({}, CLASSES)(pixels, local, local) == {}


def test_the_criterion_has_no_weights_of_its_own():
    criterion = RelationCriterion(KAPPAS, CLASSES)
    assert not list(criterion.parameters())
    assert not criterion.state_dict()


def test_unknown_relations_are_refused():
    with pytest.raises(ValueError, match='sem_an'):
        RelationCriterion({'sem_an': 6.0}, CLASSES)


@pytest.mark.parametrize('count', [1, 3, 5, 30])
@pytest.mark.parametrize('chunk', [None, 40])
def test_retrieval_accuracy(count, chunk, monkeypatch):
    if chunk:
        monkeypatch.setattr(device, 'CPU_CHUNK_ELEMENTS', chunk)
    rng = np.random.default_rng()
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
