"""Worker processes that end with their parent."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver, resource_tracker

_FORKS = "forkserver" in multiprocessing.get_all_start_methods()
_METHOD = "forkserver" if _FORKS else "spawn"


def cores():
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def prepare(preload):
    """Begins to start the process of which workers are copies, where the system can copy one.

    Args:
        preload: module that it imports, beside what this process does meanwhile.
    """
    if _FORKS:
        multiprocessing.get_context(_METHOD).set_forkserver_preload([preload])
        _start_forkserver()


def pool(count, preload):
    """A `ProcessPoolExecutor` whose workers start fast, keep silent and cannot outlive this process.

    Args:
        count: number of processes; None for one a core.
        preload: of `prepare`, which may have been called before.
    """
    prepare(preload)
    return concurrent.futures.ProcessPoolExecutor(count or cores(), multiprocessing.get_context(_METHOD), _start)


def run(pool, function, tasks, ahead, weigh=None, most=0):
    """Results of `function` on each task, in order; only so many tasks are taken before their turn.

    Args:
        pool: see above; shut down at the end, and what has not begun is left out.
        function: of a module, called with one task.
        tasks: iterable.
        ahead: number of tasks.
        weigh: called with a task, gives its bytes; None if they do not matter.
        most: bytes of those tasks, from which on none is taken.

    Raises:
        concurrent.futures.BrokenExecutor: a worker was killed.
    """
    tasks, waiting, held = iter(tasks), collections.deque(), 0
    try:
        while True:
            while len(waiting) < ahead and not (waiting and weigh and held >= most):
                task = next(tasks, waiting)  # a mark: no task is that
                if task is waiting:
                    break
                weight = weigh(task) if weigh else 0
                held += weight
                # A pool whose threads and processes began by half can never be shut down.
                with _interrupted_at_the_end():
                    waiting.append((pool.submit(function, task), weight))
            if not waiting:
                return
            future, weight = waiting.popleft()
            held -= weight
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupted_at_the_end():
    """Ctrl-C meanwhile raises `KeyboardInterrupt` at the end; only the main thread is ever interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = []
    handler = signal.signal(signal.SIGINT, lambda number, _: signals.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if signals:
            signal.raise_signal(signals[0])


def _start_forkserver():
    """Workers begin as the fork server does: none is to tell that it was interrupted, or that its parent is gone.

    Nor how a library was built, or what it thinks of a damaged file. Errors are returned. An interruption meanwhile
    comes at the end.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        # First, because its start lets all signals through again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        forkserver.ensure_running()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start():
    """The parent handles an interruption; if it is killed, its workers end too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
