"""Writes TRAINING_PARITY.md and draws its curves from the results alone."""

from matplotlib.figure import Figure

# What is compared: the reference, and what is measured against it.
PAIRS = {
    "float64": ("PyTorch, float64", "Keras, float64"),
    "float32": ("PyTorch, float32", "Keras, float32"),
    "rounding of PyTorch": ("PyTorch, float64", "PyTorch, float32"),
    "rounding of Keras": ("PyTorch, float64", "Keras, float32"),
}
# Title, colour and line of each curve.
CURVES = {
    "float64": ("Keras from PyTorch, float64", "#1b7f5c", "-"),
    "float32": ("Keras from PyTorch, float32", "#c2571a", "-"),
    "rounding of PyTorch": ("PyTorch float32 from PyTorch float64", "#5b6b7d", ":"),
    "rounding of Keras": ("Keras float32 from PyTorch float64", "#5b6b7d", "--"),
}
LIMITS = {"float64": 1e-6, "float32": 1e-2}
FIGURES = ("losses", "weights", "statistics")

_READING = """\
Each figure is max |difference| / max |PyTorch's|, the largest of the three losses, of all kernels, weights and biases,
or of all batch-norm statistics, after the step. *Path* is another view of the weights: the length of their difference,
over the distance that training has moved them so far. float64 leaves nothing but rounding, so it tells whether both
compute the same. In float32 rounding grows from step to step, and by leaps where a value next to zero falls on the
other side of a ReLU or a pixel on the other side of OHEM's limit. How much of it is PyTorch's own is in the last
columns: its float32 run, and ours, from its float64 run. Most of ours begins in TensorFlow's fused batch norm."""


def verdicts(results):
    """Says of every limit whether it holds.

    Args:
        results: see `markdown`.

    Returns:
        list of (sentence, whether it holds).
    """
    steps = results["steps"]
    largest = max(step["float64"][figure] for step in steps for figure in FIGURES)
    last = max(steps[-1]["float32"][figure] for figure in FIGURES)
    said = [
        (f"float64: at most {largest:.1e} at any step, allowed is {LIMITS['float64']:g}", largest <= LIMITS["float64"]),
        (f"float32: {last:.1e} at step {len(steps)}, allowed is {LIMITS['float32']:g}", last <= LIMITS["float32"]),
    ]
    return [(f"{sentence}: {'holds' if holds else 'DOES NOT HOLD'}", holds) for sentence, holds in said]


def markdown(results, picture):
    """The text of TRAINING_PARITY.md.

    Args:
        results: dict: `command`, `date`, `machine` (`machine.describe`), `versions` (package -> version), `batch`,
            `side`, `schedule` (fields of `TrainConfig`), `steps`: list of dicts with `losses` and `hard` (share of hard
            pixels) of each head, and for each of `PAIRS` what `training_parity_experiment.difference` returns.
        picture: name of the file that `draw` has made.
    """
    head = ["step", "loss", *(f"{pair}: {name}" for pair in LIMITS for name in (*FIGURES, "path"))]
    head += [f"{pair}: weights" for pair in PAIRS if pair not in LIMITS]
    lines = [head, ["---:"] * len(head)]
    for number, step in enumerate(results["steps"], 1):
        cells = [str(number), f"{sum(step['losses']):.3f}"]
        cells += [f"{step[pair][name]:.1e}" for pair in LIMITS for name in (*FIGURES, "path")]
        lines.append(cells + [f"{step[pair]['weights']:.1e}" for pair in PAIRS if pair not in LIMITS])
    hard = [share for step in results["steps"] for share in step["hard"]]
    computer, side = results["machine"], results["side"]
    schedule = ", ".join(f"{name} {value:g}" for name, value in results["schedule"].items())
    return "\n".join(
        [
            "# Training in Keras and in PyTorch, step by step",
            "",
            "Written by the command below; not edited by hand.",
            "",
            f"![Relative difference over {len(results['steps'])} steps]({picture})",
            "",
            *[f"- {sentence}" for sentence, _ in verdicts(results)],
            "",
            *["| " + " | ".join(line) + " |" for line in lines],
            "",
            "## How to read it",
            "",
            _READING,
            "",
            "## How it was measured",
            "",
            f"- command: `{results['command']}`",
            f"- date: {results['date']}",
            f"- {results['batch']} crops of {side}x{side} pixels a step, of the bundled photo; labels from the default "
            f"checkpoint, a tenth of them changed at random; {min(hard):.0%} to {max(hard):.0%} of the pixels are hard",
            f"- schedule: {schedule}; all else as in the recipe `original`",
            f"- CPU: {computer['cpu']}; system: {computer['system']}, Python {computer['python']}",
            f"- packages: {', '.join(f'{name} {version}' for name, version in results['versions'].items())}",
            "",
        ]
    )


def draw(results, path):
    """Draws the differences of losses and of weights over the steps.

    Args:
        results: see `markdown`.
        path: `.png` to write.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    numbers = range(1, len(results["steps"]) + 1)
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("losses", "weights"), strict=True):
        for pair, (title, color, line) in CURVES.items():
            # Nothing at all has no place on a logarithmic axis.
            values = [max(step[pair][name], 1e-17) for step in results["steps"]]
            axes.semilogy(numbers, values, line, color=color, label=title)
        for pair, limit in LIMITS.items():
            axes.axhline(limit, color=CURVES[pair][1], linewidth=0.8, alpha=0.6)
            place = {"textcoords": "offset points", "xytext": (0, 3), "ha": "right", "fontsize": 8}
            axes.annotate(f"limit for {pair}", (numbers[-1], limit), **place)
        axes.set_title(name, loc="left", fontweight="bold")
        axes.set_xlabel("step")
        axes.set_xticks([1, *range(5, len(results["steps"]) + 1, 5)])
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("relative difference")
    handles, titles = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=120, format="png")
