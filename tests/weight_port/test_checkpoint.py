"""Reading checkpoint files: every format people have, and every file that is none."""

import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from support.files import names
from support.refusals import refused

from weight_port import CheckpointError, load, save

STATE = {
    "conv.weight": torch.linspace(-2, 2, 24).reshape(2, 3, 2, 2),
    "bn.running_var": torch.tensor([0.5, 1e-3, 7.0]),
    "bn.num_batches_tracked": torch.tensor(12),
}


def check(path, state=STATE):
    loaded = load(path)
    assert loaded.keys() == state.keys()
    for key, tensor in state.items():
        expected = tensor.float() if tensor.is_floating_point() else tensor
        assert loaded[key].dtype == expected.numpy().dtype
        np.testing.assert_array_equal(loaded[key], expected.numpy())


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_formats(tmp_path, suffix, zipped):
    torch.save(STATE, tmp_path / f"c{suffix}", _use_new_zipfile_serialization=zipped)
    check(tmp_path / f"c{suffix}")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_precision_becomes_float32_exactly(tmp_path, dtype, suffix):
    import safetensors.torch

    state = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in STATE.items()}
    (torch.save if suffix == ".pth" else safetensors.torch.save_file)(state, tmp_path / f"c{suffix}")
    check(tmp_path / f"c{suffix}", state)


@pytest.mark.parametrize("name", ["state_dict", "model", "net"])
def test_nested(tmp_path, name):
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, name: STATE}, tmp_path / "c.pth")
    check(tmp_path / "c.pth")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrapper_prefixes(tmp_path, prefix):
    torch.save({prefix + key: tensor for key, tensor in STATE.items()}, tmp_path / "c.pth")
    check(tmp_path / "c.pth")


def test_a_prefix_that_not_every_key_has_is_a_name(tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "c.pth")
    check(tmp_path / "c.pth", state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_save_and_load(tmp_path, suffix):
    save(tmp_path / f"c{suffix}", {key: tensor.numpy() for key, tensor in STATE.items()})
    check(tmp_path / f"c{suffix}")
    assert names(tmp_path) == [f"c{suffix}"]


def test_others_may_read_what_is_saved(tmp_path):
    """As far as the user's umask lets them, like any other file."""
    (tmp_path / "other").touch()
    save(tmp_path / "a.pth", {"x": np.zeros(1, np.float32)})
    assert (tmp_path / "a.pth").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "c.pth"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        save(path, {"a": np.array(["no tensor"])})
    assert names(tmp_path) == ["c.pth"]
    assert path.read_bytes() == b"old"


def refuse(path, *found):
    """`load` must refuse a file in one line, with its path and all of `found`."""
    with refused(CheckpointError, path, *found):
        load(path)


def test_what_is_no_file(tmp_path):
    refuse(tmp_path / "c.pth", "no such file")
    refuse(tmp_path, "not a file")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "empty (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n  <html lang=en>", "web page"),
        (b"<?xml version='1.0'?>", "web page"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_checkpoint(tmp_path, content, found, suffix):
    path = tmp_path / f"c{suffix}"
    path.write_bytes(content)
    refuse(path, found)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [1, 20, 29, 200, 0.5, 0.99])
def test_truncated_torch_file(tmp_path, zipped, keep):
    path = tmp_path / "c.pth"
    torch.save({"a": torch.ones(4000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    refuse(path, "truncated or damaged")


@pytest.mark.parametrize("keep", [4, 30, 100])
def test_truncated_safetensors(tmp_path, keep):
    path = tmp_path / "c.safetensors"
    save(path, {"a": np.ones(50, np.float32)})
    path.write_bytes(path.read_bytes()[:keep])
    refuse(path, "truncated or damaged (")


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "c.pth")
    refuse(tmp_path / "c.pth", "torch.save(model.state_dict(), path)")


def test_tar_of_early_pytorch(tmp_path):
    path = tmp_path / "c.pth"
    (tmp_path / "pickle").write_bytes(pickle.dumps({}))
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "pickle", "pickle")
    refuse(path, "tar format")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "a list"),
        (torch.ones(2), "a Tensor"),
        ({}, "a dictionary of nothing"),
        ({"epoch": 3, "weights": {}}, "a dictionary of 'epoch', 'weights'"),
        ({0: torch.ones(1), 1: torch.ones(1)}, "a dictionary of 0, 1"),
    ],
)
def test_no_state_dict(tmp_path, content, found):
    path = tmp_path / "c.pth"
    torch.save(content, path)
    refuse(path, f"holds {found}", "'state_dict', 'model', 'net'")


@pytest.mark.parametrize(
    "make",
    [lambda x: x.to_sparse(), lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)],
    ids=["sparse", "quantized"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_tensors_that_are_no_plain_arrays(tmp_path, make):
    path = tmp_path / "c.pth"
    torch.save({"a": make(torch.eye(3))}, path)
    refuse(path, "quantized or sparse tensors")


def test_safetensors_of_another_dtype(tmp_path):
    import safetensors.torch

    path = tmp_path / "c.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2, dtype=torch.bool)}, path)
    refuse(path, "a is BOOL")


def test_without_safetensors_it_says_so(tmp_path, monkeypatch):
    save(tmp_path / "c.safetensors", {"a": np.ones(2, np.float32)})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    refuse(tmp_path / "c.safetensors", "pip install safetensors")


def test_without_torch_a_pth_says_so_and_safetensors_still_reads(tmp_path):
    save(tmp_path / "c.pth", {"a": np.ones(2, np.float32)})
    save(tmp_path / "c.safetensors", {"a": np.ones(2, np.float32)})
    code = (
        "import sys; sys.modules['torch'] = None; import weight_port\n"
        f"print(weight_port.load({str(tmp_path / 'c.safetensors')!r}))\n"
        f"try: weight_port.load({str(tmp_path / 'c.pth')!r})\n"
        "except weight_port.CheckpointError as error: print(error)\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded, refusal = output.splitlines()
    assert loaded == "{'a': array([1., 1.], dtype=float32)}"
    assert refusal.startswith(f"{tmp_path}/c.pth: ")
    assert "pip install torch" in refusal
