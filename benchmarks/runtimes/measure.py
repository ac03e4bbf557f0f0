"""Child process: one turn of one contestant. Times photo -> labels."""

import importlib
import json
import pathlib
import time

import numpy as np

from benchmarks.common import worker as jobs
from benchmarks.runtimes.inputs import Inputs

# The parts of a run, in order, by the names of the runner's methods.
STAGES = ("prepare", "run", "labels")


def measure(runner, photo, warmups, runs):
    """Times a runner.

    Args:
        runner: see `benchmarks.runtimes.runners`.
        photo: `[H, W, 3]` uint8 RGB.
        warmups: runs before the clock counts.
        runs: runs that count.

    Returns:
        Milliseconds `[runs, len(STAGES)]`.
    """
    clock = time.perf_counter
    milliseconds = []
    for _ in range(warmups + runs):
        start = clock()
        prepared = runner.prepare(photo)
        after_prepare = clock()
        outputs = runner.run(prepared)
        after_run = clock()
        runner.labels(outputs)
        end = clock()
        milliseconds.append(np.diff([start, after_prepare, after_run, end]) * 1000)
    return np.array(milliseconds[warmups:])


def take_turn(runner, model, threads, inputs, warmups, runs, output, options):
    """Writes a JSON object: `total`: milliseconds of every run on the first photo; one list for each of `STAGES`.

    Args:
        runner: name of a module in `benchmarks.runtimes.runners`.
        model: path of the contestant's file.
        threads: threads it may use.
        inputs: path of the folder that `benchmarks.runtimes.reference` wrote.
        warmups, runs: see `measure`.
        output: path of the JSON file.
        options: dict of keyword arguments for the runner.
    """
    module = importlib.import_module(f"benchmarks.runtimes.runners.{runner}")
    inputs = Inputs.load(inputs)
    photo = np.array(inputs.photos[0])
    milliseconds = measure(module.Runner(model, threads, inputs, **options), photo, warmups, runs)
    turn = {stage: column.tolist() for stage, column in zip(STAGES, milliseconds.T, strict=True)}
    turn["total"] = milliseconds.sum(axis=1).tolist()
    pathlib.Path(output).write_text(json.dumps(turn), encoding="utf-8")


if __name__ == "__main__":
    jobs.answer(take_turn)
