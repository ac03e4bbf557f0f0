"""Reads a checkpoint file into arrays, and writes one. Never runs code that a file brings along."""

import io
import os
import pathlib
import tarfile

import numpy as np

from weight_port import files
from weight_port.errors import CheckpointError

# Where training scripts put the weights in a larger dictionary.
NESTED_UNDER = ("state_dict", "model", "net")
# What DistributedDataParallel and torch.compile put before every name.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")

_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
}


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a state_dict from `.pth`/`.pt` (zip or legacy format) or `.safetensors`.

    A dictionary nested under `state_dict`, `model` or `net` is taken out, and the prefixes `module.` and
    `_orig_mod.` are taken off. float16 and bfloat16 become float32, which holds them exactly.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, is damaged, or holds pickled code.
    """
    path = pathlib.Path(path)
    files.check(path, "checkpoint", "a .pth, .pt or .safetensors checkpoint", CheckpointError)
    if tarfile.is_tarfile(path):
        raise CheckpointError(
            f"{path}: is in the tar format of PyTorch before 0.1.10, which cannot be read safely; "
            "load and save it once with an old PyTorch, or take a newer release of it"
        )
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    return _strip_prefixes(_find_state_dict(read(path), path))


def _read_torch(path):
    try:
        import torch
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{path}: reading a {path.suffix} file needs PyTorch: pip install torch (a .safetensors file does not)"
        ) from None
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            # A damaged file makes the reader stumble in many ways; a forbidden name is always called a "global".
            if "global" in str(error).lower():
                raise CheckpointError(
                    f"{path}: refused: it holds something other than tensors, and unpickling that could run code; "
                    "nothing was executed. Expected a state_dict: save it with torch.save(model.state_dict(), path)"
                ) from error
            raise CheckpointError(f"{path}: is truncated or damaged; download it again") from error
    return (
        _map_tensors(content, lambda tensor: _torch_array(path, tensor, torch))
        if isinstance(content, dict)
        else content
    )


def _map_tensors(content, convert):
    """Converts the tensors of a dictionary and of the dictionaries in it."""
    return {
        key: _map_tensors(value, convert) if isinstance(value, dict) else convert(value)
        for key, value in content.items()
    }


def _torch_array(path, value, torch):
    if not isinstance(value, torch.Tensor):
        return value
    if value.layout != torch.strided or value.is_quantized:
        raise CheckpointError(f"{path}: holds quantised or sparse tensors; expected plain ones, of the float network")
    value = value.detach()
    return (value.float() if value.dtype in (torch.float16, torch.bfloat16) else value).numpy()


def _read_safetensors(path):
    try:
        import safetensors
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{path}: reading a .safetensors file needs safetensors: pip install safetensors"
        ) from None

    try:
        tensors = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: is truncated or damaged ({error}); download it again") from error
    return {name: _safetensors_array(path, name, view) for name, view in tensors}


def _safetensors_array(path, name, view):
    if view["dtype"] == "BF16":
        # bfloat16 is the upper half of a float32.
        array = (np.frombuffer(view["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif view["dtype"] in _SAFETENSORS_DTYPES:
        array = np.frombuffer(view["data"], _SAFETENSORS_DTYPES[view["dtype"]])
    else:
        raise CheckpointError(
            f"{path}: {name} is {view['dtype']}; expected one of BF16, {', '.join(_SAFETENSORS_DTYPES)}"
        )
    return (array.astype(np.float32) if array.dtype == np.float16 else array).reshape(view["shape"])


def _find_state_dict(content, path):
    if isinstance(content, dict):
        for name in NESTED_UNDER:
            if isinstance(content.get(name), dict):
                return _find_state_dict(content[name], path)
        if content and all(isinstance(key, str) and isinstance(array, np.ndarray) for key, array in content.items()):
            return content
    found = f"a {type(content).__name__}"
    if isinstance(content, dict):
        found = f"a dictionary of {', '.join(map(repr, content)) or 'nothing'}"
    raise CheckpointError(
        f"{path}: holds {found}; expected a state_dict, plain or under {', '.join(map(repr, NESTED_UNDER))}"
    )


def _strip_prefixes(state):
    for prefix in WRAPPER_PREFIXES * 2:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def save(path: str | os.PathLike, state: dict[str, np.ndarray]) -> None:
    """Writes a state_dict as `.pth`/`.pt` (needs torch) or `.safetensors`; the file appears whole or not at all.

    Raises:
        OSError: the folder cannot be written to or is full.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            if path.suffix == ".safetensors":
                import safetensors.numpy

                file.write(safetensors.numpy.save(state))
            else:
                import torch

                # In memory first: on a full disk torch raises an internal error of its own.
                buffer = io.BytesIO()
                torch.save({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, buffer)
                file.write(buffer.getbuffer())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
