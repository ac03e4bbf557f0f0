"""Looks at a `.pth` file before PyTorch does, and refuses what a state_dict has no need of.

PyTorch itself runs no code with `weights_only=True`; but it unpacks what is compressed, however large that becomes, and
calls functions such as `bytearray` with whatever number the file gives.
"""

import collections
import io
import pathlib
import pickletools
import re
import struct
import zipfile
from typing import BinaryIO

from weight_port import files
from weight_port.errors import CheckpointError

# A state_dict of this network pickles to 40 kB, a checkpoint with its optimizer to four times that.
_PICKLE_LIMIT = 1 << 19
# A directory of so many bytes lists some ten thousand tensors.
_DIRECTORY_LIMIT = 1 << 20
# Parts of a tuple, those of the tuples in it included. Python counts them one by one where it hashes or prints one.
_TUPLE_LIMIT = 10_000

_ALLOWED_NAMES = re.compile(
    r"collections (OrderedDict|Counter)|(__builtin__|builtins) set"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter|sparse_tensor|qtensor)"
    r"|torch (Size|device|\w+Storage|b?float\d+|u?int\d+|bool|per_\w+)|torch\.serialization _get_layout"
)
# Other ways to name a function than GLOBAL; `torch.save` uses none.
_OTHER_NAMES = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}


def prepare(path: pathlib.Path) -> pathlib.Path | BinaryIO:
    """The file, for `torch.load`: in memory, with the parts that were looked at and no others, if it is a zip.

    Raises:
        CheckpointError: it holds what no state_dict needs.
        Exception: it is damaged.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            return _repack(path)
        file.seek(0)
        # A magic number, a version, notes on the machine, the content and the names of its storages; then raw data.
        for _ in range(5):
            _check_pickle(file, path)
    return path


class _LimitedReads(io.FileIO):
    """A zip whose directory must be small: `zipfile` reads all of it at once, be it of a million entries."""

    def read(self, size=-1):
        if size > _DIRECTORY_LIMIT:
            raise CheckpointError(
                f"{self.name}: is a zip with a directory of {size} bytes; expected at most {_DIRECTORY_LIMIT}"
            )
        return super().read(size)


def _repack(path):
    packed = io.BytesIO()
    with (
        _LimitedReads(path) as limited,
        zipfile.ZipFile(limited) as archive,
        zipfile.ZipFile(packed, "w") as clean,
        path.open("rb") as file,
    ):
        entries = archive.infolist()
        names = collections.Counter(entry.filename for entry in entries)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise CheckpointError(f"{path}: holds {files.shown(repeated[0])} more than once; download it again")
        size = sum(entry.file_size for entry in entries)
        stored = all(
            entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size for entry in entries
        )
        if not stored or size > path.stat().st_size:
            raise CheckpointError(
                f"{path}: is a compressed zip of {size} bytes; expected one by torch.save, which compresses nothing: "
                "unpack it, and pack it again without compression"
            )
        for entry in entries:
            content = _stored(file, entry)
            if entry.filename.endswith("data.pkl"):
                _check_pickle(io.BytesIO(content), path)
            clean.writestr(entry.filename, content)
    packed.seek(0)
    return packed


def _stored(file, entry):
    """The bytes of an entry, whatever its checksum: `torch.save` can be told to leave that out."""
    file.seek(entry.header_offset)
    name, extra = struct.unpack("<26x2H", file.read(30))
    file.seek(name + extra, io.SEEK_CUR)
    return file.read(entry.compress_size)


def _check_pickle(file, path):
    """Reads one pickle of a file without executing it."""
    start = file.tell()
    # How many parts each value on the pickle's stack has; a mark is None.
    stack, memo = [], {}
    for opcode, argument, place in pickletools.genops(file):
        if place - start > _PICKLE_LIMIT:
            raise CheckpointError(f"{path}: describes its tensors in more than {_PICKLE_LIMIT} bytes; expected fewer")
        if opcode.name in _OTHER_NAMES or (opcode.name == "GLOBAL" and not _ALLOWED_NAMES.fullmatch(argument)):
            raise CheckpointError(
                f"{path}: refused: it holds something other than tensors, and unpickling that could run code; nothing "
                "was executed. Expected a state_dict: save it with torch.save(model.state_dict(), path)"
            )
        if opcode.name.endswith("PUT") or opcode.name == "MEMOIZE":
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif opcode.name.endswith("GET"):
            stack.append(memo[int(argument)])
        else:
            parts = _pop(stack, opcode)
            # A list or a dictionary is neither hashed nor printed.
            size = 1 + parts if opcode.name.startswith(("TUPLE", "REDUCE")) else 1
            if size > _TUPLE_LIMIT:
                raise CheckpointError(f"{path}: holds a tuple of more than {_TUPLE_LIMIT} parts; expected a state_dict")
            stack += [None if value is pickletools.markobject else size for value in opcode.stack_after]


def _pop(stack, opcode):
    """Takes off the stack what an opcode does; returns how many parts that had."""
    parts = 0
    for value in reversed(opcode.stack_before):
        if value is pickletools.stackslice:
            while stack[-1] is not None:
                parts += stack.pop()
        else:
            parts += stack.pop() or 0
    return parts
