"""Child processes of the comparison: convert a checkpoint, compare a candidate's labels, time a candidate.

They run where only the candidate and its dependencies are installed, so what one of them needs is imported in it.
"""

import time

import numpy as np

from benchmarks.runtimes import runners
from benchmarks.runtimes.inputs import Inputs


def convert(converter, checkpoint, inputs, output, options):
    """Converts a checkpoint.

    Args:
        converter: name of a function of `converters`.
        checkpoint: path of a `.pth`, `.pt` or `.safetensors` file.
        inputs: path of the folder that `inputs.write` wrote.
        output: path of the file.
        options: dict of keyword arguments for the converter.
    """
    import weight_port
    from benchmarks.runtimes import converters

    state = weight_port.load(checkpoint)
    function = getattr(converters, converter)
    function(state, weight_port.recognise(state), Inputs.load(inputs), output, **options)


def compare(runner, model, threads, inputs, options):
    """Compares the labels of every photo with PyTorch's.

    Args:
        runner: name of a function of `runners`.
        model: path of the candidate's file.
        threads: threads it may use.
        inputs: path of the folder that `inputs.write` wrote.
        options: dict of keyword arguments for the runner.

    Returns:
        List of a number a photo: the part of its pixels that get the label of PyTorch, 0..1.
    """
    inputs = Inputs.load(inputs)
    run = getattr(runners, runner)(model, threads, inputs, **options)
    return [agreement(run, np.array(photo), labels) for photo, labels in zip(inputs.photos, inputs.labels, strict=True)]


def agreement(run, photo, expected):
    """Part of the pixels of a photo that get the expected label, 0..1.

    Args:
        run: what a function of `runners` returned.
        photo: `[H, W, 3]` uint8 RGB.
        expected: `[H, W]` labels.

    Raises:
        ValueError: the runner returns something else than labels `[H, W]`.
    """
    labels = run(photo)
    if labels.shape != expected.shape or labels.dtype.kind not in "iu":
        raise ValueError(f"expected whole numbers {expected.shape}, found {labels.dtype.name} {labels.shape}")
    return float((labels == expected).mean())


def measure(runner, model, threads, inputs, warmups, runs, options):
    """Times the way of the first photo to its labels.

    Args:
        runner, model, threads, inputs, options: see `compare`.
        warmups: runs before the clock counts.
        runs: runs that count.

    Returns:
        List of milliseconds, one a run.
    """
    inputs = Inputs.load(inputs)
    photo = np.array(inputs.photos[0])
    run = getattr(runners, runner)(model, threads, inputs, **options)
    milliseconds = []
    for _ in range(warmups + runs):
        start = time.perf_counter()
        run(photo)
        milliseconds.append((time.perf_counter() - start) * 1000)
    return milliseconds[warmups:]
