"""The network that rounds in training: where it rounds, how, and that it trains the plain one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.ported import default_model

from keras_bisenet import BiSeNet, normalize
from keras_bisenet.export import convert, deployment
from keras_bisenet.export.passes import layers, rewriting
from keras_bisenet.export.quantization import rounding_points
from keras_bisenet.training.quantize_aware import RoundedConv, Rounding, quantize_aware
from keras_bisenet.utils import images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return default_model()


@pytest.fixture(scope="module")
def network(model):
    return quantize_aware(model)


@pytest.fixture(scope="module", params=["resnet18", "resnet34"])
def exported(request):
    """A random network, and what the export makes of it for int8."""
    model = BiSeNet(backbone=request.param, width=0.0625)
    deployed = deployment.deploy(model, (64, 96), output="all_heads")
    return model, convert.optimize(deployed, "int8", [np.zeros((64, 96, 3), np.uint8)])


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


def rounded_tensors(model, rounding, alike):
    """Sorted names of what the layers of type `rounding` round: nested tuples `(kind, *inputs)`, back to the photo and
    to the convolutions, as `alike` names them."""
    _, graph = rewriting.read(model)

    def path(node):
        if node is None or node.kind == "Cast" or node.name.startswith("image"):
            return "photo"
        if rounding_points.is_conv(node) or isinstance(node.operation, RoundedConv):
            return alike(node)
        inputs = [graph.producer(x) for x in node.inputs]
        # Whatever gives the values of its input, all of them rounded already, and batch norm.
        if isinstance(node.operation, rounding) or node.kind in (*rounding_points.SAME_SCALE_KINDS, "BatchNorm"):
            return path(inputs[0])
        return (node.kind, *map(path, inputs))

    found = {str(path(graph.producer(node.inputs[0]))) for node in graph.nodes if isinstance(node.operation, rounding)}
    return sorted(found - {"photo"})


def test_rounds_the_tensors_that_the_export_rounds(exported):
    """All but the photo, which the export rounds to the whole numbers that it has already."""
    model, file = exported
    names = {layer.name for layer in model.layers}

    def alike(node):
        name = node.operation.conv.name if isinstance(node.operation, RoundedConv) else node.name
        # A convolution with batch norm in it has the name of that.
        of_batch_norm = "bn".join(name.rsplit("conv", 1))
        return of_batch_norm if of_batch_norm in names else name

    expected = rounded_tensors(file, layers.Rounding, alike)
    assert rounded_tensors(quantize_aware(model), Rounding, alike) == expected
    assert len(expected) > 40


def test_rounds_the_kernels_that_the_export_rounds(exported):
    model, file = exported
    convs = [layer for layer in file.layers if isinstance(layer, layers.FixedConv2D)]
    plain = {layer.name for layer in convs if layer.steps is None}
    network = quantize_aware(model)
    assert sum(isinstance(layer, RoundedConv) for layer in network.layers) == len(convs) - len(plain)
    assert {layer.name for layer in network.layers if isinstance(layer, keras.layers.Conv2D)} == plain


def test_shares_the_weights(model, network):
    ours, theirs = ({id(variable) for variable in each.trainable_variables} for each in (network, model))
    assert ours == theirs


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
