"""The tables of the TFLite Metadata schema that this project fills in, as data, and their flatbuffer encoding.

The schema's generated code comes only inside packages as large as MediaPipe, and these few tables are all that is
needed of it. Sources: `metadata_schema.fbs` 1.5.0 and, for the last table, `image_segmenter_metadata_schema.fbs` 1.0.0,
both in `mediapipe/tasks/metadata` of github.com/google-ai-edge/mediapipe.

The values of a table are a dict, field -> value. A field that is left out takes no space; a number then means 0.
"""

import flatbuffers
import numpy as np
from flatbuffers import encode, number_types, packer, table, util

# Table -> its fields, written as in the schema and in its order, up to the last one in use. An enum is a byte. A union
# takes two fields, and has the type of its one member in use.
TABLES = {
    "ModelMetadata": {
        "name": "string",
        "description": "string",
        "version": "string",
        "subgraph_metadata": "[SubGraphMetadata]",
        "author": "string",
        "license": "string",
        "associated_files": "[AssociatedFile]",
        "min_parser_version": "string",
    },
    "SubGraphMetadata": {
        "name": "string",
        "description": "string",
        "input_tensor_metadata": "[TensorMetadata]",
        "output_tensor_metadata": "[TensorMetadata]",
        "associated_files": "[AssociatedFile]",
        "input_process_units": "[ProcessUnit]",
        "output_process_units": "[ProcessUnit]",
        "input_tensor_groups": "[TensorGroup]",
        "output_tensor_groups": "[TensorGroup]",
        "custom_metadata": "[CustomMetadata]",
    },
    "TensorMetadata": {
        "name": "string",
        "description": "string",
        "dimension_names": "[string]",
        "content": "Content",
        "process_units": "[ProcessUnit]",
        "stats": "Stats",
        "associated_files": "[AssociatedFile]",
    },
    "Content": {"content_properties_type": "byte", "content_properties": "ImageProperties", "range": "ValueRange"},
    "ImageProperties": {"color_space": "byte"},
    "ValueRange": {"min": "int", "max": "int"},
    "ProcessUnit": {"options_type": "byte", "options": "NormalizationOptions"},
    "NormalizationOptions": {"mean": "[float]", "std": "[float]"},
    "Stats": {"max": "[float]", "min": "[float]"},
    "AssociatedFile": {"name": "string", "description": "string", "type": "byte"},
    "CustomMetadata": {"name": "string", "data": "[ubyte]"},
    "ImageSegmenterOptions": {"activation": "byte", "min_parser_version": "string"},
}

_NUMBERS = {"byte": number_types.Int8Flags, "int": number_types.Int32Flags, "float": number_types.Float32Flags}


def pack(name, values, identifier):
    """Encodes a table as a flatbuffer of its own.

    Args:
        name: key of `TABLES`.
        values: dict, field -> value.
        identifier: four bytes that tell readers which schema it is.

    Returns:
        bytes.

    Raises:
        KeyError: there is no such field.
    """
    builder = flatbuffers.Builder()
    builder.Finish(_write_table(builder, name, values), identifier)
    return bytes(builder.Output())


def unpack(content, name, identifier):
    """The inverse of `pack`: fields that are not in `content` are not in the dict; vectors are lists.

    Raises:
        ValueError: `content` has another identifier, or points at the same things so often that it was made to.
    """
    if not util.BufferHasIdentifier(content, 0, identifier):
        raise ValueError(f"identifier is {bytes(content[4:8])}; expected {identifier}")
    return _Reader(content).table(encode.Get(packer.uoffset, content, 0), name)


def _write_table(builder, name, values):
    fields = TABLES[name]
    slots = {field: slot for slot, field in enumerate(fields)}
    # What a table points at has to be complete before the table is begun.
    places = {field: _write(builder, fields[field], value) for field, value in values.items()}
    builder.StartObject(len(fields))
    for field, place in places.items():
        if fields[field] in _NUMBERS:
            builder.PrependSlot(_NUMBERS[fields[field]], slots[field], place, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slots[field], place, 0)
    return builder.EndObject()


def _write(builder, kind, value):
    """Writes a value and returns where it is; a number, which a table holds itself, is returned as it is."""
    if kind in _NUMBERS:
        return value
    if kind == "string":
        return builder.CreateString(value)
    if kind == "[ubyte]":
        # The schema aligns them for the flatbuffer that they hold.
        builder.StartVector(1, len(value), 16)
        for byte in reversed(value):
            builder.PrependByte(byte)
        return builder.EndVector()
    if kind == "[float]":
        return builder.CreateNumpyVector(np.array(value, np.float32))
    if kind.startswith("["):
        places = [_write(builder, kind[1:-1], element) for element in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    return _write_table(builder, kind, value)


class _Reader:
    """Reads a flatbuffer. All vectors and strings together may be as long as it is: no two share their place."""

    def __init__(self, content):
        self._content, self._left = content, len(content)

    def table(self, place, name):
        offsets = table.Table(self._content, place)
        values = {}
        for slot, (field, kind) in enumerate(TABLES[name].items()):
            offset = offsets.Offset(4 + 2 * slot)
            if offset:
                values[field] = self._value(place + offset, kind)
        return values

    def _value(self, place, kind):
        if kind in _NUMBERS:
            return encode.Get(_NUMBERS[kind].packer_type, self._content, place)
        place += encode.Get(packer.uoffset, self._content, place)
        if kind in TABLES:
            return self.table(place, kind)
        length, start = encode.Get(packer.uoffset, self._content, place), place + 4
        self._left -= length
        if self._left < 0:
            raise ValueError("vectors are longer than the flatbuffer that they are in")
        if kind in ("string", "[ubyte]"):
            data = bytes(self._content[start : start + length])
            return data.decode() if kind == "string" else data
        # Numbers and offsets take four bytes each.
        return [self._value(start + 4 * index, kind[1:-1]) for index in range(length)]
