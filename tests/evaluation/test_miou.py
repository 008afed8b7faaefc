import numpy as np
import pytest

from spml.evaluation.miou import confusion, iou_from_confusion, mean_iou, pixel_accuracy, unions


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


def test_confusion_equals_one_written_out_by_hand():
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, 3], [0, 1, 2, 254]], np.uint8)
    pred = np.array([[0, 1, 1, 255], [2, 0, 0, 1], [0, 1, 3, 2]], np.uint8)
    expected = [[2, 1, 0, 0],
                [0, 2, 0, 1],
                [1, 0, 1, 1]]
    matrix = confusion(pred, truth, 3)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == expected
    assert unions(matrix).tolist() == [4, 4, 3]
    np.testing.assert_allclose(iou_from_confusion(matrix), [2 / 4, 2 / 4, 1 / 3])
    assert mean_iou(matrix) == pytest.approx((2 / 4 + 2 / 4 + 1 / 3) / 3)
    assert pixel_accuracy(matrix) == pytest.approx(5 / 7)


@pytest.mark.parametrize('num_classes', [1, 4, 21])
def test_scores_equal_a_naive_double_loop(num_classes):
    rng = np.random.default_rng()
    # Few classes occur, some values are beyond C on either side, and class 2 never occurs at all.
    values = np.array([0, 1, 3, 5, num_classes, 254, 255], np.uint8)
    truths = [rng.choice(values, (9, 7)) for _ in range(3)]
    preds = [np.where(rng.random((9, 7)) < 0.5, truth, rng.choice(values, (9, 7))) for truth in truths]
    matrix = sum(confusion(p, t, num_classes) for p, t in zip(preds, truths, strict=True))
    iou, accuracy = naive_scores(preds, truths, num_classes)
    np.testing.assert_allclose(iou_from_confusion(matrix), iou, rtol=1e-12)
    assert mean_iou(matrix) == pytest.approx(sum(iou) / num_classes)
    assert pixel_accuracy(matrix) == pytest.approx(accuracy)


def test_absent_class_scores_zero_and_stays_in_the_mean():
    label = np.array([[0, 1], [1, 0]], np.uint8)
    matrix = confusion(label, label, 4)
    assert iou_from_confusion(matrix).tolist() == [1, 1, 0, 0]
    assert mean_iou(matrix) == 0.5


def test_prediction_that_is_no_class_is_a_miss_but_not_in_the_accuracy():
    truth = np.zeros((2, 2), np.uint8)
    pred = np.array([[0, 0], [0, 255]], np.uint8)
    matrix = confusion(pred, truth, 2)
    assert iou_from_confusion(matrix).tolist() == [0.75, 0]
    assert pixel_accuracy(matrix) == 1


def test_wholly_void_image_scores_zero():
    matrix = confusion(np.zeros((3, 3), np.uint8), np.full((3, 3), 255, np.uint8), 5)
    assert matrix.sum() == 0
    assert (mean_iou(matrix), pixel_accuracy(matrix)) == (0, 0)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match='shape'):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
