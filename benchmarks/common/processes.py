"""Runs other programs, one at a time, and tells how long each took and how much memory it held."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class ProcessError(Exception):
    """A program failed. The message is one line: the last of what it printed, or how it ended."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a program cost.

    Attributes:
        seconds: from its start to its end.
        peak_bytes: the most memory that it, or the largest of the programs it waited for, has held at once. Never less
            than this process holds: a system counts the moment between fork and exec.
    """

    seconds: float
    peak_bytes: int


def run(command, log, timeout=3600):
    """Runs a program in the repository root, with the root on its PYTHONPATH, and waits for it.

    Args:
        command: list, the program and its arguments.
        log: `pathlib.Path` for what it prints.
        timeout: seconds after which it is killed, with all that it started.

    Returns:
        `Finished`.

    Raises:
        ProcessError: it cannot be started, was killed, or ended with another status than 0.
    """
    # Unbuffered, or what a program printed before an error would stand below the error.
    settings = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    expired = threading.Event()
    with log.open("wb") as file:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **settings},
                start_new_session=True,
            )
        except OSError as error:
            raise ProcessError(f"{command[0]}: cannot be started: {error.strerror}") from error

        def kill():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout, lambda: (expired.set(), kill()))
        timer.start()
        try:
            # Not process.wait(): only wait4 tells the memory of this program and its children alone.
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
            kill()
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if expired.is_set():
        raise ProcessError(f"took longer than {timeout} s")
    if process.returncode < 0:
        raise ProcessError(f"was killed by {signal.Signals(-process.returncode).name}")
    if process.returncode > 0:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        raise ProcessError(next((line.strip() for line in reversed(lines) if line.strip()), "failed without a word"))
    return Finished(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def run_job(python, module, job, log):
    """Runs `benchmarks.<module>` in a Python, with a dict as its arguments. See `run`."""
    return run([python, "-m", f"benchmarks.{module}", json.dumps(job)], log)
