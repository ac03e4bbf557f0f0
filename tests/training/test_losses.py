"""The losses against PyTorch's own, and against sorting."""

import math

import numpy as np
import pytest
import tensorflow as tf
import torch

from keras_bisenet.training import losses
from keras_bisenet.training.losses import cross_entropy, kth_largest, ohem_cross_entropy

# Rounding of values up to about 20, and of sums over a few hundred of them.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


def example(dtype, shape=(2, 7, 5), classes=6, ignored=0.2, scale=5, seed=0):
    """Logits `[*shape, classes]` and int32 labels `[*shape]`, a share of them 255."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=shape)
    labels[random.random(shape) < ignored] = 255
    return (scale * random.normal(size=(*shape, classes))).astype(dtype), labels.astype(np.int32)


def with_gradient(loss, logits, *arguments, upstream=None, **options):
    """(loss, gradient of its sum or of its product with `upstream`), arrays."""
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = loss(logits, *arguments, **options)
        total = tf.reduce_sum(losses if upstream is None else losses * upstream)
    return losses.numpy(), tape.gradient(total, logits).numpy()


def torch_with_gradient(loss, logits, upstream=None):
    """The same of a function of `[N, C, H, W]`; the gradient comes back as `[N, H, W, C]`."""
    leaf = torch.tensor(logits, requires_grad=True)
    losses = loss(leaf.movedim(-1, 1))
    (losses if upstream is None else losses * torch.tensor(upstream)).sum().backward()
    return losses.detach().numpy(), leaf.grad.numpy()


def torch_cross_entropy(labels):
    labels = torch.tensor(labels).long()
    return lambda logits: torch.nn.functional.cross_entropy(logits, labels, ignore_index=255, reduction="none")


def plain_ohem(labels, threshold, share):
    """The original's criterion, by sorting: the losses over the limit, or the so many largest."""
    pixelwise, limit = torch_cross_entropy(labels), -math.log(threshold)
    fewest = max(int(labels.size * share), 1)

    def loss(logits):
        losses = pixelwise(logits).flatten().sort(descending=True).values
        hard = losses[losses > limit]
        return hard.mean() if len(hard) >= fewest else losses[:fewest].mean()

    return loss


@pytest.mark.parametrize(("shape", "classes", "ignored"), [((2, 7, 5), 6, 0.2), ((3, 1, 11), 2, 0)])
def test_cross_entropy_equals_pytorch(dtype, shape, classes, ignored):
    logits, labels = example(dtype, shape, classes, ignored)
    upstream = np.random.default_rng(1).normal(size=labels.shape).astype(dtype)
    losses, gradient = with_gradient(cross_entropy, logits, labels, upstream=upstream)
    expected, expected_gradient = torch_with_gradient(torch_cross_entropy(labels), logits, upstream)
    assert losses.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(losses, expected, rtol=0, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=TOLERANCE[dtype])
    assert (losses[labels == 255] == 0).all()
    assert (gradient[labels == 255] == 0).all()


def test_cross_entropy_of_extreme_logits(dtype):
    """No overflow: exp(1e4) is none of float64's numbers either."""
    logits = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4], [1e4, -1e4, 3]], dtype)[:, np.newaxis]
    labels = np.array([0, 1, 1, 1], np.int32)[:, np.newaxis]
    losses, gradient = with_gradient(cross_entropy, logits, labels)
    np.testing.assert_allclose(losses[:, 0], [0, math.log(3), math.log(2), 2e4], rtol=1e-6)
    third = 1 / 3
    expected = [[0, 0, 0], [third, third - 1, third], [0.5, -0.5, 0], [1, -1, 0]]
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=0, atol=1e-6)


def test_cross_entropy_of_ignored_pixels_is_zero_whatever_their_logits_are(dtype):
    largest = np.finfo(dtype).max
    logits = np.array([[largest, 0], [0, largest / 2], [1, 2]], dtype)
    losses, gradient = with_gradient(cross_entropy, logits, np.array([255, 255, 0]))
    np.testing.assert_allclose(losses, [0, 0, math.log(1 + math.e)], rtol=1e-6)
    assert (gradient[:2] == 0).all()


