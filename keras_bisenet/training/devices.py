"""The devices that a run trains on, and what several machines have to tell each other.

Machines are named by `TF_CONFIG`, one process on each: https://www.tensorflow.org/guide/distributed_training#TF_CONFIG.
"""

import contextlib
import os
import sys
import time

import numpy as np
import tensorflow as tf

from keras_bisenet.utils import text_files
from keras_bisenet.utils.errors import TrainingError

# A worker that died is noticed at once. One that does not answer any more counts as lost after so many seconds; the
# others wait that long for one that is only slow.
TIMEOUT = 600

# How often in a row a worker starts over because it lost another one. It is not in a row if they worked together for
# so many seconds.
RESTARTS = 10
LONG_ENOUGH = 600
_COUNTER = "KERAS_BISENET_RESTARTS"

# What TensorFlow raises when a worker is gone, came back as another process, or does not answer.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnavailableError,
)


def strategy():
    """The strategy for all workers of `TF_CONFIG`, or else for all GPUs of this machine.

    Has to be called before TensorFlow computes anything. With several workers it returns once all of them are there.

    Returns:
        `tf.distribute.Strategy`.

    Raises:
        TrainingError: `TF_CONFIG` is not as expected.
    """
    if len(_workers()) > 1:
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=TIMEOUT)
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def place(strategy):
    """(i, n): this process is worker i of n. Worker 0 is the chief, which reads and writes the folder of the run."""
    resolver = strategy.cluster_resolver
    workers = _in_order(resolver.cluster_spec().as_dict()) if resolver else []
    return (workers.index((resolver.task_type, resolver.task_id)), len(workers)) if len(workers) > 1 else (0, 1)


def sum_over_workers(strategy, array):
    """Sum of the arrays that the workers hand in; each waits for all others.

    Args:
        strategy: `tf.distribute.Strategy`.
        array: number or array, of the same shape and dtype on each worker.

    Returns:
        Array, the same on each worker.
    """
    # TensorFlow would make int32 of a Python number.
    array = np.asarray(array)
    return array if place(strategy)[1] == 1 else strategy.reduce("SUM", tf.constant(array), axis=None).numpy()


def from_chief(strategy, state):
    """The chief's arrays on all workers.

    Args:
        strategy: `tf.distribute.Strategy`.
        state: dict of arrays, with the same names, shapes and dtypes on each worker.
    """
    mine = place(strategy)[0] == 0
    return {
        name: sum_over_workers(strategy, state[name] if mine else np.zeros_like(state[name])) for name in sorted(state)
    }


@contextlib.contextmanager
def together():
    """Around a whole run: gives the `strategy`, and starts this process anew when it lost another worker.

    The new process takes the place of the old one, waits for all workers and continues from the last checkpoint.

    Raises:
        TrainingError: `TF_CONFIG` is not as expected, or other workers were lost too often.
    """
    began = time.monotonic()
    try:
        devices = strategy()
        began = time.monotonic()
        yield devices
    except _LOST as error:
        if len(_workers()) < 2:
            raise
        reason = error.message.rpartition("aborted by: ")[2].strip().partition("\n")[0]
        _start_over(reason, 0 if time.monotonic() - began > LONG_ENOUGH else int(os.environ.get(_COUNTER, 0)))


def _start_over(reason, restarts):
    if restarts >= RESTARTS:
        raise TrainingError(
            f"lost another worker {restarts + 1} times in a row, at last: {reason}; read what the others say; start "
            "all of them again: the run resumes from its last checkpoint"
        )
    print(f"lost another worker: {reason}; starting over from the last checkpoint", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os.environ[_COUNTER] = str(restarts + 1)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _workers():
    """(kind, index) of each worker that `TF_CONFIG` names; none if it is not set."""
    text = os.environ.get("TF_CONFIG", "{}")
    try:
        config = text_files.parse_json(text)
        workers = _in_order(config.get("cluster", {}))
        task = (config["task"]["type"], int(config["task"]["index"])) if workers else None
        if workers and task not in workers:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise TrainingError(
            f"TF_CONFIG is {text!r}; expected "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, with the index of '
            "this worker"
        ) from error
    return workers


def _in_order(cluster):
    return [(kind, index) for kind in ("chief", "worker") for index in range(len(cluster.get(kind, ())))]
