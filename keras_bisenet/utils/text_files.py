"""Reads untrusted text: the memory it takes is bounded, and so is what messages show of it."""

import json
import pathlib

# Characters of a line; bytes of a JSON file, and how deep its brackets are. Ours stay far below.
MAX_LINE = 10_000
MAX_JSON = 2**20
MAX_DEPTH = 50


def lines(path):
    """The lines of a UTF-8 file that hold something, one after the other, without the white space around them.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text, or a line is too long for one.
    """
    with pathlib.Path(path).open(encoding="utf-8-sig") as file:
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise ValueError(f"a line has more than {MAX_LINE} characters")
            if line.strip():
                yield line.strip()


def read_json(path):
    """What a JSON file holds.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON, or too large.
    """
    with pathlib.Path(path).open("rb") as file:
        content = file.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise ValueError(f"it has more than {MAX_JSON} bytes")
    return parse_json(content)


def parse_json(text):
    """What a JSON text, str or bytes, holds.

    Raises:
        ValueError: it is no JSON, or its brackets are too deep.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("its brackets are too deep") from error
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for each in level for item in _items(each)]
    if level:
        raise ValueError("its brackets are too deep")
    return value


def _items(value):
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def shown(value, most=60):
    """An untrusted value in one line, for a message: names as they are, all else as Python has it.

    Args:
        value: anything.
        most: characters that are shown.
    """
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= most else f"{text[:most]}..."
