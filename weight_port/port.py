"""Maps a PyTorch state_dict into Keras weights, tensor by tensor by name, and back.

A Keras weight is anything with `.path`, `.shape` and `.assign(array)`, so this module needs neither framework.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

from weight_port import files, layouts, report, transposes
from weight_port.errors import CheckpointError
from weight_port.layouts import Layout

StateDict = Mapping[str, np.ndarray]

# Channels at width 1 -> a layer of the backbone that has so many.
_CHANNELS = {64: "conv1", 128: "layer2.0.conv1", 256: "layer3.0.conv1", 512: "layer4.0.conv1"}
# A layer has the nearest multiple of this to (its channels at width 1) * width, halves up.
_MULTIPLE = 8
_WIDEST = 2.0


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the keys and shapes of a state_dict say about the network that it belongs to.

    Attributes:
        layout: the layout of its names.
        backbone: `"resnet18"` or `"resnet34"`.
        num_classes: channels of the main head; None for a backbone alone.
        width: factor of the number of channels of every layer but the last ones: the shortest decimal number of those
            that give this network.
    """

    layout: Layout
    backbone: str
    num_classes: int | None
    width: float = 1.0

    def __str__(self):
        width = "" if self.width == 1 else f" at width {self.width:g}"
        if self.num_classes is None:
            return f"a {self.backbone} backbone{width} ({self.layout.name} layout)"
        return f"BiSeNet {self.backbone}{width} with {self.num_classes} classes ({self.layout.name} layout)"


def recognize(state: StateDict) -> Architecture:
    """Tells layout, backbone, width and number of classes from keys and shapes.

    Raises:
        CheckpointError: the state_dict belongs to another network.
    """
    if any(key.startswith("sp.") for key in state):
        raise CheckpointError(
            "this is CoinCheung's BiSeNet V1: its keys hold a spatial path (sp.*), which the face-parsing network "
            "does not have; expected the zllrunning or the yakhyo layout"
        )
    layout = max(layouts.BISENET_LAYOUTS, key=lambda candidate: _hits(state, candidate))
    if _hits(state, layout) < len(layout.modules) / 2:
        if "conv1.weight" in state and "layer1.0.conv1.weight" in state:
            raise CheckpointError(
                "this is a bare ResNet, a backbone without the face-parsing network; expected a BiSeNet checkpoint "
                "(to start a training from it, port it with weight_port.recognize_backbone)"
            )
        some = files.shown(", ".join(sorted(state)[:3])) or "no tensors at all"
        raise CheckpointError(
            f"this is no face-parsing BiSeNet: its {len(state)} keys begin with {some}; "
            "expected the zllrunning layout (cp.resnet.*, ffm.*, conv_out.*) or the yakhyo layout (fpn.backbone.*)"
        )
    head = layout.modules["conv_out_logits"] + ".weight"
    if head not in state:
        raise CheckpointError(f"the main head is missing: expected the key {head}")
    width = _width(state, layout)
    shape = tuple(state[head].shape)
    # Or a few bytes could ask for a network of any size.
    if shape[1:] != (_scaled(256, width), 1, 1) or not shape[0]:
        expected = f"(classes, {_scaled(256, width)}, 1, 1)"
        raise CheckpointError(f"the main head {head} has the shape {files.shown(shape)}; expected {expected}")
    return Architecture(layout, _backbone(state, layout), int(shape[0]), width)


def recognize_backbone(state: StateDict) -> Architecture:
    """Tells the backbone of a torchvision ResNet state_dict, and its width.

    Raises:
        CheckpointError: the state_dict is not torchvision's resnet18 or resnet34.
    """
    if "conv1.weight" not in state or "layer1.0.conv1.weight" not in state:
        raise CheckpointError(
            "this is no torchvision ResNet: expected the keys conv1.weight, layer1.0.conv1.weight, ..."
        )
    layout = layouts.TORCHVISION
    return Architecture(layout, _backbone(state, layout), None, _width(state, layout))


def _hits(state, layout):
    return sum(f"{module}.weight" in state for module in layout.modules.values())


def _backbone(state, layout):
    blocks = re.compile(re.escape(layout.backbone) + r"layer(\d)\.(\d+)\.(\w+)")
    found = [match.groups() for match in map(blocks.match, state) if match]
    if any(part == "conv3" for _, _, part in found):
        raise CheckpointError(
            "the backbone has bottleneck blocks (ResNet-50 or deeper); expected ResNet-18 or ResNet-34"
        )
    return "resnet34" if any(int(block) >= 2 for _, block, _ in found) else "resnet18"


