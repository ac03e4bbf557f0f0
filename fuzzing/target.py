"""One reader under atheris, in a process of its own; `run.py` starts it.

Usage: python -m fuzzing.target READER SAMPLES [arguments of libFuzzer]

Appends to the file SAMPLES every few seconds: inputs, bytes of memory, open handles.
"""

import importlib
import json
import os
import pathlib
import sys
import tempfile
import time

# Before a library spends its threads and its words on a process that lasts ten minutes.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import atheris

from benchmarks.common.process_memory import held
from fuzzing import cases, mutations

PERIOD = 2.0


class Sampler:
    """Notes what the process holds, every `PERIOD` seconds, from between two inputs."""

    def __init__(self, path):
        self._file = path.open("a", encoding="utf-8")
        self._inputs, self._next = 0, 0.0

    def __call__(self):
        self._inputs += 1
        if time.monotonic() >= self._next:
            memory, files, _ = held()
            self._file.write(json.dumps([self._inputs, memory, files]) + "\n")
            self._file.flush()
            self._next = time.monotonic() + PERIOD


def main():
    name, samples, *arguments = sys.argv[1:]
    module = cases.reader(name)
    early = sorted(set(module.INSTRUMENTED) & set(sys.modules))
    if early:
        sys.exit(f"error: {name}: imports {', '.join(early)} on its own; expected that only in its functions")
    with atheris.instrument_imports(include=sorted({name.partition(".")[0] for name in module.INSTRUMENTED})):
        for instrumented in module.INSTRUMENTED:
            importlib.import_module(instrumented)
    sample = Sampler(pathlib.Path(samples))
    folder = pathlib.Path(tempfile.mkdtemp())

    # What a library loads at its first file is no leak, and no hang.
    for content in module.seeds().values():
        module.read(content, folder)

    def one(content):
        module.read(content, folder)
        sample()

    def mutate(content, max_size, seed):
        return mutations.mutate_with(
            module, content, max_size, seed, lambda content, max_size, _: atheris.Mutate(content, max_size)
        )

    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=mutate, internal_libfuzzer=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
