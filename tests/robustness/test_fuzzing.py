"""Every reader of files stands its seeds, all that fuzzing has found, and some hundred mutations of them.

The readers work in processes of their own: where a library below them crashes, the file has a name.
"""

import concurrent.futures
import hashlib
import multiprocessing
import pathlib
import re
import sys

import pytest
from support.paths import ROOT

sys.path.insert(0, str(ROOT))

from fuzzing import cases

pytestmark = pytest.mark.slow

SECONDS = 120
MUTATIONS = 200
# Beyond what the process holds once its libraries are loaded and it has read the seeds and the finds.
MEMORY = 200e6


@pytest.fixture
def call():
    """Calls a function in one process of its own, and waits for it no longer than `SECONDS`."""
    pool = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    yield lambda function, *arguments: pool.submit(function, *arguments).result(SECONDS)
    for process in pool._processes.values():
        process.kill()
    pool.shutdown()


def read(reader, content, folder):
    cases.reader(reader).read(content, folder)


def peak():
    """Bytes that the process has held at most; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    # Not getrusage, which starts a process with the peak of its parent.
    found = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    return int(found[1]) * 1024


@pytest.mark.parametrize("reader", cases.READERS)
def test_seeds_finds_and_mutations_are_read_or_refused(call, reader, tmp_path):
    folder = tmp_path / "read"
    folder.mkdir()

    def check(contents):
        for content in contents:
            try:
                call(read, reader, content, folder)
            except Exception as error:
                path = tmp_path / hashlib.sha1(content).hexdigest()
                path.write_bytes(content)
                pytest.fail(f"{error!r}; the file is {path}: put it into fuzzing/found/{reader}/ and fix the reader")

    check([*cases.reader(reader).seeds().values(), *cases.found(reader).values()])
    before = call(peak)
    check(cases.mutated(reader, MUTATIONS, seed=0))
    assert call(peak) - before < MEMORY
