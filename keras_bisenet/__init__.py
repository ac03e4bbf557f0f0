"""BiSeNet face parsing, native in Keras.

What needs Keras is imported when it is first asked for: `FaceParser` runs a `.tflite` file without TensorFlow.
"""

import importlib
import sys
from typing import Any

from keras_bisenet.labels import LABELS, LEFT_RIGHT_PAIRS, PALETTE
from keras_bisenet.utils import extras

_LAZY = {
    "HEADS": "models.architecture",
    "BiSeNet": "models.bisenet",
    "FaceParser": "inference.face_parser",
    "UserError": "utils.errors",
    "load_model": "inference.loading",
    "normalize": "preprocessing",
}

__all__ = ["LABELS", "LEFT_RIGHT_PAIRS", "PALETTE", *_LAZY]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        extra = "runtime" if name == "FaceParser" else "tf"
        raise ModuleNotFoundError(f"{name} needs {error.name}: {extras.command(extra)}", name=error.name) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Whoever has imported Keras wants `keras.saving.load_model` to know the class.
if "keras" in sys.modules:
    importlib.import_module(f"{__name__}.models.bisenet")
