"""Times a training step beside PyTorch's, and the input pipeline by itself.

Each candidate runs in a process of its own, in interleaved rounds, on the same weights, crops and labels. A step is
forward, the losses of three heads with hard example mining, gradients, momentum and update. Writes TRAINING.md and
training.json. Exit status 0 only if every threshold holds.

Example:
  .venv/bin/python -m benchmarks.training.run --rounds 5
"""

import functools
import itertools
import pathlib
import tempfile

import numpy as np
from absl import flags
from PIL import Image

from benchmarks.common import experiment, networks, processes, reporting, statistics
from keras_bisenet import classes
from keras_bisenet.labels import LABELS
from keras_bisenet.utils import images

# Largest time of a step of the first, over that of the second.
AT_MOST = {("keras", "torch"): 0.90, ("pipeline", "keras"): 1 / 3, ("pipeline_uncached", "keras"): 1 / 3}
# Examples that the input pipeline reads, each of the bundled photo.
EXAMPLES = 16


def define_flags():
    flags.DEFINE_integer("rounds", 5, "Processes that time each candidate.", lower_bound=1)
    flags.DEFINE_integer("steps", 8, "Steps of a process that count.", lower_bound=1)
    flags.DEFINE_integer("size", 256, "Side of the crops.", lower_bound=32, upper_bound=512)
    flags.DEFINE_integer("batch_size", 8, "Crops of a batch.", lower_bound=1)


def measure(options):
    """Times the candidates; `seconds` is candidate -> median step of each round."""
    shared = {"size": options.size, "batch_size": options.batch_size}

    def median(candidate):
        quick = candidate.startswith("pipeline")
        counts = {"warmups": 10 if quick else 3, "runs": (5 if quick else 1) * options.steps}
        arguments = {"candidate": candidate, **shared, **counts}
        return statistics.median(processes.call("benchmarks.training.run:time_steps", arguments)[0])

    return {**shared, "seconds": processes.alternate(CANDIDATES, options.rounds, median)}


def time_steps(candidate, size, batch_size, warmups, runs):
    """Child process: seconds of each step of a key of `CANDIDATES`, on batches of square crops of side `size`."""
    _, make = CANDIDATES[candidate]
    with tempfile.TemporaryDirectory() as scratch:
        return processes.time_calls(make(size, batch_size, pathlib.Path(scratch)), warmups, runs)


def keras_step(size, batch_size, _scratch):
    """One step of `keras_bisenet.training`, from uint8 photos to changed weights."""
    from keras_bisenet.training import configs, trainer

    batches = itertools.repeat(_batch(size, batch_size))
    native = trainer.Trainer(networks.in_keras(*networks.load()), configs.ORIGINAL)
    return lambda: native.step(batches)


def torch_step(size, batch_size, _scratch):
    """The same step in PyTorch, eager and channels-last, from normalized photos."""
    import torch
    from keras import ops

    from keras_bisenet import normalize
    from weight_port.reference import torch_network, torch_training

    network = torch_network.Reference(*networks.load()).network
    reference = torch_training.TorchTrainer(network.to(memory_format=torch.channels_last))
    photos, labels = _batch(size, batch_size)
    photos = ops.convert_to_numpy(normalize(photos))
    return lambda: reference.step(photos, labels)


def pipeline_step(size, batch_size, scratch, cache_bytes=2**31):
    """One batch of the input pipeline, with every augmentation; without a cache each example is decoded anew."""
    from keras_bisenet.data import folder, pipeline
    from keras_bisenet.training.configs import Augmentation

    files = scratch / "photo.jpg", scratch / "labels.png"
    for array, file in zip(_labeled_photo(), files, strict=True):
        Image.fromarray(array).save(file, quality=95)
    examples = [folder.Example(str(number), *files) for number in range(EXAMPLES)]
    settings = {"augmentation": Augmentation(rotation=15.0), "classes": classes.FACE, "batch_size": batch_size}
    cached = pipeline.Examples(examples, cache_bytes=cache_bytes)
    stream = pipeline.batches(cached, np.ones(EXAMPLES), (size, size), **settings, seed=0)
    return functools.partial(next, iter(stream))


def _labeled_photo():
    """The bundled photo `[512, 512, 3]` uint8 RGB, and labels `[512, 512]` uint8 in bands, of every class."""
    photo = images.read(images.BUNDLED, (512, 512))
    rows = (np.arange(512)[:, np.newaxis] * len(LABELS) // 512).astype(np.uint8)
    return photo, np.broadcast_to(rows, photo.shape[:2])


def _batch(size, batch_size):
    """Crops of the photo, `[batch_size, size, size, 3]` uint8 RGB, and their labels."""
    photo, labels = _labeled_photo()
    corners = np.random.default_rng(0).integers(0, 512 - size, (batch_size, 2), endpoint=True)
    crops = [np.s_[top : top + size, left : left + size] for top, left in corners]
    return np.stack([photo[crop] for crop in crops]), np.stack([labels[crop] for crop in crops])


# Name -> title, and what makes the step that is timed.
CANDIDATES = {
    "keras": ("this project, a training step", keras_step),
    "torch": ("PyTorch, eager, channels-last", torch_step),
    "pipeline": ("input pipeline, examples in memory", pipeline_step),
    "pipeline_uncached": ("input pipeline, examples decoded anew", functools.partial(pipeline_step, cache_bytes=0)),
}


def _checks(results):
    for (ours, other), limit in AT_MOST.items():
        ratio = statistics.ratio(results["seconds"][ours], results["seconds"][other])
        text = f"{CANDIDATES[ours][0]} / {CANDIDATES[other][0]}: {ratio.text(3)}"
        yield reporting.threshold(text, f"required is at most {limit:.2f}", ratio.median <= limit)


def _body(results):
    size, batch_size = results["size"], results["batch_size"]
    a_crop = {name: [seconds / batch_size for seconds in found] for name, found in results["seconds"].items()}
    rows = [(title, statistics.spread(a_crop[name]).text(4)) for name, (title, _) in CANDIDATES.items()]
    yield reporting.table((f"{size}x{size}, batch of {batch_size}, float32", "seconds a crop"), rows)


PACKAGES = "keras", "tensorflow", "torch"
REPORT = reporting.Report("How fast it trains", _body, _checks, reporting.ROUNDS, packages=PACKAGES)

if __name__ == "__main__":
    experiment.main(__file__, "TRAINING.md", define_flags, measure, REPORT)
