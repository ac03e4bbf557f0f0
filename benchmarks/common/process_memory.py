"""Memory, open files, threads and times that processes hold, read from /proc. (Linux only.)"""

import contextlib
import ctypes
import gc
import os
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

    def kilobytes(folder, _):
        return int(re.search(r"^Pss:\s*(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)[1])

    return 1024 * sum(_each(session, kilobytes).values())


def processor_times(session):
    """Process -> seconds of the processor that it used, of those of a session."""
    return _each(session, lambda _, numbers: (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK"))


def _each(session, read):
    """Process of a session -> `read` of its folder in /proc and of the fields of its `stat` behind its name."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found[folder.name] = read(folder, fields)
    return found
