"""The network in Keras as converters take it (imports keras)."""

import keras

import keras_bisenet
import weight_port


def network(state, architecture, input_shape=(None, None, 3)):
    """The `BiSeNet` with the weights of a checkpoint.

    Args:
        state, architecture: see `benchmarks.runtimes.convert`.
        input_shape: (height, width, 3), None where any size may come.
    """
    model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone, input_shape)
    weight_port.apply(state, model.variables, architecture)
    return model


def main_head(state, architecture, image_size):
    """`network` for photos of one size, without the two auxiliary heads: `[N, H, W, 3]` -> `[N, H, W, classes]`."""
    model = network(state, architecture, (*image_size, 3))
    return keras.Model(model.input, model.output["logits"])
