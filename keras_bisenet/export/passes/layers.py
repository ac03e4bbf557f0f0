"""Layers of a deployment model. Their weights are constants, held in float64, and rounded when they are computed with.

A convolution is what all passes know: `folding` makes one of every `keras.layers.Conv2D`, other passes give it another
kernel or another way to compute the same.
"""

import keras
import numpy as np
from keras import ops


class FixedConv2D(keras.layers.Layer):
    """A convolution with constant kernel and bias: `[N, H, W, I]` -> `[N, h, w, O]`, NHWC.

    Args:
        kernel: `[height, width, I, O]` array.
        bias: `[O]` array.
        strides: step down and right, one number or two.
        padding: `"valid"` or `"same"`.
        steps: `[O]` array: the kernel of each output channel is -127 to 127 times its step; None for a kernel in float.
        name: name of the layer.
        dtype: dtype that it computes in, or its policy.
    """

    def __init__(self, kernel, bias, strides=1, padding="valid", steps=None, *, name, dtype=None):
        super().__init__(name=name, dtype=dtype, trainable=False)
        self.kernel, self.bias, self.steps = np.asarray(kernel, np.float64), np.asarray(bias, np.float64), steps
        self.strides = tuple(int(step) for step in np.broadcast_to(strides, 2))
        self.padding = padding

    def get_config(self):
        """The arguments that it was made with, arrays too: for another such layer, not for a file."""
        return {
            "kernel": self.kernel,
            "bias": self.bias,
            "strides": self.strides,
            "padding": self.padding,
            "steps": self.steps,
            "name": self.name,
            "dtype": self.dtype_policy,
        }

    def like(self, cls=None, **changes):
        """Another convolution with some arguments changed.

        Args:
            cls: its class; None for that of this one.
            changes: arguments of the class.
        """
        return (cls or type(self))(**self.get_config() | changes)

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = input_shape
        if self.padding == "valid":
            sides = [side - taps + 1 for side, taps in zip(sides, self.kernel.shape, strict=False)]
        return batch, *(-(-side // step) for side, step in zip(sides, self.strides, strict=True)), self.kernel.shape[3]

    def call(self, inputs):
        return self._convolve(inputs, self.kernel, self.bias, self.strides, self.padding)

    def _convolve(self, x, kernel, bias, strides, padding):
        """A convolution of `x` with arrays that have been made of `kernel` and `bias`."""
        taps = self._constant(kernel)
        if self.steps is not None:
            import tensorflow as tf

            reach = (127 * self.steps).astype(np.float32)
            taps = tf.quantization.fake_quant_with_min_max_vars_per_channel(taps, -reach, reach, narrow_range=True)
        x = ops.conv(x, taps, strides, padding)
        return x + self._constant(bias) if bias.any() else x

    def _constant(self, array):
        return ops.convert_to_tensor(array.astype(self.compute_dtype))


class ColorPadding2D(keras.layers.Layer):
    """Pads `[N, H, W, C]` with a color on all four sides.

    Args:
        amount: pixels on each side.
        color: `[C]` array.
        name: name of the layer.
        dtype: see `FixedConv2D`.
    """

    def __init__(self, amount, color, *, name, dtype=None):
        super().__init__(name=name, dtype=dtype, trainable=False)
        self.amount, self.color = amount, np.asarray(color, np.float64)

    def get_config(self):
        """See `FixedConv2D.get_config`."""
        return {"amount": self.amount, "color": self.color, "name": self.name, "dtype": self.dtype_policy}

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return batch, height + 2 * self.amount, width + 2 * self.amount, channels

    def call(self, inputs):
        x = inputs
        for axis in (1, 2):
            sides = list(x.shape)
            sides[axis] = self.amount
            border = ops.convert_to_tensor(np.broadcast_to(self.color, sides).astype(self.compute_dtype))
            x = ops.concatenate([border, x, border], axis=axis)
        return x


class Scores(keras.layers.Layer):
    """Gives its input as it is: the scores that a file returns. In 8 bits it reads, and so the file returns, int8."""

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs):
        return inputs


class Rounding(keras.layers.Layer):
    """Rounds a tensor to the 256 values that int8 stands for; the converter makes the layers around it integer.

    Args:
        low, high: range of the values, `low <= 0 <= high`, 255 steps apart; 0 is one of the steps.
        name: name of the layer.
        dtype: see `FixedConv2D`.
    """

    def __init__(self, low, high, *, name, dtype=None):
        super().__init__(name=name, dtype=dtype, trainable=False)
        self.low, self.high = low, high

    def get_config(self):
        """See `FixedConv2D.get_config`."""
        return {"low": self.low, "high": self.high, "name": self.name, "dtype": self.dtype_policy}

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs):
        import tensorflow as tf

        return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high)
