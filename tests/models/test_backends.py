"""The network and its blocks on the other Keras backends: the same tests in a process of their own."""

import os
import subprocess
import sys

import pytest
from support.paths import ROOT

pytestmark = pytest.mark.slow

SUITE = ["tests/models/test_layers.py", "tests/models/test_bisenet.py", "tests/models/test_preprocessing.py"]
# JAX compiles every operation for every new shape, which takes minutes; the trained network stands for the random ones.
SELECTION = {"torch": [], "jax": ["-k", "not test_equals_pytorch"]}


@pytest.mark.parametrize("backend", SELECTION)
def test_backend(backend):
    pytest.importorskip(backend, reason=f"needs the {backend} backend: pip install {backend}")
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", *SUITE, *SELECTION[backend]],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-4000:]
    assert " passed" in process.stdout
