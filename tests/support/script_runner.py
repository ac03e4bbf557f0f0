"""Runs a script as its user does, in a process of its own, but without the seconds in which TensorFlow is imported.

A server has imported it and computed nothing. It forks for each script, and the fork becomes that script.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile

HEAVY = ("h5py", "tensorflow", "keras", "torch")


class Process:
    """A running script, with as much of `subprocess.Popen` as the tests need."""

    def __init__(self, connection):
        self._connection = connection
        self._answers = connection.makefile()
        self.pid = int(self._answers.readline())
        self.returncode = None

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = int(self._answers.readline())
        return self.returncode

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def run(script, *arguments, **options):
    """Runs a script to its end; options as for `start`. Gives a `subprocess.CompletedProcess` with text."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        status = start(script, *arguments, stdout=stdout, stderr=stderr, **options).wait()
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess([str(script), *map(str, arguments)], status, *texts)


def run_alone(script, *arguments, **options):
    """Runs a script exactly as its user does: Python starts anew. The options are those of `subprocess.run`."""
    command = [sys.executable, *map(str, (script, *arguments))]
    return subprocess.run(command, capture_output=True, text=True, **options)


def start(script, *arguments, stdout, stderr, cwd=None, env=None, largest_file=None):
    """Starts a script with arguments of any type, which writes to open files, and gives its `Process`.

    Args:
        env: its environment; None for that of the tests. What is read while TensorFlow is imported, such as
            KERAS_BACKEND, stays that of the tests.
        largest_file: size in bytes; writing more into a file fails as on a full disk.
    """
    job = {
        "command": [str(script), *map(str, arguments)],
        "cwd": str(cwd or pathlib.Path.cwd()),
        "environment": dict(os.environ if env is None else env),
        "largest_file": largest_file,
    }
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(_server(), [b"!"], [file.fileno() for file in (theirs, stdout, stderr)])
    ours.sendall(json.dumps(job).encode() + b"\n")
    return Process(ours)


@functools.cache
def _server():
    """The socket of a server that ends with this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        command = [sys.executable, __file__, str(number)]
        server = subprocess.Popen(command, pass_fds=[number], stdin=subprocess.DEVNULL)

    # The last of them is called first.
    atexit.register(server.wait)
    atexit.register(ours.close)
    return ours


def _serve(control):
    """Forks for each job. Returns in the scripts' processes alone, with the job."""
    while True:
        message, files, *_ = socket.recv_fds(control, 1, 3)
        if not message:
            sys.exit()
        if not os.fork():
            control.close()
            return _keep(*files)
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _keep(connection, stdout, stderr):
    """Starts one script and tells of its end. Returns as `_serve` does."""
    connection = socket.socket(fileno=connection)
    job = json.loads(connection.makefile().readline())
    process = os.fork()
    if process:
        connection.sendall(f"{process}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(f"{status}\n".encode())
        os._exit(0)
    connection.close()
    for number, file in enumerate((stdout, stderr), 1):
        os.dup2(file, number)
        os.close(file)
    return job


def _become(job):
    """Runs the script in this process, as Python would."""
    script, *arguments = job["command"]
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    if job["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
    sys.argv = [script, *arguments]
    sys.orig_argv = [sys.executable, *sys.argv]
    sys.path[0] = str(pathlib.Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    for name in HEAVY:
        importlib.import_module(name)
    # Else each fork would search all of this for garbage when it ends, longer than a short script takes.
    gc.freeze()
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
