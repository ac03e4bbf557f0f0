"""Ways to make the int8 file: that of `keras_bisenet.export`, and others to compare it with."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable
from unittest import mock

import keras
import numpy as np

from benchmarks.quantization import builders
from keras_bisenet.export import convert, deployment, passes
from keras_bisenet.export.passes import folding, rewriting
from keras_bisenet.export.quantization import calibration, equalization, quantize, rounding_points


@dataclasses.dataclass(frozen=True)
class Choice:
    """A way to make the int8 file, by default that of the export, and its name in words."""

    name: str
    # Of `mock.patch`: the constant or function of the export that differs.
    patch: contextlib.AbstractContextManager | None = None
    # (equalized model, its statistics, its inputs) -> other statistics.
    adapt: Callable | None = None
    # (quantized model, equalized model that it is made of) -> another quantized model.
    revise: Callable | None = None


AS_IT_IS = Choice("as it is")


class Calibrated:
    """Makes int8 files of a `BiSeNet`, all calibrated on the same photos, a list of `[H, W, 3]` uint8 RGB."""

    def __init__(self, model, photos):
        self._model, self._photos = model, photos
        self._deployed = deployment.deploy(model, photos[0].shape[:2])
        self._images = [deployment.encode(photo, self._deployed) for photo in photos]
        # The deployment model in float, after graph passes.
        self.optimized = functools.cache(functools.partial(rewriting.rewrite, self._deployed))
        # Of all that is patched, the statistics depend on no more than what is given here.
        self._measured = functools.cache(lambda rules, *_: calibration.measure(self.optimized(rules), self._images))
        # Most choices revise the same model.
        self._pair = functools.lru_cache(1)(self._quantize)

    def quantized(self, choice):
        """The functional Keras model that the file of a `Choice` is converted from."""
        pair = self._pair(choice.patch, choice.adapt)
        return pair[0] if choice.revise is None else choice.revise(*pair)

    def _quantize(self, patch, adapt):
        """The quantized model before it is revised, and the equalized one that it is made of."""
        with patch or contextlib.nullcontext():
            rules = passes.RULES["int8"]
            measured = self._measured(rules, calibration.TAIL, rounding_points.find)
            exact, statistics = equalization.equalize(self.optimized(rules), measured)
            if adapt is not None:
                statistics = adapt(exact, statistics, self._images)
            return quantize.quantize(exact, statistics), exact

    def file(self, choice):
        """The photo -> labels `.tflite` file of a `Choice`, as bytes; the photo is uint8, or float32 of 0..255."""
        with mock.patch.object(convert, "optimize", lambda *_arguments: self.quantized(choice)):
            return convert.to_tflite(self._model, self._photos[0].shape[:2], "int8", photos=self._photos)


def choices():
    """The choices to compare with `AS_IT_IS`: each differs in one thing, the last in three."""
    patch = mock.patch.object
    tails = [tail for tail in (0.0, 1e-5, 1e-4, 1e-3) if tail != calibration.TAIL]
    powers = [power for power in (0.0, 0.25, 0.5, 0.75, 1.0) if power != equalization.POWER]
    kernels = patch(quantize, "round_kernel", builders.least_squares_kernel)
    # Without the pass that lets the first convolution read the photo itself.
    rules = tuple(rule for rule in passes.RULES["int8"] if rule is not folding.fold_offset)
    normalized = mock.patch.dict(passes.RULES, int8=rules)
    head = patch(rounding_points, "find", _find_with_head)
    cut = "ranges: {:g} % of the values cut off at either end"
    return [
        *(Choice(cut.format(100 * tail), patch(calibration, "TAIL", tail)) for tail in tails),
        Choice("ranges: smallest to largest value, of all pixels", adapt=extremes),
        Choice("ranges: least squared error of each tensor", adapt=least_squares),
        Choice("kernel ranges: least squared error of each channel", kernels),
        *(
            Choice(f"equalization: {f'power {power:g}' if power else 'none'}", patch(equalization, "POWER", power))
            for power in powers
        ),
        Choice("bias correction: none", adapt=without_means),
        Choice("photo: padded with black", revise=builders.padded_with(0)),
        Choice("photo: padded with gray (114)", revise=builders.padded_with(114)),
        Choice("photo: mean subtracted in float, then rounded", normalized, revise=builders.in_float(_normalization)),
        Choice("head: last convolution in int8, resize in float", head, revise=builders.float_resize),
        Choice("head: last convolution and resize in int8", head, revise=builders.integer_resize),
        all_but("first convolution and pooling", name="in float: first convolution"),
        all_but("stage 1, block 1", name="in float: first block"),
        Choice("in float: means, gates and global context", revise=builders.in_float(attention)),
        Choice("in float: all kernels, no activation", revise=builders.float_kernels),
        Choice(
            "ranges of all pixels, no equalization, no bias correction",
            patch(equalization, "POWER", 0.0),
            adapt=lambda model, *measured: without_means(model, extremes(model, *measured), None),
        ),
    ]


def _find_with_head(graph, find=rounding_points.find):
    """`rounding_points.find` with the last convolution of each head among the rounded nodes."""
    points = find(graph)
    return dataclasses.replace(points, tensors=points.tensors | points.final, final=frozenset())


def without_means(_model, statistics, _images):
    """Statistics whose means are 0, so that no bias is corrected."""
    return {name: dataclasses.replace(statistic, mean=0 * statistic.mean) for name, statistic in statistics.items()}


def extremes(model, statistics, images):
    """Statistics with the range of all values of each tensor, 0 included."""

    def range_of(ends):
        return {"low": np.array([min(0.0, ends.min())]), "high": np.array([max(0.0, ends.max())])}

    return _with_ranges(model, statistics, images, lambda values: [values.min(), values.max()], range_of)


def least_squares(model, statistics, images):
    """Statistics with the ranges that make the squared error of rounding least, over values of random pixels."""
    # Of each tensor 4096 pixels, over all photos.
    random, count = np.random.default_rng(0), -(-4096 // len(images))

    def keep(values):
        return values[random.integers(0, len(values), count)]

    return _with_ranges(model, statistics, images, keep, least_squares_range)


def _with_ranges(model, statistics, images, keep, range_of):
    """Statistics with the `low` and `high` of `range_of` all that `keep` keeps of the values `[pixels, C]` of nodes."""
    copy, graph = rewriting.read(model)
    network = keras.Model(copy.input, {name: graph.named(name).output for name in statistics})
    kept = {name: [] for name in statistics}
    for image in images:
        for name, values in network(image, training=False).items():
            kept[name].append(keep(values.numpy().reshape(-1, values.shape[-1])))
    return {
        name: dataclasses.replace(statistic, **range_of(np.concatenate(kept[name])))
        for name, statistic in statistics.items()
    }


def least_squares_range(values):
    """The part of the range of values with the least squared error of rounding: dict of `low` and `high`, `[1]`."""

    def error(part):
        scale = quantize.Scale(values.min() * part, values.max() * part)
        zero = np.clip(np.round(-scale.low / scale.step), 0, 255)
        rounded = np.clip(np.round(values / scale.step) + zero, 0, 255) - zero
        return np.square(rounded * scale.step - values).mean()

    part = min(builders.PARTS_OF_RANGE, key=error)
    return {"low": np.array([values.min() * part]), "high": np.array([values.max() * part])}


def _normalization(graph):
    """Names of the nodes between the photo and the first convolution."""
    first = next(node for node in graph.nodes if rounding_points.is_conv(node))
    return [node.name for node in graph.nodes[: graph.nodes.index(first)]]


def attention(graph):
    """Names of the nodes that compute one number a channel for the whole photo."""
    return [node.name for node in graph.nodes if node.output.shape[1:3] == (1, 1)]


def parts(graph):
    """The parts of a `BiSeNet` that can be int8: name -> frozenset of the names of its nodes in the deployment model.

    An addition of two parts belongs to the later one, a global mean and a concatenation to the part of the convolution
    that reads it.
    """
    beginnings = _beginnings(node.name for node in graph.nodes)
    final, places = rounding_points.find(graph).final, {}
    for node in graph.nodes:
        if node.name in final:
            continue
        producers = [producer for x in node.inputs if (producer := graph.producer(x)) is not None]
        if rounding_points.is_conv(node):
            (place,) = (place for place, start in enumerate(beginnings.values()) if node.name.startswith(start))
            places |= {before.name: place for before in producers if before.kind in ("GlobalMean", "Concatenate")}
        else:
            place = max((places[before.name] for before in producers if before.name in places), default=0)
        places[node.name] = place
    return {
        part: frozenset(name for name, found in places.items() if found == place)
        for place, part in enumerate(beginnings)
    }


def _beginnings(nodes):
    """Part -> how the names of its convolutions begin, in the order in which data passes."""
    blocks = sorted({found.groups() for name in nodes if (found := re.match(r"backbone_layer(\d+)_(\d+)_", name))})
    return {
        "first convolution and pooling": "backbone_bn1",
        **{f"stage {stage}, block {int(block) + 1}": f"backbone_layer{stage}_{block}_" for stage, block in blocks},
        "global context": "conv_avg",
        "attention refinement, stride 32": "arm32",
        "convolution after it, stride 16": "conv_head32",
        "attention refinement, stride 16": "arm16",
        "convolution after it, stride 8": "conv_head16",
        "feature fusion": "ffm",
        "convolution before the logits": "conv_out_bn",
    }


def only(part):
    """A `Choice` with one of `parts` in int8 and everything else in float."""
    others = builders.in_float(lambda graph: {node.name for node in graph.nodes} - parts(graph)[part])
    return Choice(f"only {part}", revise=others)


def all_but(part, name=None):
    """A `Choice` with one of `parts` in float and everything else in int8."""
    return Choice(name or f"all but {part}", revise=builders.in_float(lambda graph: parts(graph)[part]))
