"""Training steps of the whole network, against steps computed without the trainer."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from support.refusals import refused

from keras_bisenet import HEADS, BiSeNet, normalize
from keras_bisenet.models import layers
from keras_bisenet.training.configs import TrainConfig
from keras_bisenet.training.losses import ohem_cross_entropy
from keras_bisenet.training.trainer import Trainer, freeze
from keras_bisenet.utils.errors import TrainingError

pytestmark = pytest.mark.slow

CLASSES = 3
CONFIG = TrainConfig(num_classes=CLASSES, learning_rate=0.01, warmup_steps=0, steps=100, power=0)


def batch(seed=0, count=2, height=32, width=40):
    """uint8 photos of colored noise, and labels that follow from the colors, a few of them unknown."""
    random = np.random.default_rng(seed)
    photos = random.integers(256, size=(count, height // 8, width // 8, 3)).repeat(8, 1).repeat(8, 2)
    labels = (photos[..., 0] > 100).astype(np.uint8) + (photos[..., 1] > 150)
    labels[:, :3] = 255
    return photos.astype(np.uint8), labels


def network(dtype="float32", seed=0):
    keras.utils.set_random_seed(seed)
    return BiSeNet(CLASSES, dtype=dtype)


def make(seed=0, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return Trainer(network(config.precision, seed), config)


def weights(model):
    return {variable.path: variable.numpy() for variable in model.variables}


@pytest.fixture(scope="module")
def trained():
    """A trainer after twelve steps on one batch, the losses of each, and the averages and weights of the first two."""
    trainer = make(ema_decay=0.15)
    batches = itertools.repeat(batch())
    history, losses = [(weights(trainer.model), trainer.result())], []
    for _ in range(12):
        losses.append(trainer.step(batches))
        if len(history) < 3:
            history.append((weights(trainer.model), trainer.result()))
    return trainer, losses, history


def test_the_losses_of_one_batch_fall(trained):
    trainer, losses, _ = trained
    assert np.shape(losses) == (12, len(HEADS))
    assert trainer.completed == 12
    for head in range(len(HEADS)):
        assert losses[-1][head] < 0.8 * losses[0][head]


def test_the_average_follows_the_weights(trained):
    """0.1 of the old average in the first step, then min(0.15, 2 / 11) of it."""
    trainer, _, history = trained
    average = dict(history[0][0])
    for (new, result), decay in zip(history[1:], (0.1, 0.15), strict=True):
        average = {path: decay * average[path] + (1 - decay) * new[path] for path in new}
        for variable, value in zip(trainer.model.variables, result, strict=True):
            np.testing.assert_allclose(value, average[variable.path], rtol=1e-5, atol=1e-6)


def test_without_an_average_the_weights_are_the_result():
    trainer = make(ema_decay=0.0)
    assert trainer.average is None
    for variable, value in zip(trainer.model.variables, trainer.result(), strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_the_rate_follows_the_schedule():
    trainer = make(learning_rate=0.4, steps=6, warmup_steps=2, warmup_start=0.1, power=2)
    rates = []
    for trainer.completed in range(6):
        rates.append(trainer.learning_rate())
    assert rates == pytest.approx([0.1, 0.2, 0.4, 0.4 * 0.5625, 0.1, 0.025])


@pytest.fixture
def eagerly():
    """For a step or two that is faster than building the graph of one."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def accumulating():
    return make(precision="float64", accumulate=2, ema_decay=0.9)


def gradients(model, images, labels):
    """Losses of the heads and gradients by Keras path, eagerly."""
    with tf.GradientTape() as tape:
        outputs = model(normalize(images, "float64"), training=True)
        losses = [ohem_cross_entropy(outputs[head], tf.cast(labels, tf.int32)) for head in HEADS]
        total = tf.add_n(losses)
    variables = model.trainable_variables
    values = tape.gradient(total, [variable.value for variable in variables])
    paths = [variable.path for variable in variables]
    return np.array(losses), {path: value.numpy() for path, value in zip(paths, values, strict=True)}


def test_accumulated_batches_make_the_step_of_the_averaged_gradients(accumulating):
    state = accumulating.state()
    model = network("float64")
    for variable in model.variables:
        variable.assign(state[f"weights/{variable.path}"])
    velocities = {variable.path: state[f"velocity/{variable.path}"] for variable in model.trainable_variables}
    batches = [batch(seed) for seed in range(4)]
    stream = iter(batches)
    for step in range(2):
        (first, one), (second, two) = (gradients(model, *batches[2 * step + i]) for i in range(2))
        for variable in model.trainable_variables:
            path = variable.path
            decay = 5e-4 if path.endswith("kernel") else 0
            factor = 10 if path.startswith(("ffm", "conv_out")) else 1
            velocities[path] = 0.9 * velocities[path] + (one[path] + two[path]) / 2 + decay * variable.numpy()
            variable.assign_sub(factor * 0.01 * velocities[path])
        np.testing.assert_allclose(accumulating.step(stream), (first + second) / 2, rtol=1e-9)
    assert next(stream, None) is None
    expected = weights(model)
    for path, value in weights(accumulating.model).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-8, atol=1e-10, err_msg=path)


