"""Pictures of predicted labels."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from keras_bisenet.utils.painting import colorize


def save_preview(path, photo, reference, results, classes):
    """Draws a photo, its labels with a legend, and for each result where it differs from the reference.

    Args:
        path: `.png` to write.
        photo: `[H, W, 3]` uint8 RGB.
        reference: `[H, W]` labels of the PyTorch network.
        results: dict, name -> `[H, W]` labels; the first one's labels are drawn.
        classes: `Classes` of the network.
    """
    first, labels = next(iter(results.items()))
    height, width = labels.shape
    figure = Figure(figsize=(4 * (len(results) + 2), 4 * height / width + 0.8), layout="constrained")
    photo_axes, label_axes, *result_axes = figure.subplots(1, len(results) + 2)
    _show(photo_axes, photo, "photo")
    _show(label_axes, colorize(labels, classes.palette), f"labels ({first})")
    for axes, (name, other) in zip(result_axes, results.items(), strict=True):
        rows, columns = np.nonzero(other != reference)
        _show(axes, photo // 3, f"{name}: {rows.size} of {labels.size} pixels differ from PyTorch")
        # Dots wider than a pixel: a single one would not be seen.
        axes.plot(columns, rows, ".", color="red", markersize=2)
    present = np.unique(labels).tolist()
    figure.legend(
        handles=[
            Patch(facecolor=np.array(classes.palette[label]) / 255, edgecolor="gray", label=classes.names[label])
            for label in present
        ],
        loc="outside lower center",
        ncols=min(len(present), 10),
        fontsize=8,
    )
    figure.savefig(path, dpi=120, format="png")


def _show(axes, picture, title):
    axes.imshow(picture)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
