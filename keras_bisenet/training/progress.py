"""What a run remembers besides its weights: first and best evaluation, and the steps since the last line of its log."""

import numpy as np

from keras_bisenet.models.architecture import HEADS
from keras_bisenet.training import metrics

# `steps.csv` has a line for so many steps.
REPORT_EVERY = 20


class Progress:
    """The best evaluation, and how long ago it was.

    Args:
        num_classes: classes of the network.

    Attributes:
        start: mean IoU of the first weights; NaN if they were not evaluated.
        best_step: step of the best evaluation behind the start; 0 if there was none.
    """

    def __init__(self, num_classes):
        self.start = np.nan
        self.matrix, self.best_step, self.without_better = np.zeros((num_classes,) * 2, np.int64), 0, 0

    @property
    def scores(self):
        return metrics.Scores(self.matrix)

    def add(self, step, scores):
        """Remembers an evaluation; returns whether it is the best one so far."""
        better = not self.best_step or scores.mean_iou > self.scores.mean_iou
        if better:
            self.matrix, self.best_step = scores.matrix, step
        self.without_better = 0 if better else self.without_better + 1
        return better

    def state(self):
        best = {"best/matrix": self.matrix, "best/step": self.best_step, "best/without_better": self.without_better}
        return best | {"start/mean_iou": self.start}

    def restore(self, state):
        self.start = float(state["start/mean_iou"])
        self.matrix = state["best/matrix"]
        self.best_step, self.without_better = int(state["best/step"]), int(state["best/without_better"])


class Interval:
    """The losses and the time of the steps since the last line of `steps.csv`.

    The losses are part of the state: a run that is resumed between two lines writes the same ones. The time is that of
    the steps since it was resumed.
    """

    def __init__(self):
        self._losses, self._count, self._seconds = np.zeros((REPORT_EVERY, len(HEADS))), 0, []

    def add(self, losses, seconds):
        self._losses[self._count] = losses
        self._seconds.append(seconds)
        self._count += 1

    def take(self):
        """The mean losses of the heads `[3]` and the mean seconds; it begins anew."""
        losses, seconds = self._losses[: self._count].mean(axis=0), np.mean(self._seconds)
        self._count, self._seconds = 0, []
        return losses, seconds

    def state(self):
        return {"interval/losses": self._losses.copy(), "interval/count": self._count}

    def restore(self, state):
        self._losses, self._count = np.array(state["interval/losses"]), int(state["interval/count"])
