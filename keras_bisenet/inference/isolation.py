"""Runs a `.tflite` file in a process of its own: a crash, a hang or a lack of memory there is an error here.

This process never reads the file. Requests and replies are lines of JSON in two pipes; photos and results lie in memory
that both processes map.
"""

import contextlib
import dataclasses
import json
import mmap
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import uuid
import warnings
import weakref

import numpy as np

import keras_bisenet
from keras_bisenet.classes import Classes
from keras_bisenet.utils import resizing, text_files
from keras_bisenet.utils.errors import CrashError, ModelError

# The module that the process runs.
WORKER = "keras_bisenet.inference.isolated_worker"
# Most bytes of a reply; the names of all classes of a file that was validated have less.
_LONGEST = 2**25
# Results of so many bytes are lent, not copied: they stay in their slot of the shared memory. One slot is kept free.
_SLOTS, _WORTH_LENDING = 3, 2**20
# Of results, by name; an object would be a pointer.
_DTYPES = {name: np.dtype(name) for name in ("uint8", "int8", "int32", "int64", "float32")}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the process of a file may take.

    Attributes:
        seconds: to open the file, and to run it on a photo; the process ends itself by an alarm of the system.
        memory: bytes of address space, on Linux; other systems do not limit it.
    """

    seconds: float = 60.0
    memory: int = 4 * 2**30


class IsolatedNetwork:
    """A `.tflite` file in a process of its own; does what a `predictors.TFLiteNetwork` does.

    A process that has ended is replaced at the next photo. A fork of this process starts one of its own.

    Args:
        path: the file.
        limits: `Limits`.
        options: the other arguments of `TFLiteNetwork`.

    Raises:
        ModelError: as `TFLiteNetwork` raises it; or the file was replaced by another since it was opened.
        CrashError: the process crashed, or exceeded its limits.
    """

    def __init__(self, path, limits, **options):
        self._path, self._limits, self._folder = path, limits, pathlib.Path.cwd()
        self._options = {"path": os.fspath(path), **options}
        self._worker = self._start()
        self._about = about = self._worker.about
        self.image_size, self.num_classes = self._worker.image_size, about["num_classes"]
        self.classes = about["classes"] and Classes(**{name: _tuple(each) for name, each in about["classes"].items()})

    @property
    def ops(self):
        """See `TFLiteNetwork`."""
        return self._worker.ops

    def labels(self, image):
        """See `TFLiteNetwork.labels`."""
        return self._run("labels", image)

    def probabilities(self, image):
        """See `TFLiteNetwork.probabilities`."""
        return self._run("probabilities", image)

    def logits(self, image):
        """See `TFLiteNetwork.logits`."""
        return self._run("logits", image)

    def coarse_probabilities(self, image, size):
        """See `TFLiteNetwork.coarse_probabilities`; takes no less time than `probabilities`."""
        return resizing.resize_scores(self.probabilities(image), size)

    def close(self):
        """Ends the process."""
        self._worker.end()

    def _start(self):
        return _Worker(self._path, self._limits, self._folder, self._options)

    def _run(self, method, image):
        if not self._worker.is_running():
            self._worker.end()
            self._worker = self._start()
            if self._worker.about != self._about:
                self.close()
                raise ModelError(f"{self._path}: was replaced by another file since it was opened; open it anew")
        return self._worker.run(method, image)


class _Worker:
    """A process that has opened the file.

    Attributes:
        about: what it replied then, see `isolated_worker`.
        image_size: (height, width).
        ops: see `TFLiteNetwork`.
    """

    def __init__(self, path, limits, folder, options):
        self._path, self._limits = path, limits
        self._free = list(range(_SLOTS))
        with _shared_file() as (self._key, file):
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", WORKER, self._key],
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    cwd=folder,
                    env=_environment(),
                    # Who interrupts this process from the terminal does not mean that one.
                    start_new_session=True,
                    pass_fds=[file.fileno()] if file else [],
                )
            except OSError as error:
                raise ModelError(f"{path}: no process can be started for it: {error.strerror}") from error
            self._finalizer = weakref.finalize(self, _end, self._process)
            _workers.add(self)
            try:
                self._ask(dataclasses.asdict(limits) | options, lambda reply: self._opened(reply, file))
            except ModelError:
                self.end()
                raise

    def _opened(self, about, file):
        self.about, self.image_size = about, _tuple(about["image_size"])
        self._layout = Layout(self.image_size, about["num_classes"])
        if file:
            file.truncate(self._layout.size)
            _forbid_shrinking(file)
        self._memory = map_memory(self._key, self._layout.size)

    def is_running(self):
        """Whether it can be asked."""
        return self._finalizer.alive and self._process.poll() is None

    def run(self, method, image):
        """The result of a method of `TFLiteNetwork`."""
        self._layout.photo(self._memory)[:] = image
        slot = self._free[-1]
        return self._ask({"method": method, "slot": slot}, lambda reply: self._result(reply, slot))

    def _result(self, reply, slot):
        result = np.ndarray(reply["shape"], _DTYPES[reply["dtype"]], self._memory, self._layout.begin(slot))
        if result.nbytes < _WORTH_LENDING or len(self._free) == 1:
            return result.copy()
        self._free.remove(slot)
        # Views of the result keep it.
        weakref.finalize(result, self._free.append, slot).atexit = False
        return result

    def end(self):
        """Ends it, unless it has ended."""
        self._finalizer()

    def keep_lent(self):
        """Never writes to the slots again that results lie in: a fork that is about to begin has these results too."""
        self._free = self._free.copy()

    def forget(self):
        """Leaves it to the process of which this one is a fork."""
        if self._finalizer.detach():
            _close(self._process)

    def _ask(self, request, read):
        try:
            send(self._process.stdin, request)
            reply = receive(self._process.stdout)
            if "error" not in reply:
                for warning in reply.pop("warnings"):
                    warnings.warn(warning, stacklevel=2)
                self.ops = reply.pop("ops")
                return read(reply)
        except (EOFError, LookupError, OSError, OverflowError, TypeError, ValueError) as error:
            self.end()
            raise CrashError(f"{self._path}: {self._problem()}; is the file damaged?") from error
        except BaseException:
            # Else the reply to this request would be taken for that to the next one.
            self.end()
            raise
        raise ModelError(str(reply["error"]))

    def _problem(self):
        status = self._process.returncode
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        if how == "SIGALRM":
            return f"took more than the {self._limits.seconds:g} seconds that isolation.Limits allow"
        return f"crashed its process ({how}), which may take {self._limits.memory >> 20} MiB of memory"


_workers = weakref.WeakSet()


def _each_worker(method):
    for worker in list(_workers):
        method(worker)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _each_worker(_Worker.keep_lent), after_in_child=lambda: _each_worker(_Worker.forget)
    )


def _end(process):
    process.kill()
    _close(process)
    process.wait()


def _close(process):
    process.stdin.close()
    process.stdout.close()


def _environment():
    # What this process imports, that one finds, also where somebody changed `sys.path` or the folder.
    root = pathlib.Path(keras_bisenet.__file__).parents[1]
    path = os.pathsep.join(str(pathlib.Path(entry).absolute()) for entry in (*sys.path, root))
    return os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


@contextlib.contextmanager
def _shared_file():
    """The key of memory for `map_memory`, and the file that is behind it; None where the key is enough."""
    if os.name == "nt":
        yield f"keras_bisenet-{uuid.uuid4()}", None
        return
    # Not on macOS.
    flags = getattr(os, "MFD_CLOEXEC", 0) | getattr(os, "MFD_ALLOW_SEALING", 0)
    with os.fdopen(os.memfd_create("photo", flags), "r+b") if flags else tempfile.TemporaryFile() as file:
        yield str(file.fileno()), file


def _forbid_shrinking(file):
    """Where the system can: what reads behind the end of mapped memory is killed."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)


