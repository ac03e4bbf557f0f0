"""Reads what an ONNX file holds, and names the files that are none (imports onnx)."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Sequence

import onnx
from google.protobuf import message

from weight_port import files
from weight_port.errors import OnnxError
from weight_port.files import shown
from weight_port.reference import onnx_size

# Of the image that a file fixes, in pixels; running it takes memory in proportion.
LONGEST_SIDE = 8192


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output. `shape`: a side is None or a name where any size may come; None if the file does not say."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def __str__(self):
        return shown(f"{self.name} {self.dtype} {shape_text(self.shape)}")


@dataclasses.dataclass(frozen=True)
class OnnxFile:
    """What an ONNX file holds.

    Attributes:
        path: the file.
        size: its bytes.
        external: name -> bytes of the files beside it that hold weights; empty for a self-contained file.
        inputs, outputs: in the file's order; weights that old exporters list as inputs are left out.
        opsets: domain -> version; `""` is ONNX's own.
        ops: op name -> count, the commonest first.
    """

    path: pathlib.Path
    size: int
    external: dict[str, int]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opsets: dict[str, int]
    ops: dict[str, int]

    def __str__(self):
        lines = [f"{self.path}: {self.size:,} bytes"]
        if self.external:
            parts = [
                f"{self.path.name} {self.size:,}",
                *(f"{shown(name)} {size:,}" for name, size in self.external.items()),
            ]
            total = self.size + sum(self.external.values())
            lines = [f"{self.path}: {len(parts)} files that belong together, {total:,} bytes: {' + '.join(parts)}"]
        lines += [f"  input   {tensor}" for tensor in self.inputs]
        lines += [f"  output  {tensor}" for tensor in self.outputs]
        opsets = (f"{shown(domain)} {version}".strip() for domain, version in self.opsets.items())
        lines.append("  opset   " + ", ".join(opsets))
        lines.append("  ops     " + ", ".join(f"{shown(op)} {count}" for op, count in self.ops.items()))
        return "\n".join(lines)

    def image_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that the file fixes; where it fixes none, that of `size`.

        Raises:
            OnnxError: the file does not take one image, or takes one that is too large.
        """
        axis, (tensor,) = self.channel_axis(), self.inputs
        shape = tensor.shape or ()
        sides = shape[2:] if axis == 1 else shape[1:3]
        if any(isinstance(side, int) and side > LONGEST_SIDE for side in sides):
            raise OnnxError(f"{self.path}: takes {tensor}; expected at most {LONGEST_SIDE} pixels a side")
        height, width = (side if isinstance(side, int) else wanted for side, wanted in zip(sides, size, strict=True))
        return height, width

    def channel_axis(self) -> int:
        """Where the colors of the input lie: 1 (NCHW) or 3 (NHWC). Taken for 1 where the file leaves both open.

        Raises:
            OnnxError: the file does not take one image.
        """
        if len(self.inputs) == 1:
            (tensor,) = self.inputs
            if tensor.dtype == "float32" and tensor.shape is not None and len(tensor.shape) == 4:
                open_axes = [axis for axis in (1, 3) if not isinstance(tensor.shape[axis], int)]
                axes = [axis for axis in (1, 3) if tensor.shape[axis] == 3] or open_axes
                if axes and (tensor.shape[0] == 1 or not isinstance(tensor.shape[0], int)):
                    return axes[0]
        found = shown(", ".join(map(str, self.inputs)) or "nothing")
        raise OnnxError(
            f"{self.path}: takes {found}; expected one normalized image, float32 [1, 3, H, W] or [1, H, W, 3]"
        )


def shape_text(shape: Sequence[int | str | None] | None) -> str:
    """A shape in words, `?` for a side that is not fixed."""
    if shape is None:
        return "of unknown rank"
    return f"[{', '.join('?' if side is None else str(side) for side in shape)}]"