def test_restored_state_goes_on_as_if_nothing_had_happened(accumulating):
    def steps(*seeds):
        for seed in seeds:
            accumulating.step(iter([batch(seed), batch(seed + 10)]))
        return {name: np.array(value) for name, value in accumulating.state().items()}

    before = steps(0)
    expected = steps(1, 2)
    changed = steps(3)
    kernel = "weights/conv_out_logits/kernel"
    assert np.abs(changed[kernel] - expected[kernel]).max() > 1e-4
    accumulating.restore(before)
    assert accumulating.completed == before["completed"]
    again = steps(1, 2)
    assert again.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(again[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.usefixtures("eagerly")
def test_frozen_layers_keep_their_weights_and_statistics_and_the_others_learn():
    trainer = make(freeze=("backbone", "conv_head16_bn"), ema_decay=0.5)
    before = weights(trainer.model)
    trainer.step(iter([batch()]))
    after = weights(trainer.model)
    frozen = {path for path in before if path.startswith(("backbone", "conv_head16_bn"))}
    # 20 convolutions with as many batch norms of four variables each, and one more batch norm.
    assert len(frozen) == 20 + 20 * 4 + 4
    for path in before:
        assert np.array_equal(before[path], after[path]) == (path in frozen), path
    assert not frozen & {variable.path for variable in trainer.optimizer.variables}
    for variable, value in zip(trainer.model.variables, trainer.result(), strict=True):
        if variable.path in frozen:
            np.testing.assert_array_equal(value, before[variable.path])


@pytest.mark.usefixtures("eagerly")
def test_frozen_batch_norms_normalize_by_their_statistics():
    """Where every batch norm is frozen, the losses are those of inference."""
    frozen = ("backbone", "conv_avg", "conv_head", "arm", "ffm", "conv_out_", "conv_out16", "conv_out32_bn")
    trainer = make(freeze=frozen)
    learning = [variable.path for variable in trainer.model.trainable_variables]
    assert learning == ["conv_out32_conv/kernel", "conv_out32_logits/kernel"]
    for variable in trainer.model.variables:
        if variable.path.endswith(("moving_mean", "moving_variance")):
            variable.assign(np.random.default_rng(0).uniform(0.5, 2, variable.shape))
    images, labels = batch()
    outputs = trainer.model(normalize(images), training=False)
    expected = [ohem_cross_entropy(outputs[head], tf.cast(labels, tf.int32)).numpy() for head in HEADS]
    np.testing.assert_allclose(trainer.step(iter([(images, labels)])), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["backbone", "head"], "freeze names 'head'"),
        (["backbone", "conv", "arm", "ffm"], "freeze leaves nothing to train: backbone, conv, arm, ffm;"),
    ],
)
def test_names_that_freeze_nothing_or_everything(names, found):
    with refused(TrainingError, found):
        freeze(BiSeNet(CLASSES, width=0.0625), names)


def check_first_step(trainer, trained, loss_tolerance, step_tolerance):
    """The loss of the main head and the step of its kernel are nearly those of float32 on the same batch.

    Nearly: rounding is multiplied by batch norms over no more than four values.
    """
    _, losses, history = trained
    path = "conv_out_logits/kernel"
    np.testing.assert_array_equal(weights(trainer.model)[path], history[0][0][path])
    np.testing.assert_allclose(trainer.step(iter([batch()]))[0], losses[0][0], rtol=loss_tolerance)
    (before, _), (after, _), _ = history
    expected = after[path] - before[path]
    difference = weights(trainer.model)[path] - after[path]
    assert np.linalg.norm(difference) < step_tolerance * np.linalg.norm(expected)
    assert {variable.dtype for variable in trainer.model.variables} == {"float32"}


@pytest.mark.usefixtures("eagerly")
def test_mixed_bfloat16_makes_the_step_of_float32_nearly(trained):
    check_first_step(make(precision="mixed_bfloat16"), trained, 0.02, 0.5)


@pytest.fixture(scope="module")
def half(trained):
    """A trainer in mixed_float16 after one step, and its state then."""
    trainer = make(precision="mixed_float16")
    trainer.loss_scale.assign([1024, 5])
    check_first_step(trainer, trained, 0.005, 0.2)
    return trainer, trainer.state()


def test_mixed_float16_makes_the_step_of_float32_nearly(half):
    """The loss scale is not seen in it; a step without overflow is counted."""
    np.testing.assert_array_equal(half[1]["loss_scale"], [1024, 6])


