import subprocess
import sys

import numpy as np

MEMORY = "from keras_bisenet.export import pipeline; print(pipeline.peak_memory())"


def test_peak_memory_is_this_process_own():
    """A program that is started by a large one does not count its memory as its own."""
    ballast = np.ones(3 << 26)  # 1.5 GiB
    output = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    assert ballast.sum() == 3 << 26
    assert 0.2e9 < int(output) < ballast.nbytes
