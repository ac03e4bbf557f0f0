"""The process of an `isolation.IsolatedNetwork`: `python -m keras_bisenet.inference.isolated_worker KEY`.

It reads requests from its standard input and writes a reply to each to its standard output:

    {"path", "seconds", "memory", and other options}     -> {"image_size", "num_classes", "classes"}
    {"method", "slot"} of the photo in the shared memory -> {"shape", "dtype"} of the result in that slot of it

Each reply also has the "ops" of the network, and the "warnings" of the request. A `ModelError` is replied as
{"error": message}. Any other error ends the process, and so does the end of its input.
"""

import contextlib
import dataclasses
import faulthandler
import os
import signal
import sys
import warnings

import numpy as np

from keras_bisenet.inference import isolation, predictors
from keras_bisenet.utils.errors import ModelError


class _Server:
    """Replies to requests about one file.

    Args:
        key: of the shared memory, for `isolation.map_memory`.
    """

    def __init__(self, key):
        self._key, self._path, self._network, self._memory = key, None, None, None

    def open(self, options):
        self._path = options["path"]
        network = self._network = predictors.TFLiteNetwork(**options)
        return {
            "image_size": network.image_size,
            "num_classes": network.num_classes,
            "classes": network.classes and dataclasses.asdict(network.classes),
        }

    def run(self, request):
        network, method = self._network, request["method"]
        layout = isolation.Layout(network.image_size, network.num_classes)
        if self._memory is None:
            self._memory = isolation.map_memory(self._key, layout.size)
        photo, begin = layout.photo(self._memory), layout.begin(request["slot"])
        if method == "probabilities" and network.num_classes:
            out = np.ndarray((*network.image_size, network.num_classes), np.float32, self._memory, begin)
            result = network.probabilities(photo, out)
        else:
            out, result = None, getattr(network, method)(photo)
        if result.nbytes > layout.slot_size:
            raise ModelError(
                f"{self._path}: returns {list(result.shape)} for photos of {list(network.image_size)}; export it again"
            )
        if result is not out:
            np.ndarray(result.shape, result.dtype, self._memory, begin)[:] = result
        return {"shape": result.shape, "dtype": result.dtype.name}

    def reply(self, function, argument):
        """What one of the two gives, or a `ModelError`; with what each of them may change and warn of."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                reply = function(argument)
            except ModelError as error:
                return {"error": str(error)}
        return reply | {"ops": self._network.ops, "warnings": [str(warning.message) for warning in caught]}


def main(key):
    """Replies until the input ends.

    Args:
        key: see above.
    """
    requests, replies = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    # What native code reads and writes is no part of them.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    server = _Server(key)
    with contextlib.suppress(EOFError, BrokenPipeError):
        options = isolation.receive(requests)
        seconds = options.pop("seconds")
        _limit_memory(options.pop("memory"))
        function, argument = server.open, options
        while True:
            with _time_limit(seconds):
                reply = server.reply(function, argument)
            isolation.send(replies, reply)
            function, argument = server.run, isolation.receive(requests)


def _limit_memory(size):
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


@contextlib.contextmanager
def _time_limit(seconds):
    """Ends this process if the block takes longer. Neither way needs Python to go on."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
    else:
        faulthandler.dump_traceback_later(seconds, file=2, exit=True)
        yield
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(sys.argv[1])