def test_cross_entropy_inside_a_graph_of_unknown_size(dtype):
    spec = (tf.TensorSpec([None, None, None, 6], dtype), tf.TensorSpec([None, None, None], tf.int32))
    graph = tf.function(cross_entropy, input_signature=spec)
    for shape in ((1, 2, 3), (2, 5, 4)):
        logits, labels = example(dtype, shape)
        assert graph(logits, labels).shape == shape
        np.testing.assert_allclose(graph(logits, labels), cross_entropy(logits, labels), atol=TOLERANCE[dtype])


def numbers(dtype):
    """Kind of numbers -> `[N]` array."""
    random, info = np.random.default_rng(0), np.finfo(dtype)
    kinds = {
        "random": random.exponential(size=1000),
        "of every exponent": np.exp2(random.uniform(*np.log2([info.tiny, info.max]), size=1000)),
        "ties": np.repeat(np.array([0.5, 0.25, 3, 1e-30]), 5),
        "all equal": np.full(17, 0.7),
        "different in the last bit": np.tile([1, np.nextafter(np.array(1, dtype), 2)], 6),
        "zeros": np.zeros(9),
        "smallest": info.smallest_subnormal * np.arange(1, 40, dtype=dtype),
        "smallest and largest": np.array([0, info.smallest_subnormal, info.tiny, 1, info.max, np.inf], dtype),
        "single": np.array([5]),
    }
    return {kind: values.astype(dtype) for kind, values in kinds.items()}


@pytest.mark.parametrize("kind", numbers("float32"))
def test_kth_largest(dtype, kind):
    values = numbers(dtype)[kind]
    select = tf.function(
        kth_largest, input_signature=[tf.TensorSpec([None], values.dtype), tf.TensorSpec([], tf.int32)]
    )
    count = len(values)
    for k in {1, min(2, count), count // 16 + 1, count // 2 + 1, max(count - 1, 1), count}:
        assert select(values, k).numpy() == np.sort(values)[-k], k


def test_kth_largest_of_zeros_of_either_sign(dtype):
    values = np.array([0.0, -0.0, 2, -0.0, 1], dtype)
    assert [kth_largest(tf.constant(values), k).numpy() for k in range(1, 6)] == [2, 1, 0, 0, 0]


def check_ohem(logits, labels, threshold=0.7, share=1 / 16):
    """Compares with sorting, and returns how many pixels count."""
    loss, gradient = with_gradient(ohem_cross_entropy, logits, labels, threshold, share)
    expected, expected_gradient = torch_with_gradient(plain_ohem(labels, threshold, share), logits)
    tolerance = TOLERANCE[str(logits.dtype)]
    np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=0)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=tolerance)
    return np.count_nonzero(expected_gradient.any(-1))


def test_ohem_where_many_pixels_are_hard(dtype):
    assert check_ohem(*example(dtype, shape=(2, 16, 12))) > 384 / 2


def test_ohem_where_few_pixels_are_hard(dtype):
    logits, labels = example(dtype, shape=(2, 16, 12), scale=1)
    # The label's logit is the largest by far, but for 5 pixels.
    np.put_along_axis(logits, np.where(labels == 255, 0, labels)[..., np.newaxis], 9, axis=-1)
    logits[0, 0, :5] = example(dtype, (5,), seed=1)[0]
    assert check_ohem(logits, labels) == 24
    assert check_ohem(logits, labels, share=1 / 100) == 3


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("share", [1e-9, 0.1, 0.25, 1.0])
def test_ohem_with_other_thresholds_and_shares(dtype, threshold, share):
    check_ohem(*example(dtype, shape=(1, 9, 13), scale=2), threshold, share)


@pytest.mark.parametrize("hard", [1, 2, 3, 4])
def test_ohem_around_the_fewest_that_count(hard):
    """Of 32 pixels 2 are the fewest: 1, 2 and 3 pixels over the limit are on either side of it."""
    probability = np.full(32, 0.9)
    probability[:hard] = (0.1, 0.3, 0.5, 0.6)[:hard]
    logits = np.log(np.stack([probability, 1 - probability], -1)).reshape(1, 4, 8, 2)
    labels = np.zeros((1, 4, 8), np.int32)
    expected = np.mean(-np.log(np.sort(probability)[: max(hard, 2)]))
    assert ohem_cross_entropy(tf.constant(logits), labels).numpy() == pytest.approx(expected, rel=1e-12)
    # Where the hardest easy pixels are equal, any choice among them is as good: no gradient to compare.


