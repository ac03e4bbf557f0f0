"""How the tests run, and the published PyTorch code."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# JAX computes in float64 only if asked before it is imported.
os.environ.setdefault("JAX_ENABLE_X64", "1")
# What Hypothesis remembers is no part of the project.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(pathlib.Path(tempfile.gettempdir(), "hypothesis")))

import filelock
import hypothesis
import pytest

# So that its assertions say what they compared, as those of the tests do.
pytest.register_assert_rewrite("support")

with contextlib.suppress(ModuleNotFoundError):
    # As scripts/check_onnx.py does, and why.
    importlib.import_module("triton")

# The same examples in each run, however slow the machine; --hypothesis-profile=default looks for others.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")

# Files that take long run first, so that no worker starts one while the others idle; the first of them runs the default
# export, and the others that look at it come late enough not to wait for it.
LONG = (
    *("test_readme", "test_convert", "test_bisenet", "test_tolerances", "test_quantize", "test_passes"),
    *("test_backends", "test_distributed", "test_trainer", "test_page", "test_train", "test_webgpu", "test_mediapipe"),
    *("test_properties", "test_evaluate"),
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def published_network():
    """`BiSeNet(num_class)` of facexlib, of which only this network is loaded: the package itself imports detectors."""
    spec = importlib.util.find_spec("facexlib")
    if spec is None:
        pytest.fail("needs the published network: pip install --no-deps facexlib==0.3.0")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "parsing"
    package = importlib.util.spec_from_loader("published_parsing", loader=None, is_package=True)
    package.submodule_search_locations = [str(folder)]
    sys.modules["published_parsing"] = importlib.util.module_from_spec(package)
    return importlib.import_module("published_parsing.bisenet").BiSeNet


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Fills a folder once for all processes that run these tests: a function of its name and of what fills it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def make(name, fill):
        folder, done = root / name, root / f"{name}.done"
        with filelock.FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def default_export(once):
    """`exports.Export` of the default command, without any flag, in a folder that looks like the checkout."""
    from support import exports

    export = exports.Export.of(once("checkout", exports.run_default), "build/face_parsing")
    assert export.status == 0, export.stderr
    return export


@pytest.fixture(scope="session")
def failed_export(once):
    """`exports.Export` of a run of which some comparisons fail."""
    from support import exports

    return exports.Export.of(once("failing", exports.run_failing), "out")


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small disk of so many kB, or changes it when called again, and gives its folder."""
    folder, mounted = tmp_path / "disk", []
    folder.mkdir()

    def mount(kilobytes, mode="rw"):
        flags = ["-o", f"remount,{mode},size={kilobytes}k"] if mounted else ["-t", "tmpfs", "-o", f"size={kilobytes}k"]
        command = ["mount", *flags, "tmpfs", str(folder)]
        if shutil.which("mount") is None or (subprocess.run(command, capture_output=True).returncode and not mounted):
            pytest.skip("needs the right to mount a small disk (root)")
        mounted.append(kilobytes)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
