"""The memory that an export takes, from the architecture of the network alone (imports no TensorFlow)."""

import math

from keras_bisenet.models import architecture
from keras_bisenet.models.architecture import HEADS
from keras_bisenet.preprocessing import MINIMUM_SIZE
from keras_bisenet.utils import memory
from keras_bisenet.utils.errors import ExportError

# Measured, see docs/EXPORT.md: bytes that Python with TensorFlow, PyTorch and LiteRT holds, behind their first run; how
# often the float32 weights are in memory while TFLiteConverter runs, and while the networks are compared.
_LIBRARIES = 535 << 20
_COPIES_TO_CONVERT, _COPIES_TO_COMPARE = 26, 13
# Bytes of the libraries' files that are mapped beside that: 200 MB more or fewer, as the system has cached them.
_LIBRARY_FILES = 635 << 20
_FLOAT32, _FLOAT64 = 4, 8
# Suggested sizes are multiples of this.
_STEP = 32
# Classes, backbone, width and number of values: of the smallest network that there is, and of the published one.
_SMALLEST = 1, "resnet18", 1 / 16, 0
_PUBLISHED = 19, "resnet18", 1.0, 13_300_416


def estimate(num_classes, backbone, width, weights, image_size):
    """The most memory that an export holds at a time, beside the files of libraries that it maps.

    Args:
        num_classes, backbone, width: see `BiSeNet`.
        weights: number of values of the network.
        image_size: (height, width).

    Returns:
        Bytes of the whole process; see `pipeline.peak_memory`.
    """
    parts = _parts(num_classes, backbone, width, weights)
    return max(whole + math.prod(image_size) * pixel for whole, pixel in parts)


def check(num_classes, backbone, width, weights, image_size, room=None):
    """Raises `ExportError` if an export takes more memory than there is.

    Args:
        num_classes, backbone, width, weights, image_size: see `estimate`.
        room: bytes that there are for this process; None for what the system tells, if it does.
    """
    room = memory.total() if room is None else room
    network = num_classes, backbone, width, weights
    needed = estimate(*network, image_size) + _LIBRARY_FILES
    if room is None or needed <= room:
        return
    largest = _largest(network, image_size, room - _LIBRARY_FILES)
    expected = f"expected at most {_text(largest)}" if largest else "no size fits; close other programs"
    raise ExportError(
        f"the image size {_text(image_size)} takes {memory.gigabytes(needed)} of memory, "
        f"{memory.gigabytes(room)} are free; {expected}"
    )


def check_size(image_size, room=None):
    """Raises `ExportError` if an image size takes more memory than there is, whatever the network; see `check`."""
    room = memory.total() if room is None else room
    if room is not None and estimate(*_SMALLEST, image_size) + _LIBRARY_FILES > room:
        check(*_PUBLISHED, image_size, room)


def _parts(num_classes, backbone, width, weights):
    """Of a process that converts, and of one that compares: its bytes, and what each pixel of a photo adds to them."""
    # One head in float32, as int8 is calibrated. In float64 all three, those of Keras while PyTorch runs, and an error:
    # LiteRT takes less.
    calibrated = architecture.live_values(num_classes, backbone, width, heads=1)
    compared = architecture.live_values(num_classes, backbone, width) + (len(HEADS) + 1) * num_classes
    return [
        (_LIBRARIES + copies * weights * _FLOAT32, pixel)
        for copies, pixel in ((_COPIES_TO_CONVERT, _FLOAT32 * calibrated), (_COPIES_TO_COMPARE, _FLOAT64 * compared))
    ]


def _largest(network, image_size, room):
    """The largest (height, width) of about the same proportions that fits; None if none does."""
    pixels = max(0, min((room - whole) / pixel for whole, pixel in _parts(*network)))
    scale = math.sqrt(pixels / math.prod(image_size))
    largest = tuple(int(side * scale) // _STEP * _STEP for side in image_size)
    return largest if min(largest) >= MINIMUM_SIZE else None


def _text(size):
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
