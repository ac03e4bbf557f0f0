"""Names the usual wrong files before a reader stumbles over them."""

import pathlib


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
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from problem
    if not head:
        raise error(f"{path}: is empty (0 bytes); download it again")
    if head.startswith(b"version https://git-lfs"):
        raise error(f"{path}: is a git-lfs pointer, not the {what}; run 'git lfs pull' to fetch it")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise error(f"{path}: is a web page, not a {what}; the link led to a download page: fetch it with a browser")
