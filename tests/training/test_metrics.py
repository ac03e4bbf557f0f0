"""The figures of an evaluation, against scikit-learn and by hand."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn
from support.refusals import refused

from keras_bisenet.labels import IGNORE
from keras_bisenet.training.metrics import Scores, confusion

CLASSES = 7


def random_labels(seed, absent=()):
    """Truth with pixels to ignore, and a prediction that is often right; neither holds the classes in `absent`."""
    random = np.random.default_rng(seed)
    present = np.setdiff1d(np.arange(CLASSES), absent).astype(np.uint8)
    labels = random.choice(present, (37, 53))
    predictions = np.where(random.random(labels.shape) < 0.6, labels, random.choice(present, labels.shape))
    labels[random.random(labels.shape) < 0.1] = IGNORE
    return labels, predictions


@pytest.fixture(params=[(), (3,), (0, 6)], ids=["all", "3 absent", "0 and 6 absent"])
def case(request):
    """Truth and prediction where something is to be known, the classes that occur, and the scores."""
    labels, predictions = random_labels(len(request.param), request.param)
    known = labels != IGNORE
    assert not known.all()
    present = np.setdiff1d(np.arange(CLASSES), request.param)
    return labels[known], predictions[known], present, Scores(confusion(labels, predictions, CLASSES))


def test_confusion_equals_scikit_learn(case):
    labels, predictions, _, scores = case
    expected = sklearn.confusion_matrix(labels, predictions, labels=np.arange(CLASSES))
    np.testing.assert_array_equal(scores.matrix, expected)
    assert scores.matrix.dtype == np.int64
    np.testing.assert_array_equal(scores.pixels, np.bincount(labels, minlength=CLASSES))


@pytest.mark.parametrize(
    ("figure", "score"),
    [
        ("iou", sklearn.jaccard_score),
        ("f1", sklearn.f1_score),
        ("precision", sklearn.precision_score),
        ("recall", sklearn.recall_score),
    ],
)
def test_classes_equal_scikit_learn(case, figure, score):
    labels, predictions, present, scores = case
    expected = np.full(CLASSES, np.nan)
    expected[present] = score(labels, predictions, labels=present, average=None)
    np.testing.assert_allclose(getattr(scores, figure), expected, rtol=1e-14)


def test_means_equal_scikit_learn(case):
    labels, predictions, present, scores = case
    parts = present[present > 0]
    expected = {
        "mean_iou": sklearn.jaccard_score(labels, predictions, average="macro"),
        "mean_f1": sklearn.f1_score(labels, predictions, average="macro"),
        "mean_f1_foreground": sklearn.f1_score(labels, predictions, labels=parts, average="macro"),
        "pixel_accuracy": sklearn.accuracy_score(labels, predictions),
        "mean_accuracy": sklearn.balanced_accuracy_score(labels, predictions),
    }
    assert {name: getattr(scores, name) for name in expected} == pytest.approx(expected, rel=1e-14)


def test_by_hand():
    """Class 2 was missed, class 3 occurs nowhere, class 4 was only taken for others; the 255 counts nowhere."""
    labels = np.array([[0, 0, 0, 0], [1, 1, 2, 255]], np.uint8)
    predictions = np.array([[0, 0, 0, 1], [1, 4, 0, 2]], np.uint8)
    scores = Scores(confusion(labels, predictions, 5))
    assert scores.matrix.tolist() == [[3, 1, 0, 0, 0], [0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0] * 5, [0] * 5]
    nan = np.nan
    np.testing.assert_allclose(scores.iou, [3 / 5, 1 / 3, 0, nan, 0])
    np.testing.assert_allclose(scores.f1, [6 / 8, 2 / 4, 0, nan, 0])
    np.testing.assert_allclose(scores.precision, [3 / 4, 1 / 2, 0, nan, 0])
    np.testing.assert_allclose(scores.recall, [3 / 4, 1 / 2, 0, nan, 0])
    means = (scores.mean_iou, scores.mean_f1, scores.mean_f1_foreground, scores.pixel_accuracy, scores.mean_accuracy)
    assert means == pytest.approx(((3 / 5 + 1 / 3) / 4, 1.25 / 4, 0.5 / 3, 4 / 7, 1.25 / 3))


def test_confusions_of_pictures_add_up():
    pairs = [random_labels(seed) for seed in (1, 2)]
    together = confusion(*(np.concatenate(side) for side in zip(*pairs, strict=True)), CLASSES)
    np.testing.assert_array_equal(sum(confusion(*pair, CLASSES) for pair in pairs), together)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_many_classes_of_any_integer_type(dtype):
    """The pair (199, 198) is number 39998, more than a uint8 holds."""
    matrix = confusion(np.array([199], dtype), np.array([198], dtype), 200)
    assert np.argwhere(matrix).tolist() == [[199, 198]]


def test_nothing_to_score():
    scores = Scores(confusion(np.full((2, 3), IGNORE), np.zeros((2, 3), int), 2))
    assert scores.matrix.tolist() == [[0, 0], [0, 0]]
    assert np.isnan([*scores.iou, scores.mean_iou, scores.pixel_accuracy, scores.mean_accuracy]).all()


def test_another_label_to_ignore():
    matrix = confusion(np.array([0, 1, 1]), np.array([1, 1, 0]), 2, ignore=0)
    assert matrix.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("labels", "predictions", "found"),
    [
        ([[0, 3]], [[0, 0]], "labels reach from 0 to 3; expected 0 to 2"),
        ([[0, 2]], [[0, 3]], "predictions reach from 0 to 3; expected 0 to 2"),
        ([[-1, 2]], [[0, 0]], "labels reach from -1 to 2; expected 0 to 2"),
        ([[0, 255]], [[255, 0]], "predictions reach from 255 to 255; expected 0 to 2"),
        ([[0, 1]], [[0], [1]], "labels are (1, 2) and predictions (2, 1)"),
    ],
)
def test_wrong_values(labels, predictions, found):
    with refused(ValueError, found):
        confusion(np.array(labels), np.array(predictions), 3)


def test_json_has_every_figure_and_no_nan():
    result = Scores([[3, 1, 0], [0, 2, 0], [0, 0, 0]]).as_dict(("a", "b", "c"))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    figures = {"mean_iou": (3 / 4 + 2 / 3) / 2, "mean_f1": (6 / 7 + 4 / 5) / 2, "mean_f1_foreground": 4 / 5}
    figures |= {"pixel_accuracy": 5 / 6, "mean_accuracy": (3 / 4 + 1) / 2}
    assert {name: result.pop(name) for name in figures} == pytest.approx(figures)
    classes = result.pop("classes")
    assert classes.pop("a") == pytest.approx({"iou": 0.75, "f1": 6 / 7, "precision": 1, "recall": 0.75, "pixels": 4})
    assert classes.pop("b") == pytest.approx({"iou": 2 / 3, "f1": 0.8, "precision": 2 / 3, "recall": 1, "pixels": 2})
    assert classes == {"c": {"iou": None, "f1": None, "precision": None, "recall": None, "pixels": 0}}
    assert result == {"confusion": [[3, 1, 0], [0, 2, 0], [0, 0, 0]]}


def test_table():
    assert Scores([[3, 1, 0], [0, 4, 0], [0, 0, 0]]).table(("hair", "background", "hat")).splitlines() == [
        "class         iou     f1  precision  recall  of pixels",
        "------------------------------------------------------",
        "hair        75.00  85.71     100.00   75.00      50.00",
        "background  80.00  88.89      80.00  100.00      50.00",
        "hat             -      -          -       -       0.00",
        "------------------------------------------------------",
        "mean IoU               77.50",
        "mean F1                87.30",
        "F1 without background  88.89",
        "pixel accuracy         87.50",
        "mean accuracy          87.50",
    ]
