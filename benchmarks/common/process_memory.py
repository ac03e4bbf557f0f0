"""What this process holds, for runs that are to show that it does not grow. (Linux only.)"""

import ctypes
import gc
import pathlib
import re


def held():
    """What this process holds: bytes of memory, open files, threads."""
    gc.collect()
    # What was freed goes back to the system at once, where the C library can do that (glibc).
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    status = pathlib.Path("/proc/self/status").read_text()
    memory = int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) * 1024
    return [memory, *(sum(1 for _ in pathlib.Path("/proc/self", name).iterdir()) for name in ("fd", "task"))]
