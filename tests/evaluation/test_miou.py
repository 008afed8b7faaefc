import numpy as np
import pytest

from spml.evaluation.miou import confusion, iou_from_confusion, pixel_accuracy


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
