"""Every reader of files stands its seeds, all that fuzzing has found, and some hundred mutations of them.

The readers work in processes of their own: where a library below them crashes, the file has a name.
"""

import concurrent.futures
import hashlib
import multiprocessing
import pathlib
import re
import sys
import tempfile

import pytest
from support.paths import ROOT

sys.path.insert(0, str(ROOT))

from fuzzing import cases

pytestmark = pytest.mark.slow

SECONDS = 120
MUTATIONS = 200
# Beyond what the process holds once its libraries are loaded and it has read the seeds.
MEMORY = 200e6


class Child:
    """A process that reads one case after the other."""

    def __init__(self, reader):
        self._reader = reader
        self._pool = None
        self._folder = tempfile.TemporaryDirectory()

    def read(self, content):
        """Raises what the reader raises; AssertionError if it crashes or hangs."""
        self._call(_read, self._reader, content, self._folder.name)

    def peak(self):
        """Bytes that the process has held at most; 0 where the system does not tell."""
        return self._call(_peak) if sys.platform.startswith("linux") else 0

    def _call(self, function, *arguments):
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(1, context)
        try:
            return self._pool.submit(function, *arguments).result(SECONDS)
        except (concurrent.futures.process.BrokenProcessPool, TimeoutError) as error:
            self.close()
            raise AssertionError(f"the process crashed or hung: {type(error).__name__}") from error

    def close(self):
        if self._pool is not None:
            for process in self._pool._processes.values():
                process.kill()
            self._pool.shutdown()
            self._pool = None


def _read(reader, content, folder):
    cases.reader(reader).read(content, pathlib.Path(folder))


def _peak():
    # Not getrusage, which starts a process with the peak of its parent.
    found = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def children():
    """Reader -> its process."""
    children = {name: Child(name) for name in cases.READERS}
    yield children
    for child in children.values():
        child.close()


@pytest.mark.parametrize("name", cases.READERS)
def test_seeds_and_earlier_finds_are_read_or_refused(children, name):
    # Not a test each: the seeds of `.tflite` files take seconds to make, which collecting tests should not.
    seeds = {f"seed-{label}": content for label, content in cases.reader(name).seeds().items()}
    failures = {}
    for case, content in {**seeds, **cases.found(name)}.items():
        try:
            children[name].read(content)
        except Exception as error:
            failures[case] = error
    assert not failures


@pytest.mark.parametrize("name", cases.READERS)
def test_mutations_are_read_or_refused_in_bounded_memory(children, name, tmp_path):
    child = children[name]
    for content in cases.reader(name).seeds().values():
        child.read(content)
    before = child.peak()
    for content in cases.mutated(name, MUTATIONS, seed=0):
        try:
            child.read(content)
        except Exception as error:
            path = tmp_path / hashlib.sha1(content).hexdigest()
            path.write_bytes(content)
            pytest.fail(f"{error!r}; the file is {path}: put it into fuzzing/found/{name}/ and fix the reader")
    assert child.peak() - before < MEMORY
