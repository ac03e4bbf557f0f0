"""Runs a `.tflite` file on a GPU or an NPU, with LiteRT's `CompiledModel`.

The CPU stays with `interpreter.TFLiteRunner`. `CompiledModel` gives the same bits there in the same time, but its first
photo takes longer, it writes its log to the terminal, and it gives no inner tensors.
"""

import contextlib
import ctypes
import math
import os
import re
import threading
import weakref

from keras_bisenet.tflite import flatbuffer
from keras_bisenet.utils import native_output
from keras_bisenet.utils.text_files import shown

# What may be asked for.
ACCELERATORS = ("cpu", "gpu", "npu", "auto")

# LiteRT's log is all that tells some of what `AcceleratedRunner` has to know.
_SPLIT = re.compile(r"(\d+) operations will run on the GPU, and the remaining (\d+) operations will run on the CPU")
_ADAPTER = re.compile(r"Selected adapter: .*adapterType=(\w+)")
_PROBLEM = re.compile(r"^(ERROR|WARNING): (?:\[[^\]\n]*\] )?(.*)$", re.MULTILINE)
_LOG_LOCK = threading.Lock()


class UnavailableError(Exception):
    """An accelerator cannot run a file. The message says why, without the name of the file."""


class AcceleratedRunner:
    """A `.tflite` file on an accelerator; in place of an `interpreter.TFLiteRunner` without inner tensors.

    Args:
        content: bytes of the file.
        model: the file as `flatbuffer.unpack` gives it.
        accelerator: `"gpu"`, whose unsupported ops the CPU runs, or `"npu"`, which has to take all ops.
        num_threads: of the CPU; None for all cores.

    Attributes:
        quantization: see `TFLiteRunner`.
        ops: dict, `"gpu"`, `"npu"` and `"cpu"` -> number of the file's ops that it runs.
        is_software: whether the GPU is a program on the CPU.

    Raises:
        UnavailableError: the accelerator is missing, or cannot run the file. When it runs: it failed, or the process
            was forked since.
    """

    def __init__(self, content, model, accelerator, num_threads=None):
        self._is_forked, problem = False, None
        (graph,) = model.subgraphs
        inputs, outputs = flatbuffer.signature_names(model)
        self.quantization = {name: flatbuffer.quantization(graph.tensors[index]) for index, name in outputs.items()}
        with log_captured() as log:
            try:
                self._model = _compile(content, accelerator, num_threads or os.cpu_count())
                signature = self._model.get_signature_by_index(0)
                self._inputs = self._model.create_input_buffers(0)
                self._outputs = self._model.create_output_buffers(0)
            except ImportError:
                problem = "this LiteRT has no CompiledModel; update ai-edge-litert"
            except (RuntimeError, ValueError) as error:
                problem = _reason(error, log())
            said = log()
        if problem is None and (
            self._model.get_num_signatures() > 1
            or {*signature["inputs"]} != {*inputs.values()}
            or {*signature["outputs"]} != {*outputs.values()}
        ):
            problem = "the file has several signatures, or outputs without a name in its signature"
        if problem is not None:
            raise UnavailableError(problem)
        self._names = signature["outputs"]
        self.ops = _count(said, accelerator, len(graph.operators), self._model.is_fully_accelerated())
        adapter = _ADAPTER.search(said)
        self.is_software = adapter is not None and adapter[1] == "CPU"
        _runners.add(self)

    def leave(self):
        """In a fork: its threads are not there, and to free it would wait for them for ever."""
        self._is_forked = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def __call__(self, image):
        """See `TFLiteRunner`."""
        if self._is_forked:
            raise UnavailableError("this process was forked since the file was opened")
        try:
            self._inputs[0].write(image)
            self._model.run_by_index(0, self._inputs, self._outputs)
            return {name: _read(buffer) for name, buffer in zip(self._names, self._outputs, strict=True)}
        except (RuntimeError, ValueError) as error:
            raise UnavailableError(_reason(error)) from error


_runners = weakref.WeakSet()


def _leave_all():
    for runner in list(_runners):
        runner.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)


@contextlib.contextmanager
def log_captured():
    """`native_output.captured`, for one thread after the other, as the standard error is that of the process."""
    with _LOG_LOCK, native_output.captured() as log:
        yield log


def _compile(content, accelerator, num_threads):
    from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, HardwareAccelerator, Options

    # An NPU that is missing leaves all ops to the CPU, and nothing would tell.
    hardware = {"gpu": HardwareAccelerator.GPU | HardwareAccelerator.CPU, "npu": HardwareAccelerator.NPU}[accelerator]
    return CompiledModel.from_buffer(
        content, options=Options(hardware, cpu_options=CpuOptions(num_threads=num_threads))
    )


def _read(buffer):
    details = buffer.get_tensor_details()
    return buffer.read(math.prod(details["shape"]), details["dtype"]).reshape(details["shape"])


def _count(log, accelerator, total, is_complete):
    if is_complete:
        return {accelerator: total}
    found = _SPLIT.search(log)
    if found is None:
        raise UnavailableError(f"it takes none of the {total} ops")
    return {accelerator: int(found[1]), "cpu": int(found[2])}


def _problems(log):
    """What a log complains of: the last error, or else the last warning, of which LiteRT has many."""
    found = _PROBLEM.findall(log)
    return [text for level in ("ERROR", "WARNING") for kind, text in reversed(found) if kind == level]


def _reason(error, log=""):
    problems = [*_problems(log), *str(error).strip().splitlines()[-1:], "it does not say why"]
    return f"LiteRT says: {shown(problems[0].strip(), most=200)}"
