"""How well labels were predicted: a confusion matrix, and the figures drawn from it (numpy only)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_bisenet.labels import IGNORE


def confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Counts how often each class was taken for each other.

    Matrices of several pictures add up to that of all of them.

    Args:
        labels: the truth: class ids 0 to `num_classes - 1`, or `ignore`; integers of any shape.
        predictions: class ids 0 to `num_classes - 1`; integers of the same shape.
        num_classes: how many classes there are.
        ignore: label of the pixels that do not count, whatever is predicted there.

    Returns:
        `[num_classes, num_classes]` int64: row = truth, column = prediction.

    Raises:
        ValueError: the shapes differ, or a value is none of the above.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(f"labels are {labels.shape} and predictions {predictions.shape}; expected the same shape")
    counted = labels != ignore
    labels, predictions = labels[counted], predictions[counted]
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            raise ValueError(f"{name} reach from {values.min()} to {values.max()}; expected 0 to {num_classes - 1}")
    # intp: the product would overflow uint8 labels.
    pairs = labels.astype(np.intp) * num_classes + predictions
    counts = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


_FIGURES = ("iou", "f1", "precision", "recall")
_MEANS = {
    "mean_iou": "mean IoU",
    "mean_f1": "mean F1",
    "mean_f1_foreground": "F1 without background",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
}


class Scores:
    """Figures drawn from a confusion matrix.

    With TP the pixels of a class that were found, FP those taken for it wrongly and FN those missed. A class that
    occurs in neither truth nor prediction has no score: it is nan, and no mean counts it.

    Args:
        matrix: `[C, C]` counts: row = truth, column = prediction.

    Attributes:
        matrix: the same, int64.
        pixels: `[C]` int64, pixels of each class in the truth.
        iou: `[C]` float64, TP / (TP + FP + FN).
        f1: `[C]` float64, 2 TP / (2 TP + FP + FN).
        precision: `[C]` float64, TP / (TP + FP), and 0 for a class that was never predicted but occurs.
        recall: `[C]` float64, TP / (TP + FN), and 0 for a class that never occurs but was predicted.
        mean_iou: mean of `iou`.
        mean_f1: mean of `f1`.
        mean_f1_foreground: mean of `f1` without class 0, the background; what papers on CelebAMask-HQ report.
        pixel_accuracy: TP of all classes / pixels.
        mean_accuracy: mean of `recall` over the classes that occur in the truth.
    """

    def __init__(self, matrix: npt.ArrayLike) -> None:
        self.matrix = np.asarray(matrix, np.int64)
        found = np.diag(self.matrix)
        self.pixels, predicted = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        absent = self.pixels + predicted == 0
        self.iou = _ratio(found, self.pixels + predicted - found, absent)
        self.f1 = _ratio(2 * found, self.pixels + predicted, absent)
        self.precision = _ratio(found, predicted, absent)
        self.recall = _ratio(found, self.pixels, absent)
        self.mean_iou = mean(self.iou)
        self.mean_f1 = mean(self.f1)
        self.mean_f1_foreground = mean(self.f1[1:])
        self.mean_accuracy = mean(self.recall[self.pixels > 0])
        total = self.matrix.sum()
        self.pixel_accuracy = float(found.sum() / total) if total else float("nan")

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """All figures, ready for JSON: nan becomes None.

        Args:
            names: `C` class names.

        Returns:
            dict: the means by name; `"classes"`: name -> its figures; `"confusion"`: the matrix as lists.
        """
        means = {name: as_json(getattr(self, name)) for name in _MEANS}
        classes = {
            name: {
                **{figure: as_json(getattr(self, figure)[index]) for figure in _FIGURES},
                "pixels": int(self.pixels[index]),
            }
            for index, name in enumerate(names)
        }
        return {**means, "classes": classes, "confusion": self.matrix.tolist()}

    def table(self, names: Sequence[str]) -> str:
        """Text: a row for each class, in percent, and the means below; `-` where there is no score.

        Args:
            names: `C` class names.
        """
        share = self.pixels / max(self.pixels.sum(), 1)
        columns = ("class", *_FIGURES, "of pixels")
        rows = [
            (name, *(percent(getattr(self, figure)[index]) for figure in _FIGURES), percent(share[index]))
            for index, name in enumerate(names)
        ]
        widths = [max(len(row[column]) for row in (columns, *rows)) for column in range(len(columns))]
        lines = [_line(row, widths) for row in (columns, *rows)]
        lines.insert(1, "-" * len(lines[0]))
        width = max(map(len, _MEANS.values()))
        means = [f"{text:<{width}}  {percent(getattr(self, name))}" for name, text in _MEANS.items()]
        return "\n".join([*lines, lines[1], *means])


def _ratio(part, whole, absent):
    """`part / whole`, 0 where the whole is 0, nan where the class is absent."""
    return np.where(absent, np.nan, part / np.maximum(whole, 1))


def mean(values: np.ndarray) -> float:
    """Mean of what is no nan; nan if that is nothing.

    Args:
        values: `[C]` float64.
    """
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def as_json(value: float) -> float | None:
    """A figure for JSON: nan becomes None."""
    return None if np.isnan(value) else float(value)


def percent(value: float) -> str:
    """A figure for a table; `-` for nan."""
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def _line(row, widths):
    return "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
