"""Tells what an ONNX file would take in memory, before it is read.

Two bytes of a protobuf file can become an object of a hundred. Numbers do not grow so: they are left out here.
"""

import pathlib

from weight_port.errors import OnnxError

# This network takes 200 kB without its weights; some exporters note a traceback with each op.
_LIMIT = 4 << 20

# Fields of onnx.proto by number: where tensors lie, and which of their fields hold numbers as they are in memory.
_GRAPH, _NODE, _INITIALIZER, _ATTRIBUTE, _TENSOR = 7, 1, 5, 5, 5
_NUMBERS = {4, 9, 10}
# Of a field, at least.
_OVERHEAD = 2


def check(path: pathlib.Path, content: bytes) -> None:
    """Looks at the bytes of an ONNX file.

    Raises:
        OnnxError: they hold more than weights and a network of this kind.
        Exception: they are no ONNX file.
    """
    size = 0
    for number, part in _fields(memoryview(content)):
        for taken in _graph(part) if number == _GRAPH else [len(part) + _OVERHEAD]:
            size += taken
            if size > _LIMIT:
                raise OnnxError(f"{path}: holds more than {_LIMIT} bytes besides its weights; expected a BiSeNet")


def _graph(graph):
    """Bytes of each part of a graph that are no weights."""
    for number, part in _fields(graph):
        size = len(part) + _OVERHEAD
        if number == _INITIALIZER:
            size -= _numbers(part)
        elif number == _NODE:
            attributes = (found for inner, found in _fields(part, 1000) if inner == _ATTRIBUTE)
            tensors = (found for attribute in attributes for inner, found in _fields(attribute, 50) if inner == _TENSOR)
            size -= sum(map(_numbers, tensors))
        yield size


def _numbers(tensor):
    return sum(len(part) for number, part in _fields(tensor, 50) if number in _NUMBERS)


def _fields(content, most=None):
    """Number and content of each field of a protobuf message, or of its first ones."""
    place = 0
    while place < len(content) and most != 0:
        tag, place = _varint(content, place)
        start, kind = place, tag & 7
        if kind == 0:
            _, place = _varint(content, place)
        elif kind == 2:
            length, start = _varint(content, place)
            place = start + length
        else:
            place += {1: 8, 5: 4}[kind]
        if place > len(content):
            raise ValueError("truncated")
        yield tag >> 3, content[start:place]
        most = most and most - 1


def _varint(content, place):
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
