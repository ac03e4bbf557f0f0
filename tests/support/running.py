"""Processes that are watched from outside while they run."""

import contextlib
import pathlib
import time


def processes(marker):
    """Ids of the processes that have a text in their environment -> id of the parent of each. Linux only."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if marker.encode() in path.read_bytes():
                found[int(path.parent.name)] = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def wait_for(condition, process=None, seconds=240):
    """Waits until a condition holds, and fails if it does not, or if the process ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_gone(marker):
    """Waits for the end of all `processes` with a marker."""
    wait_for(lambda: not processes(marker), seconds=30)
