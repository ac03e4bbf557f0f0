"""Small networks that TFLiteConverter writes: its own names of tensors, ours in the signature."""

import keras
import numpy as np
import tensorflow as tf

from keras_bisenet.tflite import flatbuffer

CLASSES, SIZE = 5, (48, 64)


class Network:
    """Convolutions of a photo of a size: three heads `[1, H, W, 5]` and a feature map `[1, H, W, 32]`."""

    def __init__(self, size=SIZE):
        keras.utils.set_random_seed(0)
        self.size = size
        inputs = keras.Input((*size, 3), batch_size=1)
        features = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
        heads = {
            name: keras.layers.Conv2D(CLASSES, 1, kernel_initializer="random_normal")(features)
            for name in ("logits", "logits16", "logits32")
        }
        self.model = keras.Model(inputs, {"features": features, **heads})

    def __call__(self, photo):
        """Results of `[1, H, W, 3]` uint8 RGB: dict name -> tensor."""
        results = self.model((tf.cast(photo, tf.float32) - 127.5) / 127.5, training=False)
        logits = results["logits"]
        return results | {
            "labels": tf.cast(tf.argmax(logits, -1, tf.int32), tf.uint8),
            "probabilities": tf.nn.softmax(logits),
            "channels_first": tf.cast(tf.argmax(tf.transpose(logits, (0, 3, 1, 2)), 1, tf.int32), tf.uint8),
            "labels_with_an_axis": tf.expand_dims(tf.cast(tf.argmax(logits, -1, tf.int32), tf.uint8), -1),
        }

    def convert(self, outputs, **settings):
        """The bytes of a file whose input is `image`, uint8.

        Args:
            outputs: dict, name in the signature -> name of a result; or the names, if both are the same.
            settings: attributes of the converter.
        """
        outputs = outputs if isinstance(outputs, dict) else {name: name for name in outputs}
        spec = tf.TensorSpec((1, *self.size, 3), tf.uint8, "image")
        function = tf.function(
            lambda image: {name: self(image)[result] for name, result in outputs.items()}, input_signature=[spec]
        )
        module = tf.Module()
        module.function = function
        # The bare variables become constants of the file; with the Keras model they would stay variables.
        module.weights = [weight.value for weight in self.model.weights]
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
        for name, value in settings.items():
            setattr(converter, name, value)
        return converter.convert()


_DYNAMIC = {"optimizations": [tf.lite.Optimize.DEFAULT]}
PRECISIONS = {
    "float32": {},
    "float16": _DYNAMIC | {"target_spec": tf.lite.TargetSpec(supported_types=[tf.float16])},
    "dynamic": _DYNAMIC,
    "int8": _DYNAMIC | {"representative_dataset": lambda: ([photo(seed)] for seed in range(3))},
}


def photo(seed=0, size=SIZE):
    """`[1, H, W, 3]` uint8 RGB."""
    return np.random.default_rng(seed).integers(0, 256, (1, *size, 3), np.uint8)


def reordered(content, order):
    """A file whose subgraph lists its outputs in another order; the signature stays as it is."""
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    graph.outputs = np.array([graph.outputs[place] for place in order], np.int32)
    return flatbuffer.pack(model)


def returning(content, index):
    """A file that returns the tensor `index` alone, without a signature."""
    model = flatbuffer.unpack(content)
    model.subgraphs[0].outputs = np.array([index], np.int32)
    model.signatureDefs = []
    return flatbuffer.pack(model)
