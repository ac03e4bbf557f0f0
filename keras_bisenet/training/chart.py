"""Draws how well a network does."""

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

_GREEN, _GREY = "#1b7f5c", "#6b7480"


def save_chart(path, scores, names, title):
    """Draws the confusion matrix, each row in percent of its class, and beside each row the IoU of its class.

    Args:
        path: `.png` to write.
        scores: `metrics.Scores`.
        names: names of the classes.
        title: what was evaluated, in words.
    """
    columns = max(len(names), 8)  # fewer leave no room for the titles
    figure = Figure(figsize=(6 + 0.42 * columns, 2.2 + 0.34 * len(names)), layout="constrained")
    figure.suptitle(title, fontweight="bold")
    matrix_axes, bar_axes = figure.subplots(1, 2, sharey=True, width_ratios=(columns, 8))
    _draw_matrix(matrix_axes, scores, names)
    _draw_bars(bar_axes, scores)
    figure.savefig(path, dpi=120, format="png")


def _draw_matrix(axes, scores, names):
    pixels = scores.pixels[:, np.newaxis]
    percent = np.where(pixels > 0, 100 * scores.matrix / np.maximum(pixels, 1), np.nan)
    found = np.eye(len(names), dtype=bool)
    # Two scales: what was taken for another class would be lost beside what was found.
    for cells, colors in ((found, "Greens"), (~found, "Oranges")):
        shown = np.where(cells & (percent >= 0.05), percent, np.nan)
        axes.imshow(shown, colors, norm=PowerNorm(0.5, 0, 130), aspect="auto")
    for row, column in np.argwhere((percent >= 0.5) | (found & (pixels > 0))):
        value = percent[row, column]
        color = "white" if value > 60 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted as")
    axes.set_ylabel("truth")
    axes.set_title("pixels of each class, % of the row", loc="left", fontsize=10)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6e9ec", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def _draw_bars(axes, scores):
    percent = 100 * scores.iou
    axes.barh(range(len(percent)), np.nan_to_num(percent), color=_GREEN, height=0.7)
    for row, value in enumerate(percent):
        text = "absent" if np.isnan(value) else f"{value:.1f}"
        axes.annotate(
            text,
            (np.nan_to_num(value), row),
            (5, 0),
            va="center",
            textcoords="offset points",
            fontsize=8,
            # Over the line.
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    mean = 100 * scores.mean_iou
    axes.axvline(mean, color=_GREY, linestyle="--", linewidth=1, zorder=0)
    axes.set_title(f"IoU, %; the line is their mean, {mean:.1f}", loc="left", fontsize=10)
    axes.set_xlim(0, 115)
    axes.set_xticks(range(0, 101, 20))
    axes.tick_params(axis="y", which="both", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
