"""Child process: one turn of one contestant. Times photo -> labels, and compares the labels with PyTorch's."""

import importlib
import json
import pathlib
import time

import numpy as np

from benchmarks import jobs

# The parts of a run, in order, by the names of the runner's methods.
STAGES = ("prepare", "run", "labels")


def measure(runner, photo, warmups, runs):
    """Times a runner.

    Args:
        runner: see `benchmarks.runners`.
        photo: `[H, W, 3]` uint8 RGB.
        warmups: runs before the clock counts.
        runs: runs that count.

    Returns:
        Milliseconds `[runs, len(STAGES)]`, and the labels of the last run.

    Raises:
        ValueError: what the runner returns are no labels `[H, W]`.
    """
    clock = time.perf_counter
    milliseconds = []
    for _ in range(warmups + runs):
        start = clock()
        prepared = runner.prepare(photo)
        after_prepare = clock()
        outputs = runner.run(prepared)
        after_run = clock()
        labels = runner.labels(outputs)
        end = clock()
        milliseconds.append(np.diff([start, after_prepare, after_run, end]) * 1000)
    if labels.shape != photo.shape[:2] or labels.dtype.kind not in "iu":
        raise ValueError(f"expected whole numbers {photo.shape[:2]}, found {labels.dtype.name} {labels.shape}")
    return np.array(milliseconds[warmups:]), labels


def take_turn(runner, model, threads, inputs, warmups, runs, output, options):
    """Writes a JSON object: `total`: milliseconds of every run; one list for each of `STAGES`; `agreement`: 0..1.

    Args:
        runner: name of a module in `benchmarks.runners`.
        model: path of the contestant's file.
        threads: threads it may use.
        inputs: path of the file that `benchmarks.reference` wrote.
        warmups, runs: see `measure`.
        output: path of the JSON file.
        options: dict of keyword arguments for the runner.
    """
    module = importlib.import_module(f"benchmarks.runners.{runner}")
    with np.load(inputs) as file:
        inputs = dict(file)
    milliseconds, labels = measure(module.Runner(model, threads, inputs, **options), inputs["photo"], warmups, runs)
    turn = {stage: column.tolist() for stage, column in zip(STAGES, milliseconds.T, strict=True)}
    turn["total"] = milliseconds.sum(axis=1).tolist()
    turn["agreement"] = float((labels == inputs["labels"]).mean())
    pathlib.Path(output).write_text(json.dumps(turn), encoding="utf-8")


if __name__ == "__main__":
    jobs.answer(take_turn)
