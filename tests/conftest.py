"""What several tests need: random networks, the published code, the shipped checkpoint."""

import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# JAX computes in float64 only if asked before it is imported.
os.environ.setdefault("JAX_ENABLE_X64", "1")
# What Hypothesis remembers is no part of the project.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(pathlib.Path(tempfile.gettempdir(), "hypothesis")))

import hypothesis
import numpy as np
import pytest
import torch

from weight_port.reference import torch_network

with contextlib.suppress(ModuleNotFoundError):
    # As scripts/check_onnx.py does, and why.
    importlib.import_module("triton")

# The same examples in each run, however slow the machine; --hypothesis-profile=default looks for others.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEFAULT_CHECKPOINT = ROOT / "checkpoints" / "bisenet_resnet18_celebamask1k_fp16.pth"


# They take minutes each. Had one process begin with the last of them when the others are done, all would wait for it.
LONG = (
    *("test_backends", "test_distributed", "test_export_pytorch", "test_port_and_export", "test_train"),
    *("test_evaluate", "test_examples", "test_training_parity", "test_web", "test_webgpu", "test_bisenet"),
)


def pytest_collection_modifyitems(items):
    """The files that take long come first."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def run_without(code, blocked=()):
    """What a fresh interpreter, in the root of the project, prints that cannot find the packages `blocked`."""
    setup = f"""
import sys
class Blocker:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] in {tuple(blocked)!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocker)
"""
    command = [sys.executable, "-c", setup + code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def random_state(backbone="resnet18", layout="zllrunning", num_classes=19, seed=0):
    """A state_dict (key -> float32 array) with random weights and random batch-norm statistics.

    Statistics of 0 and 1 would hide a mistake in them. The logits reach about 20, as a trained network's do: absolute
    tolerances mean something only at that scale, so the residual branches are kept small.
    """
    torch.manual_seed(seed)
    network = torch_network.BiSeNet(num_classes, backbone, layout)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            residual = name.endswith(".bn2")
            module.weight.data.uniform_(0.1 if residual else 0.5, 0.3 if residual else 1.5)
            module.bias.data.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.num_batches_tracked.fill_(int(torch.randint(1, 1000, ())))
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}


def random_images(height, width, dtype="float32", seed=0, count=1):
    """Normalised images `[count, height, width, 3]`."""
    return np.random.default_rng(seed).normal(size=(count, height, width, 3)).astype(dtype)


@pytest.fixture(scope="session")
def published_network():
    """The published PyTorch code of this network, as facexlib ships it: `BiSeNet(num_class)`.

    Only its two model files are loaded: the package itself imports detectors that this project does not need.
    """
    spec = importlib.util.find_spec("facexlib")
    if spec is None:
        pytest.fail("needs the published network: pip install --no-deps facexlib==0.3.0")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "parsing"
    package = importlib.util.spec_from_loader("published_parsing", loader=None, is_package=True)
    package.submodule_search_locations = [str(folder)]
    sys.modules["published_parsing"] = importlib.util.module_from_spec(package)
    return importlib.import_module("published_parsing.bisenet").BiSeNet
