"""The steps of a script: which one runs, how long each took, and what it leaves behind."""

import contextlib
import ctypes
import gc
import time


class Steps:
    """Says which step runs, and keeps how many seconds each took in `seconds`."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, name):
        print(f"{name} ...", end=" ", flush=True)
        start = time.perf_counter()
        try:
            yield
        except BaseException:
            print("failed", flush=True)
            raise
        _give_back_memory()
        self.seconds[name] = round(time.perf_counter() - start, 3)
        print(f"{self.seconds[name]:.1f} s", flush=True)


def _give_back_memory():
    """Gives the system back what a step has freed; glibc keeps it, and the peak of the next step would come on top."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