def test_a_pixel_exactly_at_the_threshold_is_not_hard():
    """Limit ln 2; losses: 4 of 2 ln 2 or so, 8 of exactly ln 2 (two equal logits), 20 of less."""
    logits = np.zeros((1, 4, 8, 2))
    flat = logits.reshape(32, 2)
    flat[:4, 1] = 3
    flat[12:, 0] = 2
    labels = np.zeros((1, 4, 8), np.int32)
    hard, exact = math.log(1 + math.exp(3)), math.log(2)
    for share, expected in ((1 / 16, hard), (1 / 8, hard), (1 / 4, (4 * hard + 4 * exact) / 8)):
        loss = ohem_cross_entropy(tf.constant(logits), labels, 0.5, share).numpy()
        assert loss == pytest.approx(expected, rel=1e-12)


def test_ties_share_the_gradient_of_those_that_count(dtype):
    """All losses are equal: the loss is that of one, and the gradient treats equal pixels alike."""
    logits, labels = np.tile(np.array([3, 0], dtype), (1, 4, 8, 1)), np.zeros((1, 4, 8), np.int32)
    loss, gradient = with_gradient(ohem_cross_entropy, logits, labels)
    assert loss == pytest.approx(math.log(1 + math.exp(-3)), rel=1e-5)
    wrong = 1 / (1 + math.exp(3))
    np.testing.assert_allclose(gradient.reshape(32, 2), np.tile([-wrong / 32, wrong / 32], (32, 1)), rtol=1e-5)


@pytest.mark.parametrize("loss", [ohem_cross_entropy, losses.lovasz_softmax])
def test_photos_of_nothing_but_ignored_pixels_give_zero(dtype, loss):
    value, gradient = with_gradient(loss, *example(dtype, ignored=1))
    assert value == 0 and not gradient.any()


def test_ignored_pixels_count_among_the_fewest():
    """As in the original: 30 of 32 pixels have no label, and the two that have one are easy."""
    logits, labels = np.zeros((1, 4, 8, 2)), np.full((1, 4, 8), 255, np.int32)
    logits[0, 0, :2, 0], labels[0, 0, :2] = 4, 0
    easy = math.log(1 + math.exp(-4))
    assert ohem_cross_entropy(tf.constant(logits), labels).numpy() == pytest.approx(easy, rel=1e-12)
    assert ohem_cross_entropy(tf.constant(logits), labels, 0.7, 1 / 8).numpy() == pytest.approx(easy / 2, rel=1e-12)


@pytest.mark.parametrize("half", [tf.float16, tf.bfloat16])
def test_ohem_of_half_precision_is_computed_in_float32(half):
    logits, labels = example("float32", shape=(2, 16, 12))
    rounded = tf.cast(logits, half)
    loss = ohem_cross_entropy(rounded, labels)
    assert loss.dtype == tf.float32
    assert loss.numpy() == ohem_cross_entropy(tf.cast(rounded, tf.float32), labels).numpy()


def test_the_sum_over_very_many_pixels_is_precise():
    """A training batch has 2 million pixels; float32 sums of so many equal terms would drift if added one by one."""
    logits = np.zeros((8, 512, 512, 2), np.float32)
    loss = ohem_cross_entropy(tf.constant(logits), np.zeros((8, 512, 512), np.int32)).numpy()
    assert loss == pytest.approx(math.log(2), rel=1e-5)


def plain_pixel_distillation(logits, taught, temperature):
    logs, taught_logs = (torch.log_softmax(each / temperature, 1) for each in (logits, taught))
    divergence = torch.nn.functional.kl_div(logs, taught_logs, reduction="sum", log_target=True)
    return temperature**2 * divergence / taught[:, 0].numel()


def plain_channel_distillation(logits, taught, temperature):
    """As the authors' code: softmax over all pixels of a channel, summed, divided by photos and channels."""
    logs, taught_logs = (torch.log_softmax(each.flatten(2) / temperature, 2) for each in (logits, taught))
    return temperature**2 * (taught_logs.exp() * (taught_logs - logs)).sum() / taught[..., 0, 0].numel()