def inspect(path: str | os.PathLike) -> OnnxFile:
    """Reads an ONNX file, passes it through ONNX's own full check, and describes it.

    Raises:
        OnnxError: the file is missing, is no ONNX model, is damaged, or its weights lie in a file that is missing.
    """
    path = pathlib.Path(path)
    model = _parse(path)
    external = _external_files(path, model)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # besides its own errors those of a message that quotes no text
        raise OnnxError(f"{path}: does not pass onnx.checker: {first_line(error)}") from error
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    return OnnxFile(
        path,
        path.stat().st_size,
        external,
        tuple(_tensor(value) for value in graph.input if value.name not in weights),
        tuple(map(_tensor, graph.output)),
        {entry.domain: entry.version for entry in model.opset_import},
        dict(collections.Counter(node.op_type for node in graph.node).most_common()),
    )


def _parse(path):
    """Reads the file without the weights that lie outside of it; names the usual wrong files."""
    files.check(path, "model", "an .onnx model", OnnxError)
    content = path.read_bytes()
    try:
        onnx_size.check(path, content)
        model = onnx.load_model_from_string(content)
    except OnnxError:
        raise
    except Exception as error:  # protobuf's DecodeError is another class in each of its implementations
        # The first field of an ONNX file is the version of its format.
        if content.startswith(b"\x08"):
            raise OnnxError(f"{path}: is truncated or damaged; export or download it again") from error
        raise OnnxError(f"{path}: is not an ONNX model") from error
    if not model.ir_version or not model.graph.node:
        raise OnnxError(f"{path}: is not an ONNX model")
    return model


def _external_files(path, model):
    """Name -> bytes of the files beside `path` that hold its weights."""
    needed = collections.Counter()
    for tensor in _tensors(model):
        if onnx.external_data_helper.uses_external_data(tensor):
            # A text that is no UTF-8 arrives as bytes.
            notes = {entry.key: str(entry.value) for entry in tensor.external_data}
            name, *numbers = (notes.get(key) or "0" for key in ("location", "offset", "length"))
            if not all(number.isdecimal() and len(number) < 20 for number in numbers):
                raise OnnxError(f"{path}: is truncated or damaged; export or download it again")
            needed[name] = max(needed[name], sum(map(int, numbers)))
    return {name: _external_size(path, name, end) for name, end in needed.items()}


def _tensors(model):
    """Every tensor of a model, wherever it lies: those of functions and inner graphs too."""
    messages = [model]
    while messages:
        found = messages.pop()
        if isinstance(found, onnx.TensorProto):
            yield found
        for field, value in found.ListFields():
            if field.message_type is not None:
                messages += [value] if isinstance(value, message.Message) else value


def _external_size(path, name, end):
    """Bytes of a file beside `path` that holds `end` bytes of weights or more."""
    folder = path.parent.resolve()
    # Windows separates by "\\" too.
    if not name.isprintable() or not (folder / name.replace("\\", "/")).resolve().is_relative_to(folder):
        raise OnnxError(f"{path}: its weights lie in {shown(name)}, outside of its folder; expected a file beside it")
    file = path.parent / name
    if not file.is_file():
        raise OnnxError(
            f"{path}: its weights lie in a second file, {shown(name)}, which is missing; expected it at {file}: put it "
            "there (torch >= 2.9 writes both, and both must be shipped), or export again with external_data=False"
        )
    size = file.stat().st_size
    if size < end:
        raise OnnxError(
            f"{path}: its weights lie in {file}, which is truncated: found {size} bytes, expected at least {end}"
        )
    return size


def _tensor(value):
    if not value.type.HasField("tensor_type"):
        return Tensor(value.name, (value.type.WhichOneof("value") or "value").removesuffix("_type"), None)
    found = value.type.tensor_type
    known = found.elem_type in onnx.helper.get_all_tensor_dtypes()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(found.elem_type).name if known else f"type {found.elem_type}"
    # Some exporters write 0 or -1 where any size may come.
    sides = (dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in found.shape.dim)
    return Tensor(value.name, dtype, tuple(sides) if found.HasField("shape") else None)


def first_line(error: Exception) -> str:
    """The first line of an error's message, which may quote the file; its class where it has none."""
    return shown(next(iter(str(error).strip().splitlines()), type(error).__name__))
