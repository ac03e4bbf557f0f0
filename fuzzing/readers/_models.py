"""Small `.tflite` files, and changes that keep them flatbuffers."""

import functools
import os
import pathlib
import random
import subprocess
import sys
import tempfile

_ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a change puts in place of a number.
_NUMBERS = (0, -1, 1, 2, 3, 7, 255, 256, 1000, 65536, 100000, 2**30, 2**31 - 1)


@functools.cache
def seeds():
    """Networks as this project exports them, by what they store and compute: five classes, 32x32 pixels.

    They are made in another process: TensorFlow would slow down this one, which is forked and watched for memory.
    """
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fuzzing.readers._seeds", folder]
        subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, check=True)
        contents = {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}
    return contents | {"cut": contents["float32"][:1000]}


def mutate(content, max_size, seed):
    """Changes one number, list, text or buffer somewhere in the model, and packs it again."""
    from keras_bisenet.tflite import flatbuffer

    rng = random.Random(seed)
    try:
        model = flatbuffer.unpack(content)
        for _ in range(rng.choice((1, 1, 2))):
            _change(model, rng)
        packed = flatbuffer.pack(model)
    except Exception:  # a change may make what the schema cannot hold
        return None
    end = content.rfind(b"PK\3\4")
    return packed + content[end:] if end > 0 and len(packed) + len(content) - end <= max_size else packed


def _change(model, rng):
    import numpy as np

    holder = model
    # Down to where the numbers are.
    for _ in range(8):
        fields = [name for name, value in vars(holder).items() if value is not None]
        name = rng.choice(fields)
        value = getattr(holder, name)
        if isinstance(value, list) and value:
            if rng.random() < 0.1:
                place = rng.randrange(len(value))
                rng.choice((value.pop, lambda place, value=value: value.append(value[place])))(place)
                return
            value = rng.choice(value)
        if hasattr(value, "__dict__"):
            holder = value
        elif isinstance(value, np.ndarray):
            setattr(holder, name, _array(value, rng))
            return
        elif isinstance(value, bytes):
            setattr(holder, name, rng.choice((b"", b"logits", b"labels", b"\n", rng.randbytes(4))))
            return
        elif isinstance(value, int) and not isinstance(value, bool):
            setattr(holder, name, rng.choice((*_NUMBERS, value + 1, value - 1, rng.randrange(160))))
            return


def _array(array, rng):
    import numpy as np

    if not array.size or rng.random() < 0.2:
        return np.append(array, np.array([rng.choice(_NUMBERS[:8])]).astype(array.dtype))
    if rng.random() < 0.2:
        return array[:-1]
    array = array.copy()
    number = rng.choice((*_NUMBERS, float("nan"))) if array.dtype.kind == "f" else rng.choice(_NUMBERS)
    with np.errstate(all="ignore"):
        array[rng.randrange(array.size)] = np.array(number).astype(array.dtype)
    return array
