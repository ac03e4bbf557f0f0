"""Trains the same network on the same batches in Keras and in PyTorch, and shows how far the two drift apart.

Both take 20 steps of the original recipe (three heads, OHEM, SGD with momentum, weight decay on kernels, ten times the
rate behind the context path) from the default checkpoint, in float64 and in float32. Writes TRAINING_PARITY.md,
training_parity.json and training_parity.png. Exit status 0 only if every threshold holds.

Example:
  .venv/bin/python -m benchmarks.training.run_parity
"""

import dataclasses

from absl import flags

from benchmarks.common import experiment, networks, reporting

BATCH, SIDE = 4, 128
# A tenth of the original's rate, with warm-up, full rate and decay within the steps.
SCHEDULE = {"learning_rate": 1e-3, "steps": 40, "warmup_steps": 5, "warmup_start": 1e-4}
# Name of a comparison -> the reference, and what is compared with it.
PAIRS = {
    "float64": ("PyTorch, float64", "Keras, float64"),
    "float32": ("PyTorch, float32", "Keras, float32"),
    "rounding of PyTorch": ("PyTorch, float64", "PyTorch, float32"),
    "rounding of Keras": ("PyTorch, float64", "Keras, float32"),
}
# Largest accepted difference, in float64 at every step, in float32 at the last.
AT_MOST = {"float64": 1e-6, "float32": 1e-2}
VALUES = ("losses", "weights", "statistics")

_READING = """\
Each number is max |difference| / max |PyTorch's|, the largest of the three losses, of all kernels, weights and biases,
or of all batch-norm statistics, after the step. *Path* is another view of the weights: the length of their difference,
over the distance that training has moved them so far. In float64 only rounding remains, so it shows whether both
compute the same. In float32 rounding grows from step to step, and by leaps where a value next to zero falls on the
other side of a ReLU or a pixel on the other side of OHEM's threshold. The last columns show how much of it is PyTorch's
own: its float32 run, and ours, from its float64 run. Most of ours begins in TensorFlow's fused batch norm."""


def define_flags():
    flags.DEFINE_integer("steps", 20, "Training steps.", lower_bound=1)


def measure(options):
    """Trains both in both precisions."""
    import numpy as np
    from tqdm import tqdm

    from benchmarks.training import parity
    from keras_bisenet import normalize
    from keras_bisenet.training import configs
    from keras_bisenet.utils import images
    from weight_port.reference import torch_network

    state, architecture = networks.load()
    photo = images.read(images.BUNDLED)
    logits = torch_network.Reference(state, architecture)(np.array(normalize(photo[np.newaxis])))[0]
    labels = logits[0].argmax(-1).astype(np.uint8)
    config = dataclasses.replace(configs.ORIGINAL, num_classes=architecture.num_classes, **SCHEDULE)
    runs = {
        f"{name}, {precision}": make(state, dataclasses.replace(config, precision=precision))
        for precision in ("float64", "float32")
        for name, make in (("PyTorch", parity.TorchRun), ("Keras", parity.KerasRun))
    }
    steps = []
    batches = parity.batches(photo, labels, architecture.num_classes, options.steps, BATCH, SIDE)
    for batch in tqdm(batches, "steps", options.steps):
        after = {name: make_step(*batch) for name, make_step in runs.items()}
        step = {"losses": after["PyTorch, float64"][0].tolist(), "hard": runs["PyTorch, float64"].trainer.hard}
        for pair, (reference, result) in PAIRS.items():
            step[pair] = parity.difference(state, after[reference], after[result])
        steps.append(step)
    return {"batch": BATCH, "side": SIDE, "schedule": SCHEDULE, "steps": steps}


def _checks(results):
    steps = results["steps"]
    largest = max(step["float64"][value] for step in steps for value in VALUES)
    last = max(steps[-1]["float32"][value] for value in VALUES)
    at_any, at_end = AT_MOST["float64"], AT_MOST["float32"]
    yield reporting.Check(f"float64: {largest:.1e} at most, accepted is {at_any:g} at any step", largest <= at_any)
    yield reporting.Check(f"float32: {last:.1e} at step {len(steps)}, accepted is {at_end:g}", last <= at_end)


def _body(results):
    columns = [(pair, value) for pair in AT_MOST for value in (*VALUES, "path")]
    columns += [(pair, "weights") for pair in PAIRS if pair not in AT_MOST]
    rows = []
    for number, step in enumerate(results["steps"], 1):
        differences = (f"{step[pair][value]:.1e}" for pair, value in columns)
        rows.append((str(number), f"{sum(step['losses']):.3f}", *differences))
    yield reporting.table(("step", "loss", *(f"{pair}: {value}" for pair, value in columns)), rows)


def _conditions(results):
    hard, side = [share for step in results["steps"] for share in step["hard"]], results["side"]
    yield (
        f"{results['batch']} crops of {side}x{side} pixels a step, of the bundled photo; labels from the default "
        f"checkpoint, a tenth of them changed at random; {min(hard):.0%} to {max(hard):.0%} of the pixels are hard"
    )
    schedule = ", ".join(f"{name} {value:g}" for name, value in results["schedule"].items())
    yield f"schedule: {schedule}; all else as in the recipe `original`"


def _draw(results):
    from benchmarks.common import plots

    styles = (plots.OURS, "-"), (plots.THRESHOLD, "-"), (plots.MUTED, ":"), (plots.MUTED, "--")
    curves = dict(zip(PAIRS, styles, strict=True))
    figure = plots.figure(4.5)
    numbers = range(1, len(results["steps"]) + 1)
    for axes, value in zip(figure.subplots(1, 2, sharey=True), ("losses", "weights"), strict=True):
        for pair, (color, line) in curves.items():
            # A difference of 0 has no place on a logarithmic axis.
            values = [max(step[pair][value], 1e-17) for step in results["steps"]]
            reference, result = PAIRS[pair]
            axes.semilogy(numbers, values, line, color=color, label=f"{result} from {reference}")
        for pair, limit in AT_MOST.items():
            plots.threshold(axes, numbers[-1], limit, f"threshold for {pair}", curves[pair][0])
        plots.tidy(axes, value)
        axes.set_xlabel("step")
        axes.set_xticks([1, *range(5, len(results["steps"]) + 1, 5)])
    figure.axes[0].set_ylabel("relative difference")
    handles, titles = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


TITLE = "Training in Keras and in PyTorch, step by step"
PACKAGES = "keras", "tensorflow", "torch"
REPORT = reporting.Report(TITLE, _body, _checks, _READING, _conditions, PACKAGES, _draw)

if __name__ == "__main__":
    experiment.main(__file__, "TRAINING_PARITY.md", define_flags, measure, REPORT)
