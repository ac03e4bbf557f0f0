"""Worker processes, interrupted while they start."""

import signal
import threading

import pytest

from keras_bisenet.utils import workers


def test_ctrl_c_while_workers_start_is_heard_once_they_run(monkeypatch):
    """`ProcessPoolExecutor` cannot be shut down between making its thread and starting it."""
    start = threading.Thread.start

    def interrupted(thread):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        start(thread)

    pool = workers.pool(1, "keras_bisenet.utils.workers")
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(workers.run(pool, abs, [-1], 1))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_workers_of_another_thread():
    """Only the main thread may choose what a signal does."""
    results = []
    thread = threading.Thread(target=lambda: results.extend(workers.run(workers.pool(1, "math"), abs, [-1, 2], 1)))
    thread.start()
    thread.join()
    assert results == [1, 2]