def test_float16_overflow_skips_the_step_and_halves_the_scale(half):
    trainer, before = half
    trainer.restore(before | {"loss_scale": np.array([2.0**60, 7], np.float32)})
    losses = trainer.step(iter([batch()]))
    assert np.isfinite(losses).all()
    np.testing.assert_array_equal(trainer.loss_scale.numpy(), [2.0**59, 0])
    after = trainer.state()
    kept = [name for name in before if name.startswith("velocity/")]
    kept += [f"weights/{variable.path}" for variable in trainer.model.trainable_variables]
    for name in kept:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


def test_float16_scale_doubles_after_two_thousand_steps_without_overflow(half):
    trainer, before = half
    trainer.restore(before | {"loss_scale": np.array([512, 1998], np.float32)})
    for expected in ([512, 1999], [1024, 0]):
        trainer.step(iter([batch()]))
        np.testing.assert_array_equal(trainer.loss_scale.numpy(), expected)


def to_torch(array):
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("shape", [(4, 5, 7, 3), (2, 1, 1, 3), (1, 64, 33, 3)])
def test_fused_batch_norm_equals_pytorch(shape, graph):
    """Forward, all gradients, and the statistics after two batches."""
    torch.manual_seed(0)
    network = torch.nn.BatchNorm2d(3)
    layer = layers.BatchNorm(epsilon=1e-5, momentum=0.9)
    layer.build((None, None, None, 3))
    for variable, tensor in [
        (layer.gamma, network.weight.data.uniform_(0.5, 1.5)),
        (layer.beta, network.bias.data.normal_()),
        (layer.moving_mean, network.running_mean.normal_()),
        (layer.moving_variance, network.running_var.uniform_(0.5, 2)),
    ]:
        variable.assign(tensor.numpy())
    call = tf.function(lambda x: layer(x, training=True)) if graph else lambda x: layer(x, training=True)
    random = np.random.default_rng(0)
    for _ in range(2):
        images, upstream = (random.normal(1, 3, shape).astype(np.float32) for _ in range(2))
        with tf.GradientTape() as tape:
            inputs = tf.constant(images)
            tape.watch(inputs)
            result = call(inputs)
        variables = [inputs, layer.gamma.value, layer.beta.value]
        ours = [value.numpy() for value in tape.gradient(result, variables, output_gradients=tf.constant(upstream))]
        leaf = to_torch(images).requires_grad_()
        network.zero_grad()
        expected = network(leaf)
        expected.backward(to_torch(upstream))
        theirs = [leaf.grad.permute(0, 2, 3, 1), network.weight.grad, network.bias.grad]
        np.testing.assert_allclose(result, expected.detach().permute(0, 2, 3, 1), rtol=0, atol=2e-5)
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean.numpy(), network.running_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.numpy(), network.running_var, rtol=1e-5)


def test_batch_norm_in_bfloat16_keeps_precise_statistics():
    """Inputs and results are rounded to 8 bits, means and variances are not."""
    layer = layers.BatchNorm(epsilon=1e-5, momentum=0.9, dtype="mixed_bfloat16")
    images = tf.cast(np.random.default_rng(0).normal(3, 2, (8, 16, 16, 2)), tf.bfloat16)
    result = layer(images, training=True)
    assert result.dtype == tf.bfloat16
    exact = tf.cast(images, tf.float64).numpy()
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * exact.var((0, 1, 2), ddof=1), rtol=1e-5)
    normal = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    np.testing.assert_allclose(tf.cast(result, tf.float64), normal, rtol=0.01, atol=0.01)


def test_a_student_learns_the_logits_of_the_network_and_not_the_labels():
    changes = {"label_weight": 0.0, "pixel_weight": 1.0, "quantize_aware": True}
    changes |= {"learning_rate": 0.003, "head_lr_multiplier": 1.0, "weight_decay": 0.0}
    photos, labels = batch()
    trainer, other = make(**changes), make(**changes)
    taught = weights(trainer.model)
    for each in (trainer, other):
        kernel = each.model.get_layer("conv_out_logits").kernel
        kernel.assign(kernel + 0.1 * np.random.default_rng(0).normal(size=kernel.shape))
    losses = [trainer.step(itertools.repeat((photos, labels))) for _ in range(5)]
    assert 0 < losses[-1][0] < losses[0][0] / 2
    with_other_labels = other.step(itertools.repeat((photos, 2 - np.minimum(labels, 2))))
    np.testing.assert_allclose(with_other_labels, losses[0], rtol=1e-3)

    # A run that goes on has the teacher of the one before, whatever it was made with.
    state = trainer.state()
    for path, value in taught.items():
        np.testing.assert_array_equal(state[f"teacher/{path}"], value)
    later = make(seed=1, **changes)
    later.restore(state)
    after, expected = (each.step(itertools.repeat((photos, labels))) for each in (later, trainer))
    np.testing.assert_allclose(after, expected, rtol=1e-3)
