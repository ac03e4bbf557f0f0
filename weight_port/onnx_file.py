"""Reads what an ONNX file holds, and names the files that are none (imports onnx)."""

import collections
import dataclasses
import os
import pathlib

import onnx

from weight_port import files
from weight_port.errors import OnnxError


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output. `shape`: a side is None or a name where any size may come; None if the file does not say."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def __str__(self):
        return f"{self.name} {self.dtype} {shape_text(self.shape)}"


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
            parts = [f"{self.path.name} {self.size:,}", *(f"{name} {size:,}" for name, size in self.external.items())]
            total = self.size + sum(self.external.values())
            lines = [f"{self.path}: {len(parts)} files that belong together, {total:,} bytes: {' + '.join(parts)}"]
        lines += [f"  input   {tensor}" for tensor in self.inputs]
        lines += [f"  output  {tensor}" for tensor in self.outputs]
        lines.append("  opset   " + ", ".join(f"{domain} {version}".strip() for domain, version in self.opsets.items()))
        lines.append("  ops     " + ", ".join(f"{op} {count}" for op, count in self.ops.items()))
        return "\n".join(lines)

    def image_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that the file fixes; where it fixes none, that of `size`.

        Raises:
            OnnxError: the file does not take one image.
        """
        (tensor,), axis = self.inputs, self.channel_axis()
        sides = tensor.shape[2:] if axis == 1 else tensor.shape[1:3]
        return tuple(side if isinstance(side, int) else wanted for side, wanted in zip(sides, size, strict=True))

    def channel_axis(self) -> int:
        """Where the colours of the input lie: 1 (NCHW) or 3 (NHWC). Taken for 1 where the file leaves both open.

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
        found = ", ".join(map(str, self.inputs)) or "nothing"
        raise OnnxError(
            f"{self.path}: takes {found}; expected one normalised image, float32 [1, 3, H, W] or [1, H, W, 3]"
        )


def shape_text(shape):
    if shape is None:
        return "of unknown rank"
    return f"[{', '.join('?' if side is None else str(side) for side in shape)}]"


def inspect(path: str | os.PathLike) -> OnnxFile:
    """Reads an ONNX file, passes it through ONNX's own full check, and says what it holds.

    Raises:
        OnnxError: the file is missing, is no ONNX model, is damaged, or its weights lie in a file that is missing.
    """
    path = pathlib.Path(path)
    model = _parse(path)
    external = _external_files(path, model)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as error:
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
        model = onnx.load_model_from_string(content)
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
    attributes = (attribute for node in model.graph.node for attribute in node.attribute if attribute.HasField("t"))
    needed = collections.Counter()
    for tensor in (*model.graph.initializer, *(attribute.t for attribute in attributes)):
        if onnx.external_data_helper.uses_external_data(tensor):
            info = onnx.external_data_helper.ExternalDataInfo(tensor)
            end = int(info.offset or 0) + int(info.length or 0)
            needed[info.location] = max(needed[info.location], end)
    for name, end in needed.items():
        file = path.parent / name
        if not file.is_file():
            raise OnnxError(
                f"{path}: its weights lie in a second file, {name}, which is missing; expected it at {file}: put it "
                "there (torch >= 2.9 writes both, and both must be shipped), or export again with external_data=False"
            )
        if file.stat().st_size < end:
            raise OnnxError(
                f"{path}: its weights lie in {file}, which is truncated: found {file.stat().st_size} bytes, "
                f"expected at least {end}"
            )
    return {name: (path.parent / name).stat().st_size for name in needed}


def _tensor(value):
    if not value.type.HasField("tensor_type"):
        return Tensor(value.name, (value.type.WhichOneof("value") or "value").removesuffix("_type"), None)
    found = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(found.elem_type).name
    # Some exporters write 0 or -1 where any size may come.
    sides = (dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in found.shape.dim)
    return Tensor(value.name, dtype, tuple(sides) if found.HasField("shape") else None)


def first_line(error: Exception) -> str:
    """The first line of an error's message; its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
