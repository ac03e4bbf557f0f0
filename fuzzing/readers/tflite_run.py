"""`.tflite` files in FaceParser, LiteRT included, each in a process of its own: native code may end it.

A finding is an error that `FaceParser` does not document, and a process that crashes or takes too much time.
"""

import importlib
import os
import sys

from fuzzing import cases
from fuzzing.readers import _models

INSTRUMENTED = (
    "keras_bisenet.tflite.validate",
    "keras_bisenet.tflite.flatbuffer",
    "keras_bisenet.inference.predictors",
)

# Seconds of computing and bytes that the process may take.
SECONDS = 5
MEMORY = 4 * 2**30

seeds, mutate = _models.seeds, _models.mutate


def read(content, folder):
    # What the child process then need not import.
    importlib.import_module("keras_bisenet.inference.predictors")
    path = folder / "model.tflite"
    path.write_bytes(content)
    report, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(report)
        _run(path, writer)
    os.close(writer)
    with os.fdopen(report, "rb") as file:
        said = file.read().decode()
    _, status = os.waitpid(child, 0)
    if said:
        raise AssertionError(said)
    if code := os.waitstatus_to_exitcode(status):
        raise AssertionError(f"the process ended with status {code}")


def _run(path, writer):
    import resource

    import numpy as np

    from keras_bisenet import FaceParser
    from keras_bisenet.utils.errors import ModelError

    try:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            parser = FaceParser(path, num_threads=1)
            photo = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
            if parser(photo).shape != (20, 30):
                raise AssertionError("the labels are not of the photo's size")
            parser.probabilities(photo)
        except ModelError as error:
            cases.check_refusal(error, path)
        except MemoryError:
            pass
    except BaseException:
        import traceback

        os.write(writer, traceback.format_exc()[-3000:].encode())
    finally:
        sys.stdout.flush()
        os._exit(0)
