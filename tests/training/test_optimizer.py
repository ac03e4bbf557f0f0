"""SGD against PyTorch's, and the average by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from keras_bisenet import BiSeNet
from keras_bisenet.training.optimizer import HEAD_LAYERS, SGD, Average

# Layer, its shape, whether it learns faster and whether it decays.
LAYERS = {
    "backbone_conv1/kernel": ((3, 3, 2, 4), False, True),
    "backbone_bn1/gamma": ((4,), False, False),
    "arm16_conv/kernel": ((1, 1, 4, 2), False, True),
    "ffm_conv1/kernel": ((1, 1, 2, 3), True, True),
    "ffm_bn/beta": ((3,), True, False),
    "conv_out_logits/kernel": ((1, 1, 3, 5), True, True),
    "conv_out32_bn/gamma": ((6,), True, False),
}


def variables(dtype="float64", seed=0):
    random = np.random.default_rng(seed)
    made = []
    for path, (shape, *_) in LAYERS.items():
        layer, name = path.split("/")
        with keras.name_scope(layer):
            made.append(keras.Variable(random.normal(size=shape), dtype=dtype, name=name))
    assert [variable.path for variable in made] == list(LAYERS)
    return made


def gradients(steps, seed=1):
    random = np.random.default_rng(seed)
    return [[random.normal(size=shape) for shape, *_ in LAYERS.values()] for _ in range(steps)]


def apply(optimizer, step, rate, keep=True):
    """One step in a graph, as the trainer makes it."""

    @tf.function
    def graph():
        dtype = optimizer.variables[0].dtype
        optimizer.apply([tf.constant(g, dtype) for g in step], tf.constant(rate, tf.float64), tf.constant(keep))

    graph()


@pytest.mark.parametrize(
    ("momentum", "weight_decay", "multiplier"), [(0.9, 5e-4, 10), (0.0, 5e-4, 10), (0.99, 5e-4, 3), (0.9, 0.25, 2)]
)
def test_sgd_equals_pytorch_while_the_rate_changes(momentum, weight_decay, multiplier):
    ours = variables()
    optimizer = SGD(ours, momentum, weight_decay, multiplier)
    parameters = [torch.nn.Parameter(torch.tensor(variable.numpy())) for variable in ours]
    groups = [
        {"params": [parameter], "weight_decay": weight_decay * decays, "multiple": multiplier if of_head else 1}
        for parameter, (_, of_head, decays) in zip(parameters, LAYERS.values(), strict=True)
    ]
    reference = torch.optim.SGD(groups, lr=0.0, momentum=momentum)
    for rate, step in zip((1e-5, 0.3, 0.2, 0.7, 0.01, 0.0), gradients(6), strict=True):
        apply(optimizer, step, rate)
        for group in reference.param_groups:
            group["lr"] = rate * group["multiple"]
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient)
        reference.step()
        for variable, velocity, parameter in zip(ours, optimizer.velocities, parameters, strict=True):
            np.testing.assert_allclose(variable.numpy(), parameter.detach().numpy(), rtol=1e-12, atol=1e-12)
            buffer = reference.state[parameter].get("momentum_buffer")
            if momentum:
                np.testing.assert_allclose(velocity.numpy(), buffer.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_that_is_not_kept_leaves_everything_as_it_is(dtype):
    ours = variables(dtype)
    optimizer = SGD(ours)
    first, second = gradients(2)
    apply(optimizer, first, 0.1)
    before = [[part.numpy() for part in pair] for pair in zip(ours, optimizer.velocities, strict=True)]
    overflown = [np.where(g > 1, np.inf, np.where(g < -1, np.nan, g)) for g in second]
    assert not all(np.isfinite(g).all() for g in overflown)
    apply(optimizer, overflown, 0.1, keep=False)
    for variable, velocity, (weight, speed) in zip(ours, optimizer.velocities, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), weight)
        np.testing.assert_array_equal(velocity.numpy(), speed)


def test_which_variables_of_the_network_decay_and_which_learn_faster():
    """ResNet-18 and the context path have 27 convolutions and as many batch norms; fusion and heads 9 and 4."""
    model = BiSeNet(5, width=0.0625)
    optimizer = SGD(model.trainable_variables, 0.0, 0.5, 10.0)
    random = np.random.default_rng(0)
    for variable in optimizer.variables:
        variable.assign(random.uniform(1, 2, variable.shape))
    before = [variable.numpy() for variable in optimizer.variables]
    apply(optimizer, [np.ones_like(weight) for weight in before], 1e-3)
    counts = {}
    for variable, weight in zip(optimizer.variables, before, strict=True):
        step = (weight - variable.numpy()) / 1e-3
        (matching,) = [
            (factor, decay)
            for factor in (1, 10)
            for decay in (0.0, 0.5)
            if np.allclose(step, factor * (1 + decay * weight), rtol=1e-2)
        ]
        counts.setdefault(matching, []).append(variable.path)
    assert {kind: len(paths) for kind, paths in counts.items()} == {(1, 0.5): 27, (1, 0): 54, (10, 0.5): 9, (10, 0): 8}
    for (factor, decay), paths in counts.items():
        assert all(path.startswith(HEAD_LAYERS) == (factor == 10) for path in paths)
        assert {path.split("/")[1] for path in paths} == ({"kernel"} if decay else {"gamma", "beta"})


def test_average_by_hand():
    with keras.name_scope("layer"):
        kernel = keras.Variable(np.array([1.0, -2.0]), dtype="float64", name="kernel")
        mean = keras.Variable(np.array([[4.0]]), dtype="float64", name="moving_mean", trainable=False)
    average = Average([kernel, mean])
    # It begins with the variables, and keeps apart from them.
    kernel.assign([3.0, 2.0])
    mean.assign([[8.0]])
    np.testing.assert_array_equal(average.values[0].numpy(), [1, -2])
    update = tf.function(average.update)
    update(tf.constant(0.75, tf.float64))
    np.testing.assert_allclose(average.values[0].numpy(), [1.5, -1], rtol=1e-15)
    np.testing.assert_allclose(average.values[1].numpy(), [[5]], rtol=1e-15)
    update(tf.constant(0.1, tf.float64))
    np.testing.assert_allclose(average.values[0].numpy(), [0.15 + 2.7, -0.1 + 1.8], rtol=1e-14)
    np.testing.assert_array_equal(kernel.numpy(), [3, 2])
    assert average.variables == [kernel, mean]


def test_average_of_float32_is_not_stuck_by_rounding():
    """0.998 of the old and 0.002 of the new: after 5000 steps the old one is 4e-5 of the average."""
    with keras.name_scope("layer"):
        kernel = keras.Variable(np.array([1000.0]), dtype="float32", name="kernel")
    average = Average([kernel])
    kernel.assign([1001.0])
    update = tf.function(average.update)
    for _ in range(500):
        update(tf.constant(0.99, tf.float64))
    np.testing.assert_allclose(average.values[0].numpy(), 1001, rtol=0, atol=0.01)