def map_memory(key, size):
    """An `mmap` of the memory that two processes share."""
    return mmap.mmap(-1, size, key) if os.name == "nt" else mmap.mmap(int(key), size)


class Layout:
    """What lies where in that memory: a photo, and slots for results behind it.

    Args:
        image_size: (height, width).
        num_classes: or None.

    Attributes:
        slot_size: bytes of a slot.
        size: bytes of all.
    """

    def __init__(self, image_size, num_classes):
        self._shape, pixels = (*image_size, 3), image_size[0] * image_size[1]
        self._first = _aligned(3 * pixels)
        self.slot_size = _aligned(pixels * max(np.dtype(np.int64).itemsize, 4 * (num_classes or 0)))
        self.size = self.begin(_SLOTS)

    def photo(self, memory):
        """The photo `[*image_size, 3]` uint8."""
        return np.ndarray(self._shape, np.uint8, memory)

    def begin(self, slot):
        """Where a slot begins, in bytes."""
        return self._first + slot * self.slot_size


def _aligned(size):
    return (size + 63) // 64 * 64


def send(stream, message):
    """Writes a dict as a line."""
    line = memoryview(json.dumps(message).encode() + b"\n")
    while line:
        line = line[stream.write(line) :]


def receive(stream):
    """Reads such a dict.

    Raises:
        EOFError: the other process has ended.
        OSError, ValueError: it wrote something else.
    """
    line = b""
    while not line.endswith(b"\n"):
        part = stream.read(2**16)
        if not part or len(line) > _LONGEST:
            raise EOFError
        line += part
    return text_files.parse_json(line)


def _tuple(values):
    return tuple(_tuple(value) if isinstance(value, list) else value for value in values)
