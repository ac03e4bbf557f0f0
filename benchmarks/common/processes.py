"""Runs programs and functions in processes of their own, and measures their time and peak memory."""

import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]


class BenchmarkError(Exception):
    """An experiment cannot be run. The message is one line for the user."""


class ProcessError(BenchmarkError):
    """A program failed. The message is the last line that it printed, or how it ended."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """Seconds of a program from its start to its end, and peak memory of it or of the largest of its children.

    The memory is never less than that of this process: a system counts the moment between fork and exec.
    """

    seconds: float
    peak_bytes: int


def run(command, log, timeout=3600):
    """Runs a program in the repository root, with the root on its PYTHONPATH, to its end; returns `Finished`.

    What it prints goes to the file `log`. After `timeout` seconds it is killed, with all that it started.
    `ProcessError` if it cannot be started, was killed, or ended with another status than 0.
    """
    # Unbuffered, or what a program printed before an error would stand below the error.
    settings = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    settings |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    options = {"cwd": ROOT, "env": os.environ | settings, "start_new_session": True, "stdin": subprocess.DEVNULL}
    with log.open("wb") as file:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=subprocess.STDOUT, **options)
        except OSError as error:
            raise ProcessError(f"{command[0]}: cannot be started: {error.strerror}") from error

        def kill():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout, kill)
        timer.start()
        try:
            # Not process.wait(): only wait4 tells the memory of this program and its children alone.
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
            kill()
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if seconds > timeout:
        raise ProcessError(f"took longer than {timeout} s")
    if process.returncode < 0:
        raise ProcessError(f"was killed by {signal.Signals(-process.returncode).name}")
    if process.returncode > 0:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        raise ProcessError(next((line.strip() for line in reversed(lines) if line.strip()), "failed without a word"))
    return Finished(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def watch(command, pause, sample):
    """Runs a program in the repository root, silently; returns its exit status.

    Until it ends `sample` is called, every `pause` seconds, with the id of the session of all its processes.
    """
    options = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "start_new_session": True}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    while process.poll() is None:
        time.sleep(pause)
        sample(process.pid)
    return process.returncode


def alternate(names, rounds, measure):
    """Calls `measure` with each name in interleaved rounds, A B C A B C; dict of name -> one number a round."""
    found = {name: [] for name in names}
    for number in range(rounds):
        for name, numbers in found.items():
            numbers.append(measure(name))
            print(f"round {number + 1}/{rounds}: {name}: {numbers[-1]:.4g}", flush=True)
    return found


def time_calls(act, warmups, runs):
    """Calls `act` without arguments; list of seconds, one a run. `warmups` calls come before them."""
    seconds = []
    for _ in range(warmups + runs):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return seconds[warmups:]


def call(function, arguments, log=None, python=sys.executable, timeout=3600):
    """Calls a function in a process of its own, see `run`; returns what it returned, and `Finished`.

    Args:
        function: `"package.module:name"`.
        arguments: dict of its keyword arguments, which are of JSON types like its result.
        log: `pathlib.Path` for what it prints; its result is written beside it. None to keep neither.
        python: the Python that runs it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        log = log or pathlib.Path(scratch, "log")
        result = log.with_suffix(".json")
        command = [python, "-m", "benchmarks.common.processes", function, json.dumps(arguments), result]
        finished = run(command, log, timeout)
        return json.loads(result.read_text(encoding="utf-8")), finished


def _answer(function, arguments, output):
    """The other end of `call`; after an error, the last line printed is its type and the first of its message."""
    try:
        module, _, name = function.partition(":")
        result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
    pathlib.Path(output).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    _answer(*sys.argv[1:])
