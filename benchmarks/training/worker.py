"""Child process: times training steps, or batches of the input pipeline."""

import functools
import itertools
import pathlib
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks.common import networks
from keras_bisenet.labels import LABELS
from keras_bisenet.utils import images

# Copies of the bundled photo that the input pipeline reads.
EXAMPLES = 16


def measure(candidate, size, batch_size, warmups, runs):
    """Times a candidate.

    Args:
        candidate: a key of `CANDIDATES`.
        size: side of the square crops.
        batch_size: crops of a batch.
        warmups, runs: steps before the clock counts, and steps that count.

    Returns:
        List of seconds, one a step.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as scratch:
        step = CANDIDATES[candidate](size, batch_size, pathlib.Path(scratch))
        for _ in range(warmups + runs):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
    return seconds[warmups:]


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
    from keras_bisenet.data.augmentation import Augmentation

    photo, labels = _labelled_photo()
    examples = []
    for number in range(EXAMPLES):
        example = folder.Example(str(number), scratch / f"{number}.jpg", scratch / f"{number}.png")
        Image.fromarray(photo).save(example.image, quality=95)
        Image.fromarray(labels).save(example.label)
        examples.append(example)
    stream = pipeline.batches(
        pipeline.Examples(examples, cache_bytes=cache_bytes),
        np.ones(EXAMPLES),
        (size, size),
        Augmentation(rotation=15.0),
        len(LABELS),
        batch_size,
        seed=0,
    )
    return functools.partial(next, iter(stream))


def _labelled_photo():
    """The bundled photo `[512, 512, 3]` uint8 RGB, and labels `[512, 512]` uint8 in bands, of every class."""
    photo = images.read(images.BUNDLED, (512, 512))
    rows = (np.arange(512)[:, np.newaxis] * len(LABELS) // 512).astype(np.uint8)
    return photo, np.broadcast_to(rows, photo.shape[:2])


def _batch(size, batch_size):
    """Crops of the photo, `[batch_size, size, size, 3]` uint8 RGB, and their labels."""
    photo, labels = _labelled_photo()
    corners = np.random.default_rng(0).integers(0, 512 - size, (batch_size, 2), endpoint=True)
    crops = [np.s_[top : top + size, left : left + size] for top, left in corners]
    return np.stack([photo[crop] for crop in crops]), np.stack([labels[crop] for crop in crops])


CANDIDATES = {
    "keras": keras_step,
    "torch": torch_step,
    "pipeline": pipeline_step,
    "pipeline_uncached": functools.partial(pipeline_step, cache_bytes=0),
}
