"""What the networks of this package have in common, and what they may differ in: heads, backbone, width (no Keras)."""

import math

# Names of the outputs: the main head, and the auxiliary heads on the stride-8 and stride-16 context features
# (PyTorch's `conv_out`, `conv_out16`, `conv_out32`).
HEADS = ("logits", "logits16", "logits32")
# Number of basic blocks in each of the four stages of a backbone.
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
MAXIMUM_WIDTH = 2.0

_MULTIPLE = 8


def channels(count: int, width: float) -> int:
    """Number of channels of a layer in a network of another width.

    Args:
        count: channels at width 1, a multiple of 64.
        width: the width multiplier.

    Returns:
        int: `count * width`, rounded to the nearest multiple of 8, halves up. (MobileNet's width multiplier,
        arXiv:1704.04861; kernels of CPUs and NPUs compute 8 channels at a time.)
    """
    return math.floor(count * width / _MULTIPLE + 0.5) * _MULTIPLE


def check(num_classes: int, backbone: str, width: float) -> None:
    """Checks the arguments that decide which weights a network has.

    Raises:
        ValueError: there is no such network.
    """
    if backbone not in BLOCKS:
        raise ValueError(f"backbone is {backbone!r}; expected one of {', '.join(BLOCKS)}")
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes!r}; expected a whole number from 1")
    if isinstance(width, bool) or not isinstance(width, int | float) or not is_width(width):
        raise ValueError(f"width is {width!r}; expected {WIDTHS}")


# In words, for messages.
WIDTHS = f"a number from {_MULTIPLE / 2 / 64} (under which the first layer has no channel) to {MAXIMUM_WIDTH:g}"


def is_width(width: float) -> bool:
    """Whether every layer of a network of this width has channels, and none too many."""
    return 0 < width <= MAXIMUM_WIDTH and channels(64, width) > 0
