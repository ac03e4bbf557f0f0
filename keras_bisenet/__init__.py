"""BiSeNet face parsing, native in Keras."""

from keras_bisenet.bisenet import HEADS, BiSeNet
from keras_bisenet.labels import LABELS, LEFT_RIGHT_PAIRS, PALETTE
from keras_bisenet.preprocessing import normalize

__all__ = ["HEADS", "LABELS", "LEFT_RIGHT_PAIRS", "PALETTE", "BiSeNet", "normalize"]
__version__ = "0.1.0"
