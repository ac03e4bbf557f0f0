"""Child process: one turn of one contestant of `benchmarks.training.run`. Times training steps, or batches."""

import atexit
import functools
import itertools
import json
import pathlib
import shutil
import tempfile
import time

import numpy as np
from PIL import Image

import weight_port
from benchmarks.common import worker as jobs
from benchmarks.common.processes import ROOT
from keras_bisenet.labels import LABELS
from keras_bisenet.utils import images
from weight_port import manifest

MANIFEST = ROOT / "checkpoints" / "manifest.json"
# Copies of the bundled photo that the input pipeline reads.
EXAMPLES = 16


def take_turn(contestant, size, batch_size, warmups, runs, output):
    """Writes a JSON list: seconds of every step.

    Args:
        contestant: a key of `CONTESTANTS`.
        size: side of the square crops.
        batch_size: crops of a batch.
        warmups, runs: steps before the clock counts, and steps that count.
        output: path of the JSON file.
    """
    step = CONTESTANTS[contestant](size, batch_size)
    seconds = []
    for _ in range(warmups + runs):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    pathlib.Path(output).write_text(json.dumps(seconds[warmups:]), encoding="utf-8")


def keras_step(size, batch_size):
    """One step of `keras_bisenet.training`, from uint8 photos to changed weights."""
    import keras_bisenet
    from keras_bisenet.training import configs, trainer

    state, architecture = _checkpoint()
    model = keras_bisenet.BiSeNet()
    weight_port.apply(state, model.variables, architecture)
    batches = itertools.repeat(_batch(size, batch_size))
    native = trainer.Trainer(model, configs.ORIGINAL)
    return lambda: native.step(batches)


def torch_step(size, batch_size):
    """The same step in PyTorch, eager and channels-last, from normalised photos."""
    import torch
    from keras import ops

    from keras_bisenet import normalize
    from weight_port.reference import torch_network, torch_training

    state, architecture = _checkpoint()
    network = torch_network.Reference(state, architecture).network
    reference = torch_training.TorchTrainer(network.to(memory_format=torch.channels_last))
    photos, labels = _batch(size, batch_size)
    photos = ops.convert_to_numpy(normalize(photos))
    return lambda: reference.step(photos, labels)


def pipeline_step(size, batch_size, cache_bytes=2**31):
    """One batch of the input pipeline, with every augmentation; with no cache each example is read and decoded anew."""
    from keras_bisenet.data import folder, pipeline
    from keras_bisenet.data.augmentation import Augmentation

    scratch = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, scratch)
    photo, labels = _labelled_photo()
    examples = []
    for number in range(EXAMPLES):
        example = folder.Example(str(number), scratch / f"{number}.jpg", scratch / f"{number}.png")
        Image.fromarray(photo).save(example.image, quality=95)
        Image.fromarray(labels).save(example.label)
        examples.append(example)
    stream = iter(
        pipeline.batches(
            pipeline.Examples(examples, cache_bytes=cache_bytes),
            np.ones(EXAMPLES),
            (size, size),
            Augmentation(rotation=15.0),
            len(LABELS),
            batch_size,
            seed=0,
        )
    )
    return lambda: next(stream)


def _checkpoint():
    state = weight_port.load(manifest.locate("default", MANIFEST).path)
    return state, weight_port.recognise(state)


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


CONTESTANTS = {
    "keras": keras_step,
    "torch": torch_step,
    "pipeline": pipeline_step,
    "pipeline_uncached": functools.partial(pipeline_step, cache_bytes=0),
}


if __name__ == "__main__":
    jobs.answer(take_turn)
