"""Files: the usual wrong ones are named before they are read, names in them are shown, whole ones are written."""

import contextlib
import pathlib
from collections.abc import Iterator

# Beginning of the name of a file that is not whole yet. What a killed process has left of it is overwritten.
PARTIAL = ".partial-"


def check(path: pathlib.Path, what: str, expected: str, error: type[Exception]) -> None:
    """Raises `error`, saying what was found and what to do, unless `path` is a file with content of its own.

    Args:
        path: the file.
        what: what it should be, in a word: `"checkpoint"`.
        expected: the same in full, for one who gives a folder.
        error: class to raise.
    """
    if not path.exists():
        raise error(f"{path}: no such file")
    if not path.is_file():
        raise error(f"{path}: is not a file; expected {expected}")
    try:
        content = head(path)
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from problem
    if not content:
        raise error(f"{path}: is empty (0 bytes); download it again")
    if content.startswith(b"version https://git-lfs"):
        raise error(f"{path}: is a git-lfs pointer, not the {what}; run 'git lfs pull' to fetch it")
    if content[4:8] == b"TFL3":
        raise error(
            f"{path}: is a .tflite file, not a {what}; FaceParser, scripts/parse_faces.py and scripts/evaluate.py run "
            f"it; expected {expected}"
        )
    if path.suffix.lower() == ".onnx" and what == "checkpoint":
        raise error(
            f"{path}: is an .onnx file, not a {what}; scripts/check_onnx.py --onnx compares it with a checkpoint; "
            f"expected {expected}"
        )
    if content.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise error(f"{path}: is a web page, not a {what}; the link led to a download page: fetch it with a browser")


def head(path: pathlib.Path) -> bytes:
    """The first 512 bytes of a file."""
    with path.open("rb") as file:
        return file.read(512)


def shown(text: object) -> str:
    """A name or an error out of a file, for a message: on one line, and no longer than three."""
    text = str(text)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 300 else f"{text[:300]}..."


@contextlib.contextmanager
def written(path: pathlib.Path, writer: str = "") -> Iterator[pathlib.Path]:
    """A path to write to, which is renamed to `path` when the block ends without an error, and else removed.

    Args:
        path: the file.
        writer: tells apart those that may write `path` at the same time; empty where a lock keeps others out.

    Raises:
        OSError: the folder cannot be written to or is full.
    """
    partial = path.with_name(f"{PARTIAL}{writer}{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
