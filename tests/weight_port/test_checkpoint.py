"""Reading checkpoint files: every format people have, and every file that is none."""

import pathlib
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

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
    assert [path.name for path in tmp_path.iterdir()] == [f"c{suffix}"]


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
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.pth"]
    assert path.read_bytes() == b"old"


def message(path):
    with pytest.raises(CheckpointError) as error:
        load(path)
    return str(error.value)


def test_missing_file(tmp_path):
    assert message(tmp_path / "c.pth") == f"{tmp_path}/c.pth: no such file"


def test_folder(tmp_path):
    assert message(tmp_path) == f"{tmp_path}: is not a file; expected a .pth, .pt or .safetensors checkpoint"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty (0 bytes); download it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            "is a git-lfs pointer, not the checkpoint; run 'git lfs pull' to fetch it",
        ),
        *[
            (
                page,
                "is a web page, not a checkpoint; the link led to a download page: fetch it with a browser",
            )
            for page in (b"<!DOCTYPE html><html>", b"\n  <html lang=en>", b"<?xml version='1.0'?>")
        ],
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_checkpoint(tmp_path, content, text, suffix):
    path = tmp_path / f"c{suffix}"
    path.write_bytes(content)
    assert message(path) == f"{path}: {text}"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [1, 20, 29, 200, 0.5, 0.99])
def test_truncated_torch_file(tmp_path, zipped, keep):
    path = tmp_path / "c.pth"
    torch.save({"a": torch.ones(4000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    assert message(path) == f"{path}: is truncated or damaged; download it again"


@pytest.mark.parametrize("keep", [4, 30, 100])
def test_truncated_safetensors(tmp_path, keep):
    path = tmp_path / "c.safetensors"
    save(path, {"a": np.ones(50, np.float32)})
    path.write_bytes(path.read_bytes()[:keep])
    assert message(path).startswith(f"{path}: is truncated or damaged (")
    assert message(path).endswith("); download it again")


class Exploit:
    """Unpickling this writes a file."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return pathlib.Path.write_text, (pathlib.Path(self.target), "executed")


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_not_executed(tmp_path, how):
    path, target = tmp_path / "c.pth", tmp_path / "executed"
    content = {"a": torch.ones(2), "b": Exploit(target)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    assert message(path) == (
        f"{path}: refused: it holds something other than tensors, and unpickling that could run code; nothing was "
        "executed. Expected a state_dict: save it with torch.save(model.state_dict(), path)"
    )
    assert not target.exists()


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "c.pth")
    assert "save it with torch.save(model.state_dict(), path)" in message(tmp_path / "c.pth")


def test_tar_of_early_pytorch(tmp_path):
    path = tmp_path / "c.pth"
    (tmp_path / "pickle").write_bytes(pickle.dumps({}))
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "pickle", "pickle")
    assert message(path) == (
        f"{path}: is in the tar format of PyTorch before 0.1.10, which cannot be read safely; load and save it once "
        "with an old PyTorch, or take a newer release of it"
    )


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
    assert message(path) == (
        f"{path}: holds {found}; expected a state_dict, plain or under 'state_dict', 'model', 'net'"
    )


@pytest.mark.parametrize(
    "make",
    [lambda x: x.to_sparse(), lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)],
    ids=["sparse", "quantized"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_tensors_that_are_no_plain_arrays(tmp_path, make):
    path = tmp_path / "c.pth"
    torch.save({"a": make(torch.eye(3))}, path)
    assert message(path) == f"{path}: holds quantized or sparse tensors; expected plain ones, of the float network"


def test_safetensors_of_another_dtype(tmp_path):
    import safetensors.torch

    path = tmp_path / "c.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2, dtype=torch.bool)}, path)
    assert message(path) == f"{path}: a is BOOL; expected one of BF16, F64, F32, F16, I64, I32"


def test_without_safetensors_it_says_so(tmp_path, monkeypatch):
    save(tmp_path / "c.safetensors", {"a": np.ones(2, np.float32)})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = tmp_path / "c.safetensors"
    assert message(path) == f"{path}: reading a .safetensors file needs safetensors: pip install safetensors"


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
    assert output.splitlines() == [
        "{'a': array([1., 1.], dtype=float32)}",
        f"{tmp_path}/c.pth: reading a .pth file needs PyTorch: pip install torch (a .safetensors file does not)",
    ]
