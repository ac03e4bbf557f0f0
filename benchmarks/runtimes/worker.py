"""Child processes of the comparison: convert a checkpoint, compare a candidate's labels, time a candidate.

They run where only the candidate and its dependencies are installed, so what one of them needs is imported in it.
"""

import numpy as np

from benchmarks.common import processes
from benchmarks.runtimes import runners
from benchmarks.runtimes.inputs import Inputs


def convert(converter, checkpoint, inputs, output, options):
    """Converts the checkpoint at a path with a function of `converters`; `inputs`: path of the folder of `Inputs`."""
    from benchmarks.common import networks
    from benchmarks.runtimes import converters

    getattr(converters, converter)(*networks.read(checkpoint), Inputs.load(inputs), output, **options)


def compare(runner, model, threads, inputs, options):
    """List of the `agreement` with PyTorch's labels, one a photo; for the arguments see `_load`."""
    inputs, run = _load(runner, model, threads, inputs, options)
    return [agreement(run, np.array(photo), labels) for photo, labels in zip(inputs.photos, inputs.labels, strict=True)]


def agreement(run, photo, expected):
    """Part of the pixels of a photo that get the expected label, 0..1; `ValueError` if `run` returns no labels."""
    labels = run(photo)
    if labels.shape != expected.shape or labels.dtype.kind not in "iu":
        raise ValueError(f"expected whole numbers {expected.shape}, found {labels.dtype.name} {labels.shape}")
    return float((labels == expected).mean())


def measure(runner, model, threads, inputs, warmups, runs, options):
    """Milliseconds from the first photo to its labels, one a run; `warmups` come before. The rest: see `_load`."""
    inputs, run = _load(runner, model, threads, inputs, options)
    photo = np.array(inputs.photos[0])
    return [1000 * seconds for seconds in processes.time_calls(lambda: run(photo), warmups, runs)]


def _load(runner, model, threads, inputs, options):
    """The `Inputs` of a folder, and what the function `runner` of `runners` makes of them and its other arguments."""
    inputs = Inputs.load(inputs)
    return inputs, getattr(runners, runner)(model, threads, inputs, **options)
