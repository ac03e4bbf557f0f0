"""Reads a checkpoint file into arrays, and writes one. Never runs code that a file brings along."""

import io
import os
import pathlib

import numpy as np

from weight_port import files, torch_file
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
# The description of its tensors, 40 kB for this network; each byte of it costs ten of memory.
_SAFETENSORS_HEADER_LIMIT = 1 << 20


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a state_dict from `.pth`/`.pt` (zip or legacy format) or `.safetensors`.

    A dictionary nested under `state_dict`, `model` or `net` is taken out, and the prefixes `module.` and
    `_orig_mod.` are taken off. float16 and bfloat16 become float32, which holds them exactly.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, is damaged, or holds pickled code.
    """
    path = pathlib.Path(path)
    files.check(path, "checkpoint", "a .pth, .pt or .safetensors checkpoint", CheckpointError)
    # Not by tarfile, which unpacks a compressed one to see, however large that becomes.
    if files.head(path)[257:262] == b"ustar":
        raise CheckpointError(
            f"{path}: is in the tar format of PyTorch before 0.1.10, which cannot be read safely; "
            "load and save it once with an old PyTorch, or take a newer release of it"
        )
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    return _strip_prefixes(read(path))


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
            content = torch.load(torch_file.prepare(path), map_location="cpu", weights_only=True)
        except CheckpointError:
            raise
        except Exception as error:  # a damaged file makes the readers stumble in many ways
            raise CheckpointError(f"{path}: is truncated or damaged; download it again") from error
    state = _find_state_dict(content, torch.Tensor, path)
    size = sum(_torch_size(path, name, tensor, torch) for name, tensor in state.items())
    if size > path.stat().st_size:
        raise CheckpointError(f"{path}: its tensors share memory, and take {size} bytes apart; expected separate ones")
    return {name: _torch_array(path, name, tensor, torch) for name, tensor in state.items()}


def _torch_size(path, name, tensor, torch):
    """Bytes of all values of a tensor; the memory behind it can be less, where a stride is 0."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise CheckpointError(f"{path}: holds quantized or sparse tensors; expected plain ones, of the float network")
    size, memory = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if size > memory:
        raise CheckpointError(
            f"{path}: {files.shown(name)} has the shape {files.shown(list(tensor.shape))} over {memory} bytes; "
            f"expected {size} bytes, each value stored"
        )
    return size


def _torch_array(path, name, tensor, torch):
    tensor = tensor.detach()
    try:
        return (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()
    except Exception as error:  # types and shapes that NumPy does not have
        raise CheckpointError(
            f"{path}: {files.shown(name)} is {tensor.dtype}, {tensor.ndim} axes; expected plain numbers"
        ) from error


def _read_safetensors(path):
    try:
        import safetensors
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{path}: reading a .safetensors file needs safetensors: pip install safetensors"
        ) from None

    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little")
    if header > min(len(content), _SAFETENSORS_HEADER_LIMIT):
        raise CheckpointError(
            f"{path}: is truncated or damaged (its header claims {header} bytes, of {len(content)} in the file; "
            f"expected at most {_SAFETENSORS_HEADER_LIMIT}); download it again"
        )
    try:
        tensors = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: is truncated or damaged ({files.shown(error)}); download it again") from error
    state = {name: _safetensors_array(path, name, view) for name, view in tensors}
    return _find_state_dict(state, np.ndarray, path)


def _safetensors_array(path, name, view):
    if view["dtype"] == "BF16":
        # bfloat16 is the upper half of a float32.
        array = (np.frombuffer(view["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif view["dtype"] in _SAFETENSORS_DTYPES:
        array = np.frombuffer(view["data"], _SAFETENSORS_DTYPES[view["dtype"]])
    else:
        raise CheckpointError(
            f"{path}: {files.shown(name)} is {view['dtype']}; expected one of BF16, {', '.join(_SAFETENSORS_DTYPES)}"
        )
    try:
        return (array.astype(np.float32) if array.dtype == np.float16 else array).reshape(view["shape"])
    except ValueError as error:
        raise CheckpointError(
            f"{path}: {files.shown(name)} has the shape {files.shown(view['shape'])}, which NumPy cannot hold"
        ) from error


def _find_state_dict(content, tensor, path):
    """The dictionary of nothing but `tensor`s in what a file holds."""
    # A dictionary can lie in itself.
    for _ in NESTED_UNDER:
        if isinstance(content, dict):
            inner = (content[name] for name in NESTED_UNDER if isinstance(content.get(name), dict))
            content = next(inner, content)
    found = f"a {type(content).__name__}"
    if isinstance(content, dict):
        if content and all(isinstance(key, str) and isinstance(value, tensor) for key, value in content.items()):
            return content
        found = f"a dictionary of {files.shown(', '.join(map(repr, content)) or 'nothing')}"
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
    with files.written(path, f"{os.getpid()}-") as partial, partial.open("wb") as file:
        if path.suffix == ".safetensors":
            import safetensors.numpy

            file.write(safetensors.numpy.save(state))
        else:
            import torch

            # In memory first: on a full disk torch raises an internal error of its own.
            buffer = io.BytesIO()
            torch.save({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, buffer)
            file.write(buffer.getbuffer())
