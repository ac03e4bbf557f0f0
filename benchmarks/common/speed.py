"""Times .tflite files of this project, from a uint8 photo to its labels, in processes of their own."""

import statistics
import tempfile

import numpy as np

from benchmarks.common import processes
from benchmarks.runtimes.inputs import Inputs


def time_files(files, options):
    """Name -> median milliseconds of each round, for `files`: name -> (absolute path, photo `[H, W, 3]` uint8 RGB).

    `options` has the flags `rounds`, `runs` (of a process that count) and `threads` as attributes.
    """

    def milliseconds(name):
        path, photo = files[name]
        arguments = {"runner": "litert_labels", "model": str(path), "threads": options.threads, "options": {}}
        with tempfile.TemporaryDirectory() as folder:
            # Only the photo is read.
            Inputs(photo[np.newaxis], *[np.zeros(1)] * 4).save(folder)
            arguments |= {"inputs": folder, "warmups": 3, "runs": options.runs}
            return statistics.median(processes.call("benchmarks.runtimes.worker:measure", arguments)[0])

    return processes.alternate(files, options.rounds, milliseconds)
