"""`.safetensors` checkpoints: `weight_port.load`."""

import json
import random
import struct

from fuzzing import cases, mutations

INSTRUMENTED = ("weight_port.checkpoint", "weight_port.port")


def seeds():
    """Small files, by what they hold."""
    plain = {"cp.resnet.conv1.weight": ("F32", [2, 3, 1, 1]), "cp.resnet.bn1.bias": ("F32", [3])}
    halves = {"module.a": ("F16", [4]), "module.b": ("BF16", [4]), "module.c": ("I64", [])}
    return {
        "plain": _pack(*_header(plain)),
        "halves": _pack(*_header(halves)),
        "metadata": _pack({"__metadata__": {"format": "pt"}}, b""),
        "nested": _pack({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 8),
    }


def _header(tensors):
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + _size(dtype, shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return header, bytes(range(end))


def _size(dtype, shape):
    size = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}[dtype]
    for side in shape:
        size *= side
    return size


def _pack(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def mutate(content, max_size, seed):
    """Changes the header and states its length again, which a change of single bytes hardly ever gets right."""
    if len(content) < 8:
        return None
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    if random.Random(seed).random() < 0.7:
        header = mutations.mutate(header, max_size, seed)
    else:
        data = mutations.mutate(data, max_size, seed)
    return _pack(header, data)


def read(content, folder):
    cases.read_checkpoint(content, folder / "checkpoint.safetensors")
