"""What a run tells while it goes: CSV files, TensorBoard, its curve and pictures of predictions."""

import importlib.util

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from keras_bisenet.labels import IGNORE, PALETTE
from keras_bisenet.models.architecture import HEADS
from keras_bisenet.training.curve import save_curve
from keras_bisenet.utils.errors import TrainingError
from keras_bisenet.utils.painting import colorize

# How many validation photos the picture shows, each beside its labels and what was predicted.
PICTURED = 4
PICTURE_HEIGHT = 256
# Above each row, as high as this.
HEADINGS, HEADING_HEIGHT = ("photo", "labels", "predicted"), 24


class Reports:
    """Writes `steps.csv`, `evaluations.csv`, `curve.png`, `tensorboard/` and `predictions/`.

    Args:
        workdir: `Workdir`.
        step: the step from which the run continues.
        classes: `Classes` of the network.

    Raises:
        TrainingError: TensorBoard is not installed, or a log is damaged.
    """

    def __init__(self, workdir, step, classes):
        if importlib.util.find_spec("tensorboard") is None:
            raise TrainingError("a run writes logs for TensorBoard, which is missing: pip install tensorboard")
        self._workdir = workdir
        self._classes = classes
        self._steps = workdir.log("steps.csv", step)
        self._evaluations = workdir.log("evaluations.csv", step)
        with workdir.writing():
            self._tensorboard = tf.summary.create_file_writer(str(workdir.path / "tensorboard"))

    def step(self, step, losses, learning_rate, seconds):
        """Losses of the heads `[3]` and seconds a step, both averaged since the last time."""
        values = {"loss": float(sum(losses))}
        values |= {f"loss_{head}": float(loss) for head, loss in zip(HEADS, losses, strict=True)}
        values |= {"learning_rate": learning_rate, "seconds_per_step": seconds}
        self._steps.add({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        self._scalars(step, "train", values)

    def evaluation(self, step, scores, pictures):
        """`scores`: `metrics.Scores`; `pictures`: list of (photo, labels, predictions) of validation examples."""
        values = {name: getattr(scores, name) for name in ("mean_iou", "mean_f1", "pixel_accuracy")}
        values |= {f"iou_{name}": float(iou) for name, iou in zip(self._classes.names, scores.iou, strict=True)}
        self._evaluations.add({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        self._scalars(step, "evaluation", values)
        sheet = contact_sheet(pictures, self._classes.palette)
        if step:
            self._workdir.write("curve.png", lambda path: save_curve(path, self._steps.path, self._evaluations.path))
        self._workdir.write(f"predictions/step_{step:06d}.png", Image.fromarray(sheet).save)
        with self._workdir.writing(), self._tensorboard.as_default(step):
            tf.summary.image("evaluation/predictions", sheet[np.newaxis])
            self._tensorboard.flush()

    def _scalars(self, step, group, values):
        with self._workdir.writing(), self._tensorboard.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)


def contact_sheet(pictures, palette=PALETTE):
    """Rows of photo, labels and predictions under their headings, `[H, W, 3]` uint8 RGB.

    Pixels without a label are black in labels and predictions.

    Args:
        pictures: list of `[h, w, 3]` uint8 RGB, `[h, w]` labels and `[h, w]` predictions.
        palette: uint8 RGB of each class.
    """
    rows = []
    for photo, labels, predictions in pictures:
        unknown = (labels == IGNORE)[..., np.newaxis]
        parts = (
            photo,
            *(np.where(unknown, 0, colorize(part, palette)).astype(np.uint8) for part in (labels, predictions)),
        )
        row = np.concatenate(parts, axis=1)
        width = round(row.shape[1] * PICTURE_HEIGHT / row.shape[0])
        rows += [_headings(width), np.asarray(Image.fromarray(row).resize((width, PICTURE_HEIGHT)))]
    widest = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0))) for row in rows])


def _headings(width):
    """The headings of a row so many pixels wide, white on black."""
    band = Image.new("RGB", (width, HEADING_HEIGHT))
    draw, font = ImageDraw.Draw(band), ImageFont.load_default(HEADING_HEIGHT * 0.6)
    for number, heading in enumerate(HEADINGS):
        middle = (2 * number + 1) * width // (2 * len(HEADINGS)), HEADING_HEIGHT // 2
        draw.text(middle, heading, "white", font, anchor="mm")
    return np.asarray(band)
