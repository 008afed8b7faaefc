import numpy as np
import pytest

from spml.evaluation.instance import instances_per_class, iou_by_instance
from spml.evaluation.miou import confusion, iou_from_confusion


def naive_instances(instance, truth, num_classes):
    counts = [0] * num_classes
    for identity in sorted(set(instance.ravel().tolist())):
        votes = [0] * num_classes
        for i, t in zip(instance.ravel().tolist(), truth.ravel().tolist(), strict=True):
            if i == identity and t < num_classes:
                votes[t] += 1
        counts[votes.index(max(votes))] += 1  # the first of equals; class 0 when nobody voted
    return counts


def naive_iou(pred, truth, num_classes):
    result = []
    for c in range(num_classes):
        inter = union = 0
        for p, t in zip(pred.ravel().tolist(), truth.ravel().tolist(), strict=True):
            if t < num_classes:
                inter += p == c and t == c
                union += c in (p, t)
        result.append(inter / union if union else 0.0)
    return result


def test_every_id_counts_and_void_does_not_vote():
    truth = np.array([[0, 0, 1, 1], [2, 255, 255, 255], [255, 255, 2, 1]], np.uint8)
    instance = np.array([[0, 0, 255, 255], [7, 7, 7, 9], [9, 9, 3, 3]], np.uint8)
    # 0 -> class 0; 255 -> class 1; 7 -> class 2 (its voids are silent); 9 -> only void: class 0; 3 -> a tie: class 1.
    assert instances_per_class(instance, truth, 4).tolist() == [2, 2, 1, 0]


@pytest.mark.parametrize('num_classes', [2, 5, 21])
def test_score_equals_naive_loops(num_classes):
    rng = np.random.default_rng()
    images = []
    for _ in range(4):
        truth = rng.choice(np.array([0, 1, 4, num_classes, 255], np.uint8), (8, 6))
        pred = np.where(rng.random((8, 6)) < 0.4, truth, rng.integers(0, num_classes + 1, (8, 6))).astype(np.uint8)
        images.append((pred, truth, rng.choice(np.array([0, 1, 2, 60, 255], np.uint8), (8, 6))))

    image_iou = np.stack([iou_from_confusion(confusion(p, t, num_classes)) for p, t, _ in images])
    counts = np.stack([instances_per_class(i, t, num_classes) for _, t, i in images])
    score = iou_by_instance(image_iou, counts)

    for c in range(num_classes):
        weighted = total = 0
        for pred, truth, instance in images:
            n = naive_instances(instance, truth, num_classes)[c]
            weighted += naive_iou(pred, truth, num_classes)[c] * n
            total += n
        assert score[c] == pytest.approx(weighted / total if total else 0.0)


def test_image_weighs_by_its_instances():
    score = iou_by_instance(np.array([[0.2, 0.9], [0.8, 0.1]]), np.array([[1, 0], [3, 0]]))
    np.testing.assert_allclose(score, [(0.2 + 3 * 0.8) / 4, 0])


def test_different_shapes_of_instances_are_refused():
    with pytest.raises(ValueError, match='shape'):
        instances_per_class(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
