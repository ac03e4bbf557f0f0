"""The memory that an export reports."""

import sys

import numpy as np
import pytest
from support.fresh_python import run_without


def test_peak_memory_is_this_process_own():
    """A program that is started by a large one does not count its memory as its own."""
    ballast = np.ones(3 << 26)  # 1.5 GiB
    output = run_without("from keras_bisenet.export import pipeline; print(pipeline.peak_memory())")
    assert ballast.sum() == 3 << 26
    assert 0.2e9 < int(output) < ballast.nbytes


MAPPED = """
import mmap
from keras_bisenet.export import pipeline
before = pipeline.peak_memory()
with open({path!r}, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    assert not any(mapped[:: mmap.PAGESIZE])
    print(pipeline.peak_memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells mapped files apart")
def test_mapped_files_are_no_memory_of_the_process(tmp_path):
    """As many pages of libraries are mapped as the system has in its cache."""
    path = tmp_path / "mapped"
    with path.open("wb") as file:
        file.truncate(1 << 28)
    assert int(run_without(MAPPED.format(path=str(path)))) < 1 << 26
