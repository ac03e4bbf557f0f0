"""Other ways to make the int8 file than the one that `keras_bisenet.export` takes."""

import dataclasses
import functools
from collections.abc import Callable
from unittest import mock

import numpy as np

from benchmarks import quantisation_builders as builders
from keras_bisenet import resnet
from keras_bisenet.export import calibration, equalisation, flatbuffer, graph
from keras_bisenet.export.builder import Builder
from keras_bisenet.export.quantised_builder import QuantisedBuilder, parameters
from keras_bisenet.inference.runner import TFLiteRunner

# Pixels of each tensor that its squared error is computed on, over all photos.
_PIXELS = 4096

# What computes one number a channel for the whole photo.
ATTENTION = (
    *("conv_avg_mean", "conv_avg"),
    *(f"{arm}_{part}" for arm in ("arm32", "arm16") for part in ("mean", "conv_atten", "gate")),
    *(f"ffm_{part}" for part in ("mean", "conv1", "conv2", "gate", "gate_plus_one")),
)

# The last convolution, which the export itself computes in float.
HEAD = "conv_out_logits"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A way to make the int8 file. What is not given is as the export has it.

    Attributes:
        name: what is different, in words.
        tail: see `calibration.TAIL`.
        power: see `equalisation.POWER`.
        adapt: called with the equalised network, its statistics and the photos, gives other statistics.
        builder: called with the statistics, gives a `QuantisedBuilder`.
    """

    name: str
    tail: float = calibration.TAIL
    power: float = equalisation.POWER
    adapt: Callable | None = None
    builder: Callable = QuantisedBuilder


AS_IT_IS = Choice("as it is")


class Calibrated:
    """Makes int8 files of one network, all calibrated on the same photos.

    Args:
        network: `Network`.
        photos: list of `[H, W, 3]` uint8 RGB.
    """

    def __init__(self, network, photos):
        self._network, self._photos = network, photos
        self._measured = {}

    def file(self, choice):
        """The uint8 -> labels `.tflite` file of a `Choice`, as bytes."""
        if choice.tail not in self._measured:
            with mock.patch.object(calibration, "TAIL", choice.tail):
                self._measured[choice.tail] = calibration.measure(self._network, self._photos)
        with mock.patch.object(equalisation, "POWER", choice.power):
            network, statistics = equalisation.equalise(self._network, self._measured[choice.tail])
        if choice.adapt is not None:
            statistics = choice.adapt(network, statistics, self._photos)
        return graph.build(network, choice.builder(statistics), self._photos[0].shape[:2])


def choices():
    """What is compared with `AS_IT_IS`: each is different in one thing, the last in three."""
    powers = [("none", 0.0), *((f"power {power:g}", power) for power in (0.25, 0.5, 0.75, 1.0))]
    return [
        *(
            Choice(f"ranges: {100 * tail:g} % of the values cut off at either end", tail=tail)
            for tail in (0.0, 1e-5, 1e-4, 1e-3)
            if tail != calibration.TAIL
        ),
        Choice("ranges: smallest to largest value, of all pixels", adapt=extremes),
        Choice("ranges: least squared error of each tensor", adapt=least_squares),
        Choice("kernel ranges: least squared error of each channel", builder=builders.LeastSquaresKernels),
        *(Choice(f"equalisation: {name}", power=power) for name, power in powers if power != equalisation.POWER),
        Choice("bias correction: none", adapt=without_means),
        Choice("photo: padded with black", builder=functools.partial(builders.PaddedWith, grey=0)),
        Choice("photo: padded with grey (114)", builder=functools.partial(builders.PaddedWith, grey=114)),
        Choice("photo: mean subtracted in float, then rounded", builder=builders.Normalised),
        Choice("head: last convolution in int8, resize in float", builder=builders.IntegerHead),
        Choice("head: last convolution and resize in int8", builder=builders.IntegerLogits),
        Choice("in float: first convolution", builder=_in_float(("image_centred", "backbone_conv1").__contains__)),
        Choice("in float: first block", builder=_in_float(lambda name: name.startswith("backbone_layer1_0_"))),
        Choice("in float: means, gates and global context", builder=_in_float(ATTENTION.__contains__)),
        Choice("in float: all kernels, no activation", builder=builders.FloatKernels),
        Choice("ranges of all pixels, no equalisation, no bias correction", power=0.0, adapt=_neither),
    ]


def without_means(_network, statistics, _photos):
    """Statistics that say nothing of means, so that no bias is corrected."""
    return {name: dataclasses.replace(seen, mean=0 * seen.mean) for name, seen in statistics.items()}


def extremes(network, statistics, photos):
    """Statistics with the range of all values of each tensor, seen on photos."""
    ranges = dict.fromkeys(statistics, (0.0, 0.0))
    for name, values in _seen(network, statistics, photos):
        low, high = ranges[name]
        ranges[name] = min(low, values.min()), max(high, values.max())
    return {
        name: dataclasses.replace(seen, low=np.array([ranges[name][0]]), high=np.array([ranges[name][1]]))
        for name, seen in statistics.items()
    }


def _neither(network, statistics, photos):
    return without_means(network, extremes(network, statistics, photos), photos)


def least_squares(network, statistics, photos):
    """Statistics with the ranges that make the squared error of rounding least, over values seen on photos."""
    random = np.random.default_rng(0)
    kept = {name: [] for name in statistics}
    for name, values in _seen(network, statistics, photos):
        kept[name].append(values[random.integers(0, len(values), -(-_PIXELS // len(photos)))])
    return {
        name: dataclasses.replace(seen, **least_squares_range(np.concatenate(kept[name])))
        for name, seen in statistics.items()
    }


def _seen(network, names, photos):
    """The values `[pixels, C]` of each named tensor on each photo."""
    runner = TFLiteRunner(flatbuffer.expose_all(graph.build(network, Builder(), photos[0].shape[:2])))
    for photo in photos:
        for name, values in runner(photo[np.newaxis]).items():
            if name in names:
                yield name, values.reshape(-1, values.shape[-1])


def least_squares_range(values):
    """The part of the range of values whose rounding has the least squared error: dict of `low` and `high`, `[1]`."""

    def error(part):
        scale, zero_point = parameters(values.min() * part, values.max() * part)
        rounded = np.clip(np.round(values / scale) + zero_point, -128, 127)
        return np.square((rounded - zero_point) * scale - values).mean()

    part = min(builders.PARTS_OF_RANGE, key=error)
    return {"low": np.array([values.min() * part]), "high": np.array([values.max() * part])}


def parts(network):
    """The parts of the network that can be int8.

    Returns:
        dict, what a part is called -> beginnings of the names of its results in the deployment graph.
    """
    counts = enumerate(resnet.BLOCKS[network.backbone], start=1)
    blocks = [(stage, block) for stage, count in counts for block in range(count)]
    return {
        "first convolution and pooling": ("image_centred", "backbone_conv1", "backbone_max_pool"),
        **{f"stage {stage}, block {block + 1}": (f"backbone_layer{stage}_{block}_",) for stage, block in blocks},
        "global context": ("conv_avg",),
        "attention refinement, stride 32": ("arm32",),
        "convolution after it, stride 16": ("conv_head32",),
        "attention refinement, stride 16": ("arm16",),
        "convolution after it, stride 8": ("conv_head16",),
        "feature fusion": ("ffm",),
        "convolution before the logits": ("conv_out",),
    }


def only(part, beginnings):
    """A `Choice` with a part of the network, see `parts`, in int8 and all else in float."""
    return Choice(f"only {part}", builder=_in_float(lambda name: not name.startswith(beginnings)))


def all_but(part, beginnings):
    """A `Choice` with a part of the network, see `parts`, in float and all else in int8."""
    return Choice(f"all but {part}", builder=_in_float(lambda name: name.startswith(beginnings)))


def _in_float(is_float):
    """What makes a builder that computes the results whose names `is_float` accepts, and the head, in float."""
    return functools.partial(builders.PartlyFloat, is_float=lambda name: name == HEAD or is_float(name))
