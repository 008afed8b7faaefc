import numpy as np
import pytest
import torch
from naive_segsort import random_units

from spml.segsort.memory_bank import MemoryBank
from spml.segsort.segments import Segments

IMAGES = 3


def random_segments(count=7):
    """Return Segments of one step of IMAGES images."""
    rng = np.random.default_rng()
    return Segments(prototype=random_units(count, 4).requires_grad_(), prototype_with_location=random_units(count, 6),
                    semantic=torch.from_numpy(rng.integers(0, 256, count)),
                    instance=torch.from_numpy(rng.integers(0, 256, count)),
                    image=torch.from_numpy(rng.integers(0, IMAGES, count)),
                    tags=torch.from_numpy(rng.random((count, 256)) < 0.5))


def row(segments, s, shift=0):
    """Return all there is about one segment, its image id shifted."""
    vectors = (getattr(segments, name)[s].tolist() for name in ('prototype', 'prototype_with_location', 'tags'))
    return (*vectors, int(segments.semantic[s]), int(segments.instance[s]), int(segments.image[s]) + shift)


@pytest.mark.parametrize('size', [0, 1, 2, 3])
def test_bank_keeps_the_last_steps_and_no_two_images_share_an_id(size):
    bank, history = MemoryBank(size, IMAGES), []
    for step in range(6):
        current = random_segments()
        everyone = bank.extend(current)
        remembered = history[-size:] if size else []
        assert len(everyone) == len(current) + sum(len(old) for old in remembered)
        for name in ('prototype', 'prototype_with_location', 'semantic', 'instance', 'tags', 'image'):
            assert torch.equal(getattr(everyone, name)[:len(current)], getattr(current, name))
        # Each stored segment is found again under the id of its image, shifted by B*W for each step since.
        found = [row(everyone, s) for s in range(len(current), len(everyone))]
        want = [row(old, s, IMAGES * age)
                for age, old in enumerate(reversed(remembered), start=1) for s in range(len(old))]
        assert sorted(found) == sorted(want)
        bank.append(current)
        history.append(current)
        assert current.image.max() < IMAGES, 'the step handed in must not be changed'
        assert len(bank.steps) == min(size, step + 1)


def test_stored_prototypes_are_detached_and_own_ones_are_not():
    bank = MemoryBank(2, IMAGES)
    stored, current = random_segments(), random_segments()
    bank.append(stored)
    bank.extend(current).prototype.sum().backward()
    assert stored.prototype.grad is None
    assert torch.equal(current.prototype.grad, torch.ones_like(current.prototype))


def test_state_dict_round_trip(tmp_path):
    bank = MemoryBank(2, IMAGES)
    for _ in range(3):
        bank.append(random_segments())
    torch.save(bank.state_dict(), tmp_path / 'bank.pth')
    restored = MemoryBank(2, IMAGES)
    restored.append(random_segments())
    restored.load_state_dict(torch.load(tmp_path / 'bank.pth', weights_only=True), torch.device('cpu'))
    # Both continue alike.
    later, current = random_segments(), random_segments()
    results = []
    for one in (bank, restored):
        one.append(later)
        results.append(one.extend(current))
    for name in ('prototype', 'prototype_with_location', 'semantic', 'instance', 'tags', 'image'):
        assert torch.equal(getattr(results[0], name), getattr(results[1], name))


def test_a_state_dict_is_not_changed_by_later_steps():
    bank = MemoryBank(2, IMAGES)
    bank.append(random_segments())
    state = bank.state_dict()
    before = state[0]['image'].clone()
    bank.append(random_segments())
    assert torch.equal(state[0]['image'], before)
