"""The building blocks whose PyTorch constants matter: convolution padding, batch norm, pooling and the two resizes.

Every feature map is NHWC. A block takes and returns tensors of a functional graph and names the layers that have
weights: `<name>` alone, or `<name>_conv` and `<name>_bn` where it has both.
"""

import keras
from keras import ops

# torch.nn.BatchNorm2d: eps=1e-5 and momentum=0.1. Keras weighs the old average where PyTorch weighs the new value.
EPSILON = 1e-5
MOMENTUM = 0.9


def conv(x, filters, kernel_size, strides=1, *, name):
    """`torch.nn.Conv2d(..., padding=kernel_size // 2, bias=False)`.

    Args:
        x: `[N, H, W, C]`.
        filters: number of output channels.
        kernel_size: odd side of the square kernel.
        strides: step in both directions.
        name: name of the layer.

    Returns:
        `[N, ceil(H / strides), ceil(W / strides), filters]`.
    """
    padding = "same"
    if strides > 1:
        # At an even size Keras' "same" pads more behind than in front; PyTorch pads both sides alike.
        x = keras.layers.ZeroPadding2D(kernel_size // 2)(x)
        padding = "valid"
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=_kernel_initializer(),
        name=name,
    )(x)


def _kernel_initializer():
    """`torch.nn.init.kaiming_normal_(a=1)`, which the original starts from: variance 1 / fan_in, not truncated.

    One for each layer: a Keras initializer that is asked twice gives the same numbers twice.
    """
    return keras.initializers.VarianceScaling(1.0, mode="fan_in", distribution="untruncated_normal")


def batch_norm(x, *, name):
    """`torch.nn.BatchNorm2d` over the channels of `x`."""
    return BatchNorm(epsilon=EPSILON, momentum=MOMENTUM, name=name)(x)


def conv_bn_relu(x, filters, kernel_size, *, name):
    """A stride-1 convolution `<name>_conv`, batch norm `<name>_bn` and ReLU."""
    x = conv(x, filters, kernel_size, name=f"{name}_conv")
    return ops.relu(batch_norm(x, name=f"{name}_bn"))


def precise_dtype(dtype):
    """The dtype for sums and positions of a layer that computes in `dtype`: float64 for float64, else float32."""
    return "float64" if dtype == "float64" else "float32"


def max_pool(x):
    """`torch.nn.MaxPool2d(3, stride=2, padding=1)` of a tensor without negative values.

    PyTorch pads with -inf, which mobile GPUs refuse; after a ReLU zero is the same.
    """
    return keras.layers.MaxPooling2D(3, 2, padding="valid")(keras.layers.ZeroPadding2D(1)(x))


