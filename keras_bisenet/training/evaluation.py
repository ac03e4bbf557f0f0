"""Compares predicted labels with labeled photos."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_bisenet.data import folder
from keras_bisenet.training import boundaries, metrics
from keras_bisenet.utils import images

# Bootstrap samples of the photos, and the percentiles of their figures that make an interval of 95 %.
DRAWS = 1000
INTERVAL = 2.5, 97.5
_TITLES = ("mean IoU", "mean F1", "mean boundary F1")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What was counted on each photo.

    Attributes:
        matrices: `[N, C, C]` int64, see `metrics.confusion`.
        borders: `[N, C, 4]` int64, see `boundaries.count`.
    """

    matrices: np.ndarray
    borders: np.ndarray

    @property
    def scores(self) -> metrics.Scores:
        """`metrics.Scores` over the pixels of all photos."""
        return metrics.Scores(self.matrices.sum(axis=0))

    @property
    def boundary_f1(self) -> np.ndarray:
        """`[C]` float64, see `boundaries.f1`; over the borders of all photos."""
        return boundaries.f1(self.borders.sum(axis=0))

    def means(self, photos: Any = slice(None)) -> dict[str, float]:
        """Mean IoU, mean F1 and mean boundary F1 over the classes.

        Args:
            photos: numbers of the photos to count; one that is there twice counts twice.

        Returns:
            dict: `mean_iou`, `mean_f1` and `mean_boundary_f1`, 0..1 or nan.
        """
        scores = metrics.Scores(self.matrices[photos].sum(axis=0))
        boundary = metrics.mean(boundaries.f1(self.borders[photos].sum(axis=0)))
        return {"mean_iou": scores.mean_iou, "mean_f1": scores.mean_f1, "mean_boundary_f1": boundary}

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % bootstrap interval of each mean: how far it would move with other photos of the same kind.

        Percentile method (Efron, 1979): photos are drawn with replacement, always the same ones.

        Returns:
            dict like `means`, of pairs (low, high).
        """
        random, count = np.random.default_rng(0), len(self.matrices)
        draws = [self.means(random.integers(count, size=count)) for _ in range(DRAWS)]
        return {
            name: (float(low), float(high))
            for name in draws[0]
            for low, high in [np.nanpercentile([draw[name] for draw in draws], INTERVAL)]
        }

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """All figures, ready for JSON: `metrics.Scores.as_dict`, with borders and intervals.

        Args:
            names: `C` class names.

        Returns:
            dict: that of the scores; `boundary_f1` of each class too, `mean_boundary_f1`, and `intervals`: name of a
            mean -> [low, high].
        """
        figures = self.scores.as_dict(names)
        for name, score in zip(names, self.boundary_f1, strict=True):
            figures["classes"][name]["boundary_f1"] = metrics.as_json(score)
        figures["mean_boundary_f1"] = metrics.as_json(self.means()["mean_boundary_f1"])
        figures["intervals"] = {
            name: [metrics.as_json(edge) for edge in edges] for name, edges in self.intervals.items()
        }
        return figures

    def table(self, names: Sequence[str]) -> str:
        """Text: `metrics.Scores.table`, and the means with their intervals below.

        Args:
            names: `C` class names.
        """
        intervals = self.intervals
        lines = [
            f"{title:<22}  {metrics.percent(value)}  ({' to '.join(map(metrics.percent, intervals[name]))})"
            for (name, value), title in zip(self.means().items(), _TITLES, strict=True)
        ]
        heading = f"\nover {len(self.matrices)} photos, in brackets the 95 % interval:"
        return "\n".join([self.scores.table(names), heading, *lines])


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray], examples: Iterable[folder.Example], num_classes: int
) -> Evaluation:
    """Runs a predictor over labeled photos, one after another.

    Args:
        predict: called with a photo, `[H, W, 3]` uint8 RGB, gives its labels `[H, W]`, integers.
        examples: `folder.Example`s that `folder.check` found good; any iterable, a progress bar for one.
        num_classes: classes of the network.

    Returns:
        `Evaluation`, at the size of each photo.

    Raises:
        DataError, ImageError: a file has gone or cannot be read.
        ValueError: a label or a prediction is none of these classes, or a prediction has another size.
    """
    matrices, borders = [], []
    for example in examples:
        labels, predictions = folder.read_label(example.label), predict(images.read(example.image))
        matrices.append(metrics.confusion(labels, predictions, num_classes))
        borders.append(boundaries.count(labels, predictions, num_classes))
    return Evaluation(np.stack(matrices), np.stack(borders))
