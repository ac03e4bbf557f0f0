"""The way back to PyTorch as its user runs it: what the published code makes of the file, and what is refused."""

import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch
from support import script_runner
from support.files import names
from support.networks import random_images, random_state
from support.paths import ROOT
from support.ported import port
from support.refusals import check_refused

import weight_port
from keras_bisenet import HEADS, BiSeNet
from weight_port import parity
from weight_port.reference import torch_network

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "export_pytorch.py"


def command(*arguments, **options):
    return script_runner.run(SCRIPT, *arguments, **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A `.keras` file of two classes, to be refused for other reasons."""
    path = tmp_path_factory.mktemp("small") / "small.keras"
    port(random_state(num_classes=2)).save(path)
    return path


@pytest.mark.parametrize(
    ("run", "layout", "suffix", "num_classes", "backbone", "options"),
    [
        (script_runner.run_alone, "zllrunning", ".pth", 19, "resnet18", {}),
        (script_runner.run, "zllrunning", ".safetensors", 5, "resnet18", {"dtype": "mixed_bfloat16"}),
        (script_runner.run, "yakhyo", ".safetensors", 19, "resnet18", {"dtype": "float64"}),
        (script_runner.run, "yakhyo", ".pth", 5, "resnet34", {"input_shape": (64, 96, 3)}),
    ],
)
def test_the_pytorch_network_loads_it_strictly_and_computes_the_same(
    tmp_path, published_network, run, layout, suffix, num_classes, backbone, options
):
    model = port(random_state(backbone, num_classes=num_classes), **options)
    model.save(tmp_path / "model.keras")
    path = tmp_path / "new" / f"face_parsing{suffix}"
    flags = ["--model", tmp_path / "model.keras", "--output", path, "--layout", layout]
    process = run(SCRIPT, *flags)
    assert process.returncode == 0, process.stderr
    assert names(path.parent) == [path.name]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for found in (path, f"{path.stat().st_size:,} bytes", backbone, f"{num_classes} classes", layout, digest):
        assert str(found) in process.stdout.splitlines()[-1]

    # Read as the users of the PyTorch code do.
    read = torch.load if suffix == ".pth" else safetensors.torch.load_file
    state = read(path)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}
    of_yakhyo = layout == "yakhyo"
    network = torch_network.BiSeNet(num_classes, backbone, layout) if of_yakhyo else published_network(num_classes)
    network.load_state_dict(state, strict=True)
    exact = BiSeNet(num_classes, backbone, dtype="float64")
    exact.set_weights(model.get_weights())
    images = random_images(97, 65, "float64")
    with torch.inference_mode():
        logits = network.double().eval()(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    results = exact.predict_on_batch(images)
    for head, result in zip(HEADS, logits, strict=True):
        difference = parity.compare(results[head], result.permute(0, 2, 3, 1).numpy())
        assert parity.TOLERANCES["keras_float64"].holds(difference), (head, difference)

    # And forth again.
    again = port(weight_port.load(path))
    before, after = (weight_port.keras_weights(network.variables) for network in (model, again))
    assert before.keys() == after.keys()
    for variable, array in before.items():
        np.testing.assert_array_equal(after[variable], array, err_msg=variable)


def test_what_cannot_be_read_or_written(tmp_path, small):
    process = command("--model", tmp_path / "none.keras", "--output", tmp_path / "out" / "a.pth")
    check_refused(process, f"{tmp_path}/none.keras: no such file", left=tmp_path / "out")
    (tmp_path / "file").write_text("")
    process = command("--model", small, "--output", tmp_path / "file" / "out" / "a.pth")
    check_refused(process, tmp_path / "file" / "out", "Not a directory")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_no_space_left(tmp_path, small, suffix):
    """A limit on the size of any file fails as a full disk does."""
    process = command("--model", small, "--output", tmp_path / "out" / f"a{suffix}", largest_file=10 << 20)
    check_refused(process, tmp_path / "out", "File too large", left=tmp_path / "out")


def test_what_fails_the_comparison_leaves_the_older_file(tmp_path):
    """A network that diverged computes nothing that could be compared."""
    model = port(random_state(num_classes=2))
    variable = model.get_layer("ffm_conv1").kernel
    variable.assign(np.full(variable.shape, np.nan))
    path, output = tmp_path / "diverged.keras", tmp_path / "a.pth"
    model.save(path)
    output.write_bytes(b"of an earlier run")
    process = command("--model", path, "--output", output)
    check_refused(process, output, path, "keras_float64, keras")
    assert output.read_bytes() == b"of an earlier run"
    assert names(tmp_path) == ["a.pth", "diverged.keras"]
