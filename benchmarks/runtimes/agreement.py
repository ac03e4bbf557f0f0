"""Child process: compares the labels of one contestant with PyTorch's, on every photo."""

import importlib
import json
import pathlib

import numpy as np

from benchmarks.common import worker as jobs
from benchmarks.runtimes.inputs import Inputs


def agreement(runner, photo, expected):
    """Runs a photo.

    Args:
        runner: see `benchmarks.runtimes.runners`.
        photo: `[H, W, 3]` uint8 RGB.
        expected: `[H, W]` labels.

    Returns:
        Part of the pixels that get the expected label, 0..1.

    Raises:
        ValueError: what the runner returns are no labels `[H, W]`.
    """
    labels = runner.labels(runner.run(runner.prepare(photo)))
    if labels.shape != expected.shape or labels.dtype.kind not in "iu":
        raise ValueError(f"expected whole numbers {expected.shape}, found {labels.dtype.name} {labels.shape}")
    return float((labels == expected).mean())


def compare(runner, model, threads, inputs, output, options):
    """Writes a JSON list: `agreement` of each photo.

    Args:
        runner, model, threads, inputs, output, options: see `benchmarks.runtimes.measure.take_turn`.
    """
    module = importlib.import_module(f"benchmarks.runtimes.runners.{runner}")
    inputs = Inputs.load(inputs)
    started = module.Runner(model, threads, inputs, **options)
    pairs = zip(inputs.photos, inputs.labels, strict=True)
    agreements = [agreement(started, np.array(photo), labels) for photo, labels in pairs]
    pathlib.Path(output).write_text(json.dumps(agreements), encoding="utf-8")


if __name__ == "__main__":
    jobs.answer(compare)
