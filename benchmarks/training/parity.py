"""The same training steps in Keras and in PyTorch, and how far they are apart."""

import functools

import numpy as np
import torch
from keras import ops
from PIL import Image

import weight_port
from benchmarks.common import networks
from keras_bisenet import normalize
from keras_bisenet.labels import IGNORE
from keras_bisenet.training.trainer import Trainer
from weight_port.reference import torch_network, torch_training


class KerasRun:
    """Training in Keras, from a state_dict with a `TrainConfig`.

    A call with images `[N, H, W, 3]` RGB 0..255 and labels `[N, H, W]` int32 makes a step; it returns the losses of the
    three heads and the state_dict after it.
    """

    def __init__(self, state, config):
        architecture = weight_port.recognize(state)
        self._layout = architecture.layout
        self._model = networks.in_keras(state, architecture, dtype=config.precision)
        self._trainer = Trainer(self._model, config)

    def __call__(self, images, labels):
        losses = self._trainer.step(iter([(images, labels)]))
        return losses, weight_port.reverse(weight_port.keras_weights(self._model.variables), self._layout)


class TorchRun:
    """The same in PyTorch; `trainer` is its `TorchTrainer`."""

    def __init__(self, state, config):
        self._precision = config.precision
        reference = torch_network.Reference(state, weight_port.recognize(state))
        network = reference.network.to(getattr(torch, config.precision))
        schedule = {name: getattr(config, name) for name in ("warmup_steps", "warmup_start", "power")}
        schedule |= {"base": config.learning_rate, "max_steps": config.steps}
        rate = functools.partial(torch_training.learning_rate, **schedule)
        self.trainer = torch_training.TorchTrainer(network, rate, config.ohem_threshold)

    def __call__(self, images, labels):
        losses = self.trainer.step(ops.convert_to_numpy(normalize(images, self._precision)), labels)
        return np.array(losses), self.trainer.state()


def difference(start, reference, result):
    """Difference of what two runs returned after the same step; both began with the state_dict `start`.

    Of `losses`, `weights` and `statistics` (of batch norm) it is max |difference| / max |reference|, the largest of the
    three losses or of all tensors; `path` is the length of the difference of all weights as one vector, over the
    distance that those of the reference have gone since the start.
    """
    (expected, state), (losses, found) = reference, result
    largest = {"losses": np.max(np.abs(losses - expected) / np.abs(expected)), "weights": 0.0, "statistics": 0.0}
    apart = gone = 0.0
    for key, array in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        error = np.abs(found[key].astype(np.float64) - array)
        kind = "statistics" if ".running_" in key else "weights"
        largest[kind] = max(largest[kind], error.max() / np.abs(array).max())
        if kind == "weights":
            apart += np.sum(error**2)
            gone += np.sum((array.astype(np.float64) - start[key]) ** 2)
    largest["path"] = np.sqrt(apart / gone)
    return {name: float(value) for name, value in largest.items()}


def batches(photo, labels, num_classes, count, size, side):
    """Yields `count` batches: `[size, side, side, 3]` uint8 RGB, and `[size, side, side]` int32 labels.

    They are crops of a photo `[H, W, 3]` uint8 RGB with labels `[H, W]` uint8, at many scales and in many colors. A
    tenth of their labels is wrong, a twentieth is missing.
    """
    random = np.random.default_rng(0)
    for _ in range(count):
        images, truth = [], []
        for _ in range(size):
            larger = int(random.integers(side, 3 * side))
            row, column = random.integers(0, larger - side + 1, 2)
            crop = np.s_[row : row + side, column : column + side]
            pixels = np.asarray(Image.fromarray(photo).resize((larger, larger), Image.Resampling.BILINEAR))[crop]
            images.append((pixels * random.uniform(0.5, 1.5, 3)).clip(0, 255).astype(np.uint8))
            truth.append(np.asarray(Image.fromarray(labels).resize((larger, larger), Image.Resampling.NEAREST))[crop])
        truth = np.stack(truth).astype(np.int32)
        wrong = random.random(truth.shape) < 0.1
        truth[wrong] = random.integers(0, num_classes, wrong.sum())
        truth[random.random(truth.shape) < 0.05] = IGNORE
        yield np.stack(images), truth
