"""Reading checkpoint files: every format people have, and every file that is none."""

import pickle
import tarfile

import numpy as np
import pytest
import safetensors.torch
import torch
from support.files import content, names
from support.fresh_python import run_without
from support.refusals import check_line, refused

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


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.pth"


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_formats(tmp_path, suffix, zipped):
    torch.save(STATE, tmp_path / f"c{suffix}", _use_new_zipfile_serialization=zipped)
    check(tmp_path / f"c{suffix}")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_precision_becomes_float32_exactly(tmp_path, dtype, suffix):
    state = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in STATE.items()}
    (torch.save if suffix == ".pth" else safetensors.torch.save_file)(state, tmp_path / f"c{suffix}")
    check(tmp_path / f"c{suffix}", state)


@pytest.mark.parametrize("name", ["state_dict", "model", "net"])
def test_nested(path, name):
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, name: STATE}, path)
    check(path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrapper_prefixes(path, prefix):
    torch.save({prefix + key: tensor for key, tensor in STATE.items()}, path)
    check(path)


def test_a_prefix_that_not_every_key_has_is_a_name(path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(state, path)
    check(path, state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_save_and_load(tmp_path, suffix):
    save(tmp_path / f"c{suffix}", {key: tensor.numpy() for key, tensor in STATE.items()})
    check(tmp_path / f"c{suffix}")
    assert names(tmp_path) == [f"c{suffix}"]


def test_others_may_read_what_is_saved(path):
    """As far as the user's umask lets them, like any other file."""
    path.with_name("other").touch()
    save(path, {"x": np.zeros(1, np.float32)})
    assert path.stat().st_mode == path.with_name("other").stat().st_mode


def test_a_failed_save_keeps_the_old_file(path):
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        save(path, {"a": np.array(["no tensor"])})
    assert content(path.parent) == {"c.pth": b"old"}


def refuse(path, *found):
    """`load` must refuse a file in one line, with its path and all of `found`."""
    with refused(CheckpointError, path, *found):
        load(path)


def test_what_is_no_file(path):
    refuse(path, "no such file")
    refuse(path.parent, "not a file")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n  <html lang=en>", "web page"),
        (b"<?xml version='1.0'?>", "web page"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_checkpoint(path, data, found, suffix):
    path = path.with_suffix(suffix)
    path.write_bytes(data)
    refuse(path, found)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [1, 20, 29, 200, 0.5, 0.99])
def test_truncated_torch_file(path, zipped, keep):
    torch.save({"a": torch.ones(4000)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    refuse(path, "truncated or damaged")


@pytest.mark.parametrize("keep", [4, 30, 100])
def test_truncated_safetensors(path, keep):
    path = path.with_suffix(".safetensors")
    save(path, {"a": np.ones(50, np.float32)})
    path.write_bytes(path.read_bytes()[:keep])
    refuse(path, "truncated or damaged (")


def test_tar_of_early_pytorch(path):
    path.with_name("pickle").write_bytes(pickle.dumps({}))
    with tarfile.open(path, "w") as tar:
        tar.add(path.with_name("pickle"), "pickle")
    refuse(path, "tar format")


@pytest.mark.parametrize(
    ("holds", "found"),
    [
        ([1, 2], "a list"),
        (torch.ones(2), "a Tensor"),
        ({}, "a dictionary of nothing"),
        ({"epoch": 3, "weights": {}}, "a dictionary of 'epoch', 'weights'"),
        ({0: torch.ones(1), 1: torch.ones(1)}, "a dictionary of 0, 1"),
    ],
)
def test_no_state_dict(path, holds, found):
    torch.save(holds, path)
    refuse(path, f"holds {found}", "'state_dict', 'model', 'net'")


def test_a_whole_module_is_refused(path):
    torch.save(torch.nn.Conv2d(1, 1, 1), path)
    refuse(path, "torch.save(model.state_dict(), path)")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_tensors_that_are_no_plain_arrays(path):
    for tensor in (torch.eye(3).to_sparse(), torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)):
        torch.save({"a": tensor}, path)
        refuse(path, "quantized or sparse tensors")
    path = path.with_suffix(".safetensors")
    safetensors.torch.save_file({"a": torch.ones(2, dtype=torch.bool)}, path)
    refuse(path, "a is BOOL")


@pytest.mark.parametrize(
    ("package", "suffix", "other"), [("torch", ".pth", ".safetensors"), ("safetensors", ".safetensors", ".pth")]
)
def test_without_a_package_its_files_are_refused_and_the_others_read(tmp_path, package, suffix, other):
    paths = [str(tmp_path / f"c{kind}") for kind in (other, suffix)]
    for path in paths:
        save(path, {"a": np.ones(2, np.float32)})
    code = f"""
import weight_port
for path in {paths}:
    try:
        print(weight_port.load(path))
    except weight_port.CheckpointError as error:
        print(error)
"""
    loaded, refusal = run_without(code, [package]).splitlines()
    assert loaded == "{'a': array([1., 1.], dtype=float32)}"
    check_line(refusal, [paths[1], f"pip install {package}"])
