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
    """List of the `agreement` with PyTorch's labels, one a photo.

    Args:
        runner: name of a function of `runners`; `model`, `threads` and `options` are its arguments.
        inputs: path of the folder of `Inputs`.
    """
    inputs = Inputs.load(inputs)
    run = getattr(runners, runner)(model, threads, inputs, **options)
    return [agreement(run, np.array(photo), labels) for photo, labels in zip(inputs.photos, inputs.labels, strict=True)]


def agreement(run, photo, expected):
    """Part of the pixels of a photo that get the expected label, 0..1.

    Raises:
        ValueError: `run`, made by a function of `runners`, returns something else than labels like `expected`.
    """
    labels = run(photo)
    if labels.shape != expected.shape or labels.dtype.kind not in "iu":
        raise ValueError(f"expected whole numbers {expected.shape}, found {labels.dtype.name} {labels.shape}")
    return float((labels == expected).mean())


def measure(runner, model, threads, inputs, warmups, runs, options):
    """Milliseconds from the first photo to its labels, one a run; `warmups` come before. The rest: see `compare`."""
    inputs = Inputs.load(inputs)
    photo = np.array(inputs.photos[0])
    run = getattr(runners, runner)(model, threads, inputs, **options)
    return [1000 * seconds for seconds in processes.time_calls(lambda: run(photo), warmups, runs)]
