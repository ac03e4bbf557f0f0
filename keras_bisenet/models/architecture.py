"""What the networks of this package have in common, and what they may differ in: heads, backbone, width (no Keras)."""

import math

# Names of the outputs: the main head, and the auxiliary heads on the stride-8 and stride-16 context features
# (PyTorch's `conv_out`, `conv_out16`, `conv_out32`).
HEADS = ("logits", "logits16", "logits32")
# Number of basic blocks in each of the four stages of a backbone.
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
# Channels at width 1 and stride of each stage.
STAGES = ((64, 4), (128, 8), (256, 16), (512, 32))
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


def feature_maps(num_classes: int, backbone: str, width: float) -> list[tuple[int, int]]:
    """How large a network is inside, for what must be known before Keras has started.

    Args:
        num_classes, backbone, width: see `BiSeNet`.

    Returns:
        (channels, stride) of the output of each convolution but those of a single pixel. At height H it has
        ceil(H / stride) rows.
    """
    maps = [(64, 2)]
    for (count, stride), blocks in zip(STAGES, BLOCKS[backbone], strict=True):
        # Two in each block, and one on the shortcut around a stride.
        maps += [(count, stride)] * (2 * blocks + (stride > STAGES[0][1]))
    # Attention refinement, the context behind it, fusion, and the three heads.
    maps += [(128, 32), (128, 16), (128, 16), (128, 8), (256, 8), (256, 8), (64, 8), (64, 16)]
    logits = [(num_classes, 8), (num_classes, 8), (num_classes, 16)]
    return [(channels(count, width), stride) for count, stride in maps] + logits


def live_values(num_classes: int, backbone: str, width: float, heads: int = len(HEADS)) -> float:
    """Float values that are in memory at a time while a network runs, for each pixel of the photo.

    Args:
        num_classes, backbone, width: see `BiSeNet`.
        heads: number of heads that are computed.

    Returns:
        float: the photo, and its two largest feature maps, one made of the other; or the heads at full size and a copy
        of one.
    """
    largest = max(count / stride**2 for count, stride in feature_maps(num_classes, backbone, width))
    return 3 + max(2 * largest, (heads + 1) * num_classes)


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
