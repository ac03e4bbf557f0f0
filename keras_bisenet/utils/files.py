"""Writes files and folders that appear whole. What a killed process leaves of one is overwritten by the next."""

import shutil


def put(path, content):
    """Writes bytes to a file; its folder is made if need be.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def put_folder(path, contents):
    """Writes a folder of files; one that is there already is replaced, and gone for a moment in between.

    Args:
        path: of the folder.
        contents: dict, name of a file -> bytes.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()
        for name, content in contents.items():
            (scratch / name).write_bytes(content)
        # A folder cannot be renamed to one that holds something.
        if path.exists():
            shutil.rmtree(path)
        scratch.rename(path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _scratch(path):
    return path.with_name(f".{path.name}.partial")
