"""Small `.tflite` files, and changes that keep them flatbuffers."""

import functools
import random

# What a change puts in place of a number.
_NUMBERS = (0, -1, 1, 2, 3, 7, 255, 256, 1000, 65536, 100000, 2**30, 2**31 - 1)


@functools.cache
def seeds():
    """Networks as this project exports them, by what they store and compute: five classes, 16x16 pixels."""
    from keras_bisenet.export import metadata
    from keras_bisenet.export.builder import Builder

    contents = {weights: _network(Builder(weights)) for weights in ("float32", "float16", "int8")}
    info = metadata.ModelInfo(tuple("abcde"), "0" * 64)
    return contents | {
        "logits": _network(Builder("float32"), "float32", labels=False),
        "quantised": _quantised(),
        "metadata": metadata.attach(contents["float32"], info),
        "segmenter": metadata.attach(_network(Builder("float32"), labels=False), info),
        "cut": contents["float32"][:1000],
    }


def _network(builder, dtype="uint8", labels=True):
    import numpy as np

    numbers = np.random.default_rng(0)
    image = builder.input("image", (1, 16, 16, 3), dtype)
    x = builder.centre(image, [0.5, 0.4, 0.3], name="centred") if dtype == "uint8" else image
    x = builder.conv(x, numbers.normal(size=(3, 3, 3, 4)), numbers.normal(size=4), 2, relu=True, name="conv")
    y = builder.sigmoid(builder.global_mean(x, name="mean"), name="sigmoid")
    y = builder.concatenate(x, builder.multiply(x, y, name="product"), name="both")
    y = builder.resize_nearest(builder.max_pool(y, name="pool"), x, name="nearest")
    y = builder.conv(y, numbers.normal(size=(1, 1, 8, 5)), numbers.normal(size=5), name="scores")
    return _finish(builder, y, image, labels)


def _quantised():
    import numpy as np

    from keras_bisenet.export.calibration import Statistic
    from keras_bisenet.export.quantised_builder import QuantisedBuilder

    def seen(channels):
        return Statistic(np.full(channels, -3.0), np.full(channels, 3.0), np.zeros(channels))

    numbers = np.random.default_rng(0)
    builder = QuantisedBuilder({"conv": seen(4), "scores": seen(5)})
    image = builder.input("image", (1, 16, 16, 3), "uint8")
    x = builder.centre(image, [0.5, 0.4, 0.3], name="centred")
    x = builder.conv(x, numbers.normal(size=(3, 3, 3, 4)), numbers.normal(size=4), 2, relu=True, name="conv")
    x = builder.conv(x, numbers.normal(size=(1, 1, 4, 5)), numbers.normal(size=5), name="scores")
    return _finish(builder, builder.dequantize(x, name="real"), image, labels=True)


def _finish(builder, scores, image, labels):
    logits = builder.resize_align_corners(scores, image, name="logits")
    if not labels:
        return builder.finish({"logits": logits})
    return builder.finish({"labels": builder.cast(builder.argmax(logits, name="best"), "uint8", name="labels")})


def mutate(content, max_size, seed):
    """Changes one number, list, text or buffer somewhere in the model, and packs it again."""
    from keras_bisenet.export import flatbuffer

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