@keras.saving.register_keras_serializable(package="keras_bisenet")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalization as PyTorch computes it.

    It differs from its parent in two ways: the moving variance averages the unbiased variance of each batch (divided
    by n - 1, where the batch itself is normalized by n), and float64 is kept on every backend (Keras computes in
    float32 on torch and JAX).
    """

    def call(self, inputs, training=None):
        training = training and self.trainable
        if training and self._has_fused_op():
            return self._fused(inputs)
        precise = precise_dtype(self.compute_dtype)
        x = ops.cast(inputs, precise)
        mean, variance = self.moving_mean, self.moving_variance
        if training:
            mean, variance, count = self._synchronized_moments(x) if self.synchronized else _moments(x)
            self._update(self.moving_mean, mean)
            # A single value has no variance (PyTorch refuses to train on one; here it counts as 0).
            self._update(self.moving_variance, variance * (count / ops.maximum(count - 1, 1)))
        x = ops.batch_normalization(
            x,
            mean=ops.cast(mean, precise),
            variance=ops.cast(variance, precise),
            axis=-1,
            offset=ops.cast(self.beta, precise),
            scale=ops.cast(self.gamma, precise),
            epsilon=self.epsilon,
        )
        return ops.cast(x, self.compute_dtype)

    def _has_fused_op(self):
        return keras.backend.backend() == "tensorflow" and self.compute_dtype != "float64" and not self.synchronized

    def _fused(self, inputs):
        """The same in one op, forward and backward; its variance is the unbiased one. A tenth of a training step."""
        import tensorflow as tf

        x, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma),
            offset=ops.convert_to_tensor(self.beta),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        self._update(self.moving_mean, mean)
        self._update(self.moving_variance, variance)
        return x

    def _synchronized_moments(self, x):
        """`_moments` of the global batch of `tf.distribute`, in one exchange between the replicas."""
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        # E(x^2) - E(x)^2 loses digits where the mean is large, so it is taken around a mean that all replicas know.
        center = tf.stop_gradient(ops.cast(self.moving_mean, x.dtype))
        x -= center
        count = tf.fill(x.shape[-1:], tf.cast(tf.size(x) // x.shape[-1], x.dtype))
        sums = tf.stack([tf.reduce_sum(x, axis=(0, 1, 2)), tf.reduce_sum(tf.square(x), axis=(0, 1, 2)), count])
        total, squares, count = tf.unstack(context.all_reduce("SUM", sums))
        mean = total / count
        return mean + center, tf.maximum(squares / count - tf.square(mean), 0), count

    def _update(self, average, value):
        # As plain tensors: a Keras variable times 0.9 rounds 0.9 to float32 on torch, even in float64.
        before, value = ops.convert_to_tensor(average), ops.cast(value, average.dtype)
        average.assign(before * self.momentum + value * (1 - self.momentum))


def _moments(x):
    """Mean and variance of each channel, divided by the number of values, and that number."""
    return *ops.moments(x, axes=(0, 1, 2)), ops.cast(ops.prod(ops.shape(x)[:3]), x.dtype)


@keras.saving.register_keras_serializable(package="keras_bisenet")
class GlobalMean(keras.layers.Layer):
    """Mean over height and width: `[N, H, W, C]` -> `[N, 1, 1, C]`, same dtype."""

    def call(self, inputs):
        if self.compute_dtype == "float64":
            # `ops.mean` computes in float32 on torch and JAX; `ops.sum` does not.
            count = ops.cast(ops.prod(ops.shape(inputs)[1:3]), "float64")
            return ops.sum(inputs, axis=(1, 2), keepdims=True) / count
        return ops.mean(inputs, axis=(1, 2), keepdims=True)


class _ResizeLike(keras.layers.Layer):
    """Base of the resizes: called with `[images, reference]`, gives `images` the height and width of `reference`."""

    def compute_output_shape(self, input_shape):
        (batch, _, _, channels), (_, height, width, _) = input_shape
        return batch, height, width, channels

    def call(self, inputs):
        images, reference = inputs
        return self._resize(images, ops.shape(reference)[1:3])


@keras.saving.register_keras_serializable(package="keras_bisenet")
class NearestResize(_ResizeLike):
    """`torch.nn.functional.interpolate(mode="nearest")`: output i reads input `floor(i * in / out)`.

    Called with `[images, reference]`, both `[N, H, W, C]`; keeps dtype. (`tf.image.resize` samples at pixel centers
    and differs at odd sizes; `UpSampling2D` becomes a 5-D reshape that mobile GPUs refuse.)
    """

    def _resize(self, images, size):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.raw_ops.ResizeNearestNeighbor(images=images, size=size, align_corners=False)
        for axis, out_size in zip((1, 2), size, strict=True):
            source = ops.arange(out_size) * ops.shape(images)[axis] // out_size
            images = ops.take(images, source, axis=axis)
        return images


@keras.saving.register_keras_serializable(package="keras_bisenet")
class AlignCornersResize(_ResizeLike):
    """`torch.nn.functional.interpolate(mode="bilinear", align_corners=True)`: the corner pixels keep their values.

    Output i lies at `i * (in - 1) / (out - 1)` of the input. Called with `[images, reference]`, both `[N, H, W, C]`;
    keeps dtype.
    """

    def _resize(self, images, size):
        if keras.backend.backend() == "tensorflow" and self.compute_dtype != "float64":
            import tensorflow as tf

            # The raw op, which becomes one RESIZE_BILINEAR in TFLite, returns float32 whatever it is given.
            return ops.cast(tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=True), images.dtype)
        for axis, out_size in zip((2, 1), reversed(size), strict=True):
            images = self._interpolate(images, out_size, axis)
        return images

    def _interpolate(self, images, out_size, axis):
        last = ops.shape(images)[axis] - 1
        precise = precise_dtype(self.compute_dtype)
        step = ops.cast(last, precise) / ops.cast(ops.maximum(out_size - 1, 1), precise)
        position = ops.cast(ops.arange(out_size), precise) * step
        lower = ops.minimum(ops.cast(ops.floor(position), "int32"), last)
        upper = ops.minimum(lower + 1, last)
        weight = ops.cast(position - ops.cast(lower, precise), images.dtype)
        weight = ops.reshape(weight, [-1 if i == axis else 1 for i in range(4)])
        return ops.take(images, lower, axis=axis) * (1 - weight) + ops.take(images, upper, axis=axis) * weight
