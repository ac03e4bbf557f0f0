"""The course of a run as a picture: loss and learning rate above, scores on the validation photos below."""

import csv

from matplotlib.figure import Figure


def save_curve(path, steps, evaluations):
    """Draws the logs of a run.

    Args:
        path: `.png` to write.
        steps, evaluations: paths of `steps.csv` and `evaluations.csv`, see `reports.Reports`.
    """
    steps, evaluations = _columns(steps), _columns(evaluations)
    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, scores = figure.subplots(2, 1, sharex=True)
    losses.plot(steps["step"], steps["loss"], color="tab:blue")
    losses.set_ylabel("loss, three heads", color="tab:blue")
    losses.set_ylim(bottom=0)
    rate = losses.twinx()
    rate.plot(steps["step"], steps["learning_rate"], color="tab:gray", linewidth=1)
    rate.set_ylabel("learning rate", color="tab:gray")
    for name, label in (("mean_iou", "mean IoU"), ("mean_f1", "mean F1"), ("pixel_accuracy", "pixel accuracy")):
        scores.plot(evaluations["step"], evaluations[name], marker="o", label=label)
    scores.set_xlabel("step")
    scores.set_ylabel("validation")
    # Above the axes: inside it would cover points.
    scores.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    scores.grid(alpha=0.3)
    figure.savefig(path, dpi=120, format="png")


def _columns(path):
    """Column -> list of floats."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}