def _width(state, layout):
    """The width that gives each layer of the backbone its channels."""
    keys = {base: f"{layout.backbone}{module}.weight" for base, module in _CHANNELS.items()}
    # A layer that is missing is reported by `apply`, with all others.
    found = {base: state[key].shape[0] for base, key in keys.items() if key in state and state[key].ndim == 4}
    # The widths between these give each layer its channels: half a multiple below is rounded up.
    low = max(((count - _MULTIPLE / 2) / base for base, count in found.items()), default=1.0)
    high = min(((count + _MULTIPLE / 2) / base for base, count in found.items()), default=math.inf)
    shortest = (math.ceil(low * 10**digits) / 10**digits for digits in range(1, 4))
    width = next((width for width in shortest if width < high), 0.0)
    if not 0 < width <= _WIDEST or any(_scaled(base, width) != count for base, count in found.items()):
        counts = ", ".join(f"{keys[base]} has {count}" for base, count in found.items())
        expected = ", ".join(map(str, _CHANNELS))
        raise CheckpointError(
            f"the numbers of channels fit no width of the network: {files.shown(counts)}; expected {expected}, times a "
            f"width up to {_WIDEST:g} and rounded to multiples of {_MULTIPLE}"
        )
    return width


def _scaled(count, width):
    """Channels of a layer that has `count` at width 1."""
    return math.floor(count * width / _MULTIPLE + 0.5) * _MULTIPLE


def key_map(paths: Iterable[str], layout: Layout) -> dict[str, str]:
    """Keras weight path -> PyTorch key, for every path that `layout` has a name for.

    Args:
        paths: `<layer>/<weight>`, as `variable.path` gives it.
        layout: the PyTorch layout.
    """
    keys = {}
    for path in paths:
        layer, weight = path.rsplit("/", 1)
        module = layout.module(layer)
        if module is not None:
            keys[path] = f"{module}.{layouts.TENSORS[weight]}"
    return keys


def apply(state: StateDict, variables: Iterable, architecture: Architecture) -> dict[str, np.ndarray]:
    """Assigns every tensor of a state_dict to its Keras weight. Checks all of it first, so it fails whole.

    Args:
        state: PyTorch key -> array; a kernel is `[O, I, H, W]`.
        variables: the Keras weights, `model.variables`; a kernel is `[H, W, I, O]`. For a torchvision state_dict
            those that are no backbone keep their values.
        architecture: of `state`, by `recognize` or `recognize_backbone`.

    Returns:
        The unmapped tensors, key -> array: those that PyTorch's `strict=True` asks for and no Keras weight holds
        (batch-norm step counters, the unused classifier). With them `reverse` restores the whole state_dict.

    Raises:
        CheckpointError: keys are missing, unexpected or mis-shaped (all of them are listed), or values are not finite.

    Example:
        >>> state = weight_port.load("face_parsing.pth")
        >>> architecture = weight_port.recognize(state)
        >>> print(architecture)
        BiSeNet resnet18 at width 0.25 with 3 classes (zllrunning layout)
        >>> model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone, architecture.width)
        >>> unmapped = weight_port.apply(state, model.variables, architecture)
    """
    variables = {variable.path: variable for variable in variables}
    keys = key_map(variables, architecture.layout)
    expected = {key: transposes.torch_shape(variables[path].shape) for path, key in keys.items()}
    unused = architecture.layout.unused(0)
    unmapped = {key: state[key] for key in state if key in unused or _is_counter(key, expected)}

    missing = expected.keys() - state.keys()
    unexpected = state.keys() - expected.keys() - unmapped.keys()
    misshaped = {
        key: (tuple(state[key].shape), shape)
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    }
    if missing or unexpected or misshaped:
        raise CheckpointError(report.describe_mismatch(str(architecture), missing, unexpected, misshaped))
    bad = {
        key: (int(array.size - np.isfinite(array).sum()), array.size)
        for key, array in ((key, state[key]) for key in expected)
        if not np.isfinite(array).all()
    }
    if bad:
        raise CheckpointError(report.describe_non_finite(bad))

    for path, key in keys.items():
        variables[path].assign(transposes.to_keras(state[key]))
    return unmapped


def _is_counter(key, expected):
    module, _, tensor = key.rpartition(".")
    return tensor == layouts.COUNTER and f"{module}.running_mean" in expected


def reverse(
    weights: Mapping[str, np.ndarray], layout: Layout, unmapped: StateDict | None = None
) -> dict[str, np.ndarray]:
    """Turns Keras weights back into a state_dict that the PyTorch network loads with `strict=True`.

    Args:
        weights: Keras weight path -> array; a kernel is `[H, W, I, O]`. See `keras_weights`.
        layout: the PyTorch layout to write.
        unmapped: what `apply` returned. What it does not hold is zero.

    Returns:
        PyTorch key -> array, the values of `weights` bit for bit; a kernel is `[O, I, H, W]`.
    """
    unmapped = unmapped or {}
    state = {}
    for path, key in key_map(weights, layout).items():
        state[key] = transposes.to_torch(np.asarray(weights[path]))
        if key.endswith(".running_mean"):
            counter = key.replace("running_mean", layouts.COUNTER)
            state[counter] = unmapped.get(counter, np.zeros((), np.int64))
    deepest = layout.module("backbone_layer4_0_conv1")
    features = state[f"{deepest}.weight"].shape[0]
    for key, shape in layout.unused(features).items():
        state[key] = unmapped.get(key, np.zeros(shape, np.float32))
    return state


def keras_weights(variables: Iterable) -> dict[str, np.ndarray]:
    """Path -> array of every Keras weight (a copy in memory, whatever the backend)."""
    return {variable.path: np.array(variable.numpy()) for variable in variables}
