"""The network that rounds in training: where it rounds, how, and that it trains the plain one."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import DEFAULT_CHECKPOINT

import weight_port
from keras_bisenet import BiSeNet, normalize
from keras_bisenet.inference import images
from keras_bisenet.training.quantize_aware import RoundedConv, Rounding, quantize_aware


@pytest.fixture(scope="module")
def model():
    state = weight_port.load(DEFAULT_CHECKPOINT)
    model = BiSeNet()
    weight_port.apply(state, model.variables, weight_port.recognise(state))
    return model


@pytest.fixture(scope="module")
def network(model):
    return quantize_aware(model)


def test_256_steps_between_the_extremes():
    x = np.concatenate([[-1.0, 0.0, 3.0], np.random.default_rng(0).uniform(-1, 3, 997)]).astype("float32")
    rounded = Rounding()(x[:, np.newaxis]).numpy()[:, 0]
    assert len(np.unique(rounded)) <= 256
    assert rounded[1] == 0
    assert np.abs(rounded - x).max() <= 4 / 255


def test_a_tensor_without_negative_values_uses_all_steps_above_zero():
    x = np.linspace(5, 10, 1000, dtype="float32")
    assert np.abs(Rounding()(x[:, np.newaxis]).numpy()[:, 0] - x).max() <= 10 / 255 / 2 * 1.001


def test_kernels_are_rounded_by_channel_as_numpy_does(model):
    conv = model.get_layer("ffm_conv")
    kernel = conv.kernel.numpy()[0, 0]
    step = np.abs(kernel).max(0) / 127
    expected = np.eye(256, dtype="float32") @ (np.round(kernel / step) * step)
    result = RoundedConv(conv)(np.eye(256, dtype="float32").reshape(1, 256, 1, 256)).numpy()[0, :, 0]
    # A value half-way between two steps may go either way.
    assert (np.abs(result - expected) <= 1e-6).mean() > 0.999
    assert np.abs(result - kernel).max() <= step.max() / 2 * 1.001


def test_the_gradient_passes_as_if_nothing_were_rounded():
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 5)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(Rounding()(x) * 3.0)
    np.testing.assert_allclose(tape.gradient(y, x), 3.0)


def test_rounds_every_convolution_but_the_last_of_each_head(model, network):
    rounded = {layer.conv.name for layer in network.layers if isinstance(layer, RoundedConv)}
    convs = {layer.name for layer in model.layers if hasattr(layer, "kernel")}
    assert convs - rounded == {"conv_out_logits", "conv_out16_logits", "conv_out32_logits"}


def test_shares_the_weights(model, network):
    assert {id(variable) for variable in network.trainable_variables} == {
        id(variable) for variable in model.trainable_variables
    }


def test_loses_about_as_much_as_the_int8_file(model, network):
    photo = normalize(images.read(images.BUNDLED, (256, 256))[np.newaxis])
    plain, rounded = (net(photo, training=False)["logits"].numpy().argmax(-1) for net in (model, network))
    # 99.8 % for the file, whose ranges and kernels are chosen with more care.
    assert 0.99 < (plain == rounded).mean() < 1


def test_leaves_the_statistics_of_batch_norm(model, network):
    before = [variable.numpy() for variable in model.non_trainable_variables]
    network(np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32"), training=False)
    for old, variable in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
