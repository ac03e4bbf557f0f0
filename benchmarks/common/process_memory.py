"""Memory, open files and threads that processes hold, read from /proc. (Linux only.)"""

import ctypes
import gc
import pathlib
import re


def held():
    """What this process holds after a garbage collection: bytes of memory (RSS), open files, threads."""
    gc.collect()
    # What was freed goes back to the system at once, where the C library can do that (glibc).
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    status = pathlib.Path("/proc/self/status").read_text()
    memory = int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) * 1024
    return [memory, *(sum(1 for _ in pathlib.Path("/proc/self", name).iterdir()) for name in ("fd", "task"))]


def of_session(session):
    """Bytes that all processes of a session hold; a page that several of them share counts in parts (PSS)."""
    total = 0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += int(re.search(r"^Pss:\s*(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)[1])
        except OSError:  # the process has ended
            continue
    return 1024 * total
