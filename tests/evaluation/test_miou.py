import numpy as np
import pytest

from spml.evaluation.miou import confusion, instances_per_class, iou_by_instance, iou_from_confusion, pixel_accuracy


def naive_scores(preds, truths, num_classes):
    """Return IoU of each class and pixel accuracy by looking at one pixel after the other."""
    tp, fp, fn = ([0] * num_classes for _ in range(3))
    for pred, truth in zip(preds, truths, strict=True):
        for p, t in zip(pred.ravel().tolist(), truth.ravel().tolist(), strict=True):
            if t >= num_classes:
                continue
            if p == t:
                tp[t] += 1
            else:
                fn[t] += 1
                if p < num_classes:
                    fp[p] += 1
    iou = [a / (a + b + c) if a + b + c else 0.0 for a, b, c in zip(tp, fp, fn, strict=True)]
    predicted = sum(tp) + sum(fp)
    return iou, sum(tp) / predicted if predicted else 0.0


@pytest.mark.parametrize('num_classes', [1, 4, 21])
def test_scores_equal_a_naive_double_loop(num_classes, rng):
    # Few classes occur, some values are beyond C on either side; class 2 never occurs.
    values = np.array([0, 1, 3, 5, num_classes, 254, 255], np.uint8)
    truths = [rng.choice(values, (9, 7)) for _ in range(3)]
    preds = [np.where(rng.random((9, 7)) < 0.5, truth, rng.choice(values, (9, 7))) for truth in truths]
    matrix = sum(confusion(p, t, num_classes) for p, t in zip(preds, truths, strict=True))
    assert (matrix.dtype, matrix.shape) == (np.int64, (num_classes, num_classes + 1))
    iou, accuracy = naive_scores(preds, truths, num_classes)
    np.testing.assert_allclose(iou_from_confusion(matrix), iou, rtol=1e-12)
    assert pixel_accuracy(matrix) == pytest.approx(accuracy)


def test_wholly_void_image_scores_zero():
    matrix = confusion(np.zeros((3, 3), np.uint8), np.full((3, 3), 255, np.uint8), 5)
    assert matrix.sum() == 0
    assert (iou_from_confusion(matrix).max(), pixel_accuracy(matrix)) == (0, 0)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match='shape'):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


def naive_instances(instance, truth, num_classes):
    counts = [0] * num_classes
    for identity in sorted(set(instance.ravel().tolist())):
        votes = [0] * num_classes
        for i, t in zip(instance.ravel().tolist(), truth.ravel().tolist(), strict=True):
            if i == identity and t < num_classes:
                votes[t] += 1
        counts[votes.index(max(votes))] += 1  # the first of equals; class 0 when nobody voted
    return counts


@pytest.mark.parametrize('num_classes', [2, 5, 21])
def test_score_equals_naive_loops(num_classes, rng):
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
        for iou, (_, truth, instance) in zip(image_iou, images, strict=True):
            n = naive_instances(instance, truth, num_classes)[c]
            weighted += iou[c] * n
            total += n
        assert score[c] == pytest.approx(weighted / total if total else 0.0)


def test_different_shapes_of_instances_are_refused():
    with pytest.raises(ValueError, match='shape'):
        instances_per_class(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


def test_an_instance_of_no_class_counts_for_the_background_alone():
    instance, truth = np.array([[1, 1, 2, 3]], np.uint8), np.array([[1, 1, 255, 0]], np.uint8)
    np.testing.assert_array_equal(instances_per_class(instance, truth, 2), [2, 1])
    np.testing.assert_array_equal(instances_per_class(instance, truth, 2, background=False), [1, 1])