@pytest.mark.parametrize(
    ("loss", "plain"),
    [
        (losses.pixel_distillation, plain_pixel_distillation),
        (losses.channel_distillation, plain_channel_distillation),
    ],
    ids=["pixel", "channel"],
)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_equals_pytorch(dtype, loss, plain, temperature):
    logits, taught = example(dtype)[0], example(dtype, seed=1)[0]
    of_torch = torch.tensor(taught).movedim(-1, 1)
    expected, expected_gradient = torch_with_gradient(lambda logits: plain(logits, of_torch, temperature), logits)
    value, gradient = with_gradient(loss, logits, taught, temperature)
    np.testing.assert_allclose(value, expected, rtol=10 * TOLERANCE[dtype])
    largest = np.abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=10 * TOLERANCE[dtype] * largest)


@pytest.mark.parametrize(
    ("loss", "axis"), [(losses.pixel_distillation, 3), (losses.channel_distillation, (1, 2))], ids=["pixel", "channel"]
)
def test_who_agrees_with_the_teacher_has_nothing_to_learn(dtype, loss, axis):
    """Whatever is added to all logits that a softmax sees leaves its probabilities."""
    logits = example(dtype)[0]
    shape = logits.sum(axis, keepdims=True).shape
    taught = logits + np.random.default_rng(0).normal(size=shape).astype(dtype)
    value, gradient = with_gradient(loss, logits, taught)
    assert abs(value) <= 100 * TOLERANCE[dtype]
    np.testing.assert_allclose(gradient, 0, atol=10 * TOLERANCE[dtype])


def test_distillation_by_hand():
    """Two pixels and two classes: q = (3/4, 1/4) against p = (1/2, 1/2) in one pixel, alike in the other."""
    taught = np.log(np.array([[[[3.0, 1.0], [1.0, 1.0]]]]))
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    logits = tf.zeros([1, 1, 2, 2], tf.float64)
    assert losses.pixel_distillation(logits, taught).numpy() == pytest.approx(divergence / 2, rel=1e-12)
    # The first class is seen in (3/4, 1/4), the second alike.
    assert losses.channel_distillation(logits, taught, 1.0).numpy() == pytest.approx(divergence / 2, rel=1e-12)


def plain_lovasz(labels):
    """By the definition: the errors of a class in order, each times what its pixel adds to one minus the IoU."""

    def loss(logits):
        photos = []
        for scores, truth in zip(torch.softmax(logits, 1), torch.tensor(labels), strict=True):
            known = truth != 255
            scores, truth = scores[:, known], truth[known]
            classes = []
            for label in truth.unique().tolist():
                of_class = truth == label
                errors = (of_class.to(scores.dtype) - scores[label]).abs()
                total, before = 0.0, 0.0
                wrong = torch.zeros_like(of_class)
                for pixel in errors.detach().argsort(descending=True):
                    wrong[pixel] = True
                    # What is missed is no intersection, what is found in excess widens the union.
                    now = 1 - (of_class & ~wrong).sum() / (of_class | wrong).sum()
                    total, before = total + errors[pixel] * (now - before), now
                classes.append(total)
            photos.append(sum(classes) / len(classes))
        return sum(photos) / len(photos)

    return loss


def test_lovasz_softmax_equals_its_definition_in_pytorch(dtype):
    logits, labels = example(dtype, shape=(3, 5, 4))
    expected, expected_gradient = torch_with_gradient(plain_lovasz(labels), logits)
    value, gradient = with_gradient(losses.lovasz_softmax, logits, labels)
    np.testing.assert_allclose(value, expected, rtol=10 * TOLERANCE["float32"])
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=TOLERANCE["float32"])
    assert (gradient[labels == 255] == 0).all()


def test_lovasz_softmax_of_certain_labels_is_what_the_iou_lacks():
    """Class 0 has an IoU of 3 / 4, class 1 of 1 / 2; an unknown pixel is not seen, whatever is predicted there."""
    labels = np.array([[[0, 0, 1, 1, 0, 255]]], np.int32)
    predicted = np.array([[[0, 0, 1, 0, 0, 2]]])
    logits = 200.0 * np.eye(3)[predicted]
    value = losses.lovasz_softmax(tf.constant(logits), labels).numpy()
    assert value == pytest.approx(1 - (3 / 4 + 1 / 2) / 2, abs=1e-12)
