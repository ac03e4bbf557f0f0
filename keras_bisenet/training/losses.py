"""The losses of a training: cross entropy over the hardest pixels of a batch, as the original has it; Lovász-softmax;
distillation.

All functions run inside `tf.distribute` too: the hardest pixels are those of the global batch, so a run on several
devices equals one on a single device.
"""

import math

import tensorflow as tf

from keras_bisenet.labels import IGNORE


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Softmax cross entropy of each pixel: log(sum(exp(logits))) - logits[label].

    It is `tf.nn.sparse_softmax_cross_entropy_with_logits` with labels to ignore, in 0.6 of the time on a CPU: the sum
    over the classes is a matrix product, and the gradient is computed only when it is asked for.

    Args:
        logits: `[..., C]` float32 or float64.
        labels: `[...]` int32, 0..C-1, or `IGNORE`.

    Returns:
        `[...]` loss, in nats, of the dtype of `logits`; 0 where the label is `IGNORE`.
    """
    classes = logits.shape[-1]
    shape = tf.shape(labels)
    known = tf.reshape(labels != IGNORE, [-1, 1])
    targets = tf.reshape(tf.where(labels == IGNORE, 0, labels), [-1])

    @tf.custom_gradient
    def compute(flat):
        top = tf.reduce_max(flat, axis=-1, keepdims=True)
        exponentials = tf.exp(flat - top)
        total = tf.matmul(exponentials, tf.ones([classes, 1], flat.dtype))
        # The difference first: two large logits would leave nothing of the logarithm's digits.
        losses = tf.math.log(total) - (tf.gather(flat, targets, batch_dims=1)[:, tf.newaxis] - top)

        def gradient(upstream):
            upstream = tf.where(known, upstream, 0)
            return exponentials * (upstream / total) - tf.one_hot(targets, classes, dtype=flat.dtype) * upstream

        return tf.where(known, losses, 0), gradient

    return tf.reshape(compute(tf.reshape(logits, [-1, classes])), shape)


def ohem_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, threshold: float = 0.7, minimum_share: float = 1 / 16
) -> tf.Tensor:
    """Mean cross entropy of the hard pixels (online hard example mining).

    Hard are the pixels whose label has a probability under `threshold`; if they are fewer than `minimum_share` of all
    pixels, that many of the largest losses count. (CoinCheung's `OhemCELoss`, which zllrunning's training uses with
    these values. Pixels without a label have the loss 0 and count as easy ones.)

    Args:
        logits: `[N, H, W, C]` float; 16-bit ones are raised to float32.
        labels: `[N, H, W]` int32, 0..C-1, or `IGNORE`.
        threshold: probability.
        minimum_share: share of the pixels of the global batch.

    Returns:
        Scalar. Under `tf.distribute` the part of this replica: the parts of all add up to the loss.
    """
    logits = logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)
    losses = tf.reshape(cross_entropy(logits, labels), [-1])
    values = tf.stop_gradient(losses)
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    fewest = tf.maximum(tf.cast(tf.cast(tf.size(values) * replicas, tf.float64) * minimum_share, tf.int32), 1)

    limit = tf.minimum(kth_largest(values, fewest), tf.constant(-math.log(threshold), values.dtype))
    above, equal = values > limit, values == limit
    counts = tf.reduce_sum(tf.cast(tf.stack([above, equal]), tf.int32), axis=1)
    above_count, equal_count = tf.unstack(tf.cast(_sum_over_replicas(counts), values.dtype))
    # Of several losses equal to the limit, only as many count as are missing.
    missing = tf.maximum(tf.cast(fewest, values.dtype) - above_count, 0)
    share = missing / tf.maximum(equal_count, 1)
    weights = tf.where(above, tf.ones([], values.dtype), tf.where(equal, share, tf.zeros([], values.dtype)))
    return tf.reduce_sum(losses * weights) / (above_count + missing)


def pixel_distillation(logits: tf.Tensor, taught: tf.Tensor, temperature: float = 1.0) -> tf.Tensor:
    """Mean Kullback-Leibler divergence of the class probabilities of a network from those of its teacher, over pixels.

        temperature ** 2 * mean over pixels of  sum over classes of  q log(q / p)

    with p and q the softmax over the classes of `logits / temperature` and `taught / temperature`. (Hinton et al.,
    "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531; less the teacher's entropy, so that it is 0
    where both agree. The square keeps the size of the gradients.)

    Args:
        logits: `[N, H, W, C]` float; 16-bit ones are raised to float32.
        taught: the teacher's, of the same shape. No gradient goes there.
        temperature: above 1, classes of low probability count more.

    Returns:
        Scalar, in nats. Under `tf.distribute` the part of this replica: the parts of all add up to the loss.
    """
    return temperature**2 * _mean_over_replicas(_divergence(logits, taught, temperature))


def channel_distillation(logits: tf.Tensor, taught: tf.Tensor, temperature: float = 4.0) -> tf.Tensor:
    """Mean Kullback-Leibler divergence of where a network sees each class from where its teacher sees it.

        temperature ** 2 * mean over photos and classes of  sum over pixels of  q log(q / p)

    with p and q the softmax over the pixels of `logits / temperature` and `taught / temperature`, each class by itself.
    (Channel-wise distillation: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", 2021,
    arXiv:2011.13256, equations 3 to 5. A small class counts as much as a large one.)

    Args:
        logits: `[N, H, W, C]` float; 16-bit ones are raised to float32.
        taught: the teacher's, of the same shape. No gradient goes there.
        temperature: the lower, the more the few strongest pixels of a class count.

    Returns:
        Scalar, in nats. Under `tf.distribute` the part of this replica: the parts of all add up to the loss.
    """
    batch, height, width, classes = tf.unstack(tf.shape(logits))

    def by_class(values):
        return tf.transpose(tf.reshape(values, [batch, height * width, classes]), [0, 2, 1])

    return temperature**2 * _mean_over_replicas(_divergence(by_class(logits), by_class(taught), temperature))


def lovasz_softmax(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """A loss that falls as the mean IoU of a photo rises, the mean over the photos.

        mean over photos, and over the classes that a photo shows, of  sum over i of  m[i] * (J(i) - J(i - 1))

    with m the errors of a class, |(1 where the label is the class, else 0) - its probability|, from the largest to the
    smallest, and J(i) one minus the IoU of the class where the first i pixels of that order are wrong and no other.
    (Berman, Triki and Blaschko, "The Lovász-Softmax loss", 2018, arXiv:1705.08790, equations 8 to 11 and algorithm 1,
    each photo by itself. For probabilities of 0 and 1 it is one minus the IoU; a small class counts as much as a large
    one.)

    Args:
        logits: `[N, H, W, C]` float; 16-bit ones are raised to float32.
        labels: `[N, H, W]` int32, 0..C-1, or `IGNORE`.

    Returns:
        Scalar, 0..1. Under `tf.distribute` the part of this replica: the parts of all add up to the loss.
    """
    dtype = tf.float64 if logits.dtype == tf.float64 else tf.float32
    batch, height, width, classes = tf.unstack(tf.shape(logits))
    labels = tf.reshape(labels, [batch, 1, height * width])
    probabilities = tf.reshape(tf.nn.softmax(tf.cast(logits, dtype)), [batch, height * width, classes])
    truth = tf.cast(labels == tf.range(classes)[:, tf.newaxis], dtype)
    errors = tf.abs(truth - tf.transpose(probabilities, [0, 2, 1]))
    # An error of 0 comes last, where it changes nothing.
    errors = tf.where(labels == IGNORE, tf.zeros([], dtype), errors)
    errors, places = tf.math.top_k(errors, height * width)
    truth = tf.gather(truth, places, batch_dims=2)
    count = tf.reduce_sum(truth, axis=2, keepdims=True)
    union = count + tf.cumsum(1 - truth, axis=2)
    jaccard = 1 - tf.math.divide_no_nan(count - tf.cumsum(truth, axis=2), union)
    steps = jaccard - tf.pad(jaccard, [[0, 0], [0, 0], [1, 0]])[..., :-1]
    shown = tf.cast(count[..., 0] > 0, dtype)
    by_class = tf.reduce_sum(errors * tf.stop_gradient(steps), axis=2) * shown
    return _mean_over_replicas(tf.math.divide_no_nan(tf.reduce_sum(by_class, axis=1), tf.reduce_sum(shown, axis=1)))


def _divergence(logits, taught, temperature):
    """KL(softmax of `taught` || softmax of `logits`) along the last axis."""
    dtype = tf.float64 if logits.dtype == tf.float64 else tf.float32
    log_p, log_q = (
        tf.nn.log_softmax(tf.cast(each, dtype) / tf.cast(temperature, dtype))
        for each in (logits, tf.stop_gradient(taught))
    )
    return tf.reduce_sum(tf.exp(log_q) * (log_q - log_p), axis=-1)


def _mean_over_replicas(values):
    return tf.reduce_mean(values) / tf.distribute.get_replica_context().num_replicas_in_sync


def kth_largest(values: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    """The k-th largest of the values of all replicas, exactly.

    A radix selection, 8 bits at a time: the bit patterns of floats that are not negative are ordered like the floats.
    Sorting would take five times as long, and would need all values in one place.

    Args:
        values: `[P]` float32 or float64, none negative.
        k: int32, from 1 to the number of values of all replicas.

    Returns:
        Scalar of the same dtype.
    """
    integer = tf.int64 if values.dtype == tf.float64 else tf.int32
    # -0.0 would be the largest pattern of all.
    bits = tf.bitcast(tf.abs(values), integer)
    prefix = tf.zeros([], integer)
    for shift in range(integer.size * 8 - 8, -1, -8):
        digits = tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, tf.cast(shift, integer)), 255), tf.int32)
        if shift + 8 < integer.size * 8:
            known = tf.bitwise.right_shift(bits, tf.cast(shift + 8, integer))
            digits = tf.where(known == prefix, digits, 256)
        counts = _sum_over_replicas(tf.math.bincount(digits, minlength=257, maxlength=257)[:256])
        # Number of values whose digit is at least this one.
        reached = tf.cumsum(counts, reverse=True)
        digit = tf.reduce_sum(tf.cast(reached >= k, tf.int32)) - 1
        k -= tf.gather(reached, digit) - tf.gather(counts, digit)
        prefix = tf.bitwise.left_shift(prefix, tf.cast(8, integer)) + tf.cast(digit, integer)
    return tf.bitcast(prefix, values.dtype)


def _sum_over_replicas(tensor):
    context = tf.distribute.get_replica_context()
    return tensor if context.num_replicas_in_sync == 1 else context.all_reduce("SUM", tensor)
