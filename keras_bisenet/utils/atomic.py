"""Writes files and folders that appear whole or not at all. What a killed process has left of them is removed."""

import contextlib
import os
import pathlib
import shutil
import tempfile

from keras_bisenet.utils import locks
from keras_bisenet.utils.errors import OutputError, unwritable

_SCRATCH = ".partial-"
# As long: a name that leaves room for the one leaves room for the other.
_ASIDE = ".removed-"


@contextlib.contextmanager
def written(path, durable=False):
    """A scratch path whose file or folder is renamed to `path` when the block ends without an error.

    A file replaces an older one at once; a folder replaces an older one that is gone for a moment in between. When the
    block fails, `path` is as it was. A killed process leaves `path` as it was, new, or missing, but no part of it.

    Args:
        path: `pathlib.Path`; its folder is made if need be.
        durable: whether a file is on the disk, and not only in the memory of the system, before it gets its name.

    Yields:
        `pathlib.Path` beside `path`, with the same suffix; nothing is there.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch, aside = (path.with_name(f"{prefix}{path.name}") for prefix in (_SCRATCH, _ASIDE))
    for left in (scratch, aside):
        _delete(left)
    try:
        yield scratch
        if durable:
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())
        _move(scratch, path, aside)
    except BaseException:
        with contextlib.suppress(OSError):  # the disk may be read-only
            _delete(scratch)
        raise
    _delete(aside)


def remove(path):
    """Removes a file or folder, if it is there. A killed process leaves `path` whole or missing.

    Args:
        path: `pathlib.Path`.

    Raises:
        OSError: it cannot be removed.
    """
    aside = path.with_name(f"{_ASIDE}{path.name}")
    _delete(aside)
    with contextlib.suppress(FileNotFoundError):
        _delete(path.rename(aside))


def sweep(folder):
    """Removes what killed processes have left below a folder, which no other process may be writing into.

    Raises:
        OSError: something cannot be removed.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if name.startswith((_SCRATCH, _ASIDE)):
                _delete(pathlib.Path(parent, name))


def _delete(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write(path, content):
    """Writes bytes to a file, see `written`."""
    with written(path) as scratch:
        scratch.write_bytes(content)


def write_folder(path, contents):
    """Writes a folder of files, see `written`.

    Args:
        path: of the folder.
        contents: dict, name of a file -> bytes.
    """
    with written(path) as scratch:
        scratch.mkdir()
        for name, content in contents.items():
            (scratch / name).write_bytes(content)


@contextlib.contextmanager
def staged(output_dir, obsolete=()):
    """A scratch folder whose content moves into `output_dir` when the block ends without an error.

    Each file gets its name by an atomic rename on the same disk. A folder replaces an older one as a whole, which is
    gone for a moment in between. When the block fails, `output_dir` is left as it was. Of several processes that write
    the same names, the last to end leaves all of them: their files are never mixed.

    Args:
        output_dir: folder, made if need be.
        obsolete: names in `output_dir` that go when the content comes, if they are there. May change in the block.

    Yields:
        `pathlib.Path` of the scratch folder, inside `output_dir`.

    Raises:
        OutputError: the folder cannot be made or written to, or the disk is full.
    """
    output_dir = pathlib.Path(output_dir)
    made = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with _scratch(output_dir) as scratch:
            yield scratch
            with locks.held(output_dir):
                # Folders first: one that cannot be moved is found out before any file is replaced.
                for path in sorted(scratch.iterdir(), key=lambda path: (path.is_file(), path.name)):
                    _move(path, output_dir / path.name, _place_aside(scratch, path.name))
                for name in obsolete:
                    with contextlib.suppress(FileNotFoundError):
                        (output_dir / name).rename(_place_aside(scratch, name))
        made = []
    except OSError as error:
        raise OutputError(unwritable(output_dir, error)) from error
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _scratch(output_dir):
    """An empty folder for this process. What killed ones have left is removed."""
    with contextlib.ExitStack() as stack:
        with locks.held(output_dir):
            for lock in output_dir.glob(f"{_SCRATCH}*/{locks.NAME}"):
                with contextlib.suppress(OutputError), locks.held(lock.parent, OutputError) as dead:
                    if dead:
                        shutil.rmtree(lock.parent, ignore_errors=True)
            folder = pathlib.Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=output_dir))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(locks.held(folder))
        (folder / "content").mkdir()
        yield folder / "content"


def _move(path, target, aside):
    """Moves a file or folder to `target`. Where that fails, `target` is as it was; a folder there goes to `aside`."""
    if not (path.is_dir() and target.is_dir()):
        path.replace(target)
        return
    # A folder cannot be renamed to one that holds something.
    target.rename(aside)
    try:
        path.rename(target)
    except BaseException:  # an interruption too: what stays aside is deleted
        aside.rename(target)
        raise


def _place_aside(scratch, name):
    """A free path that is deleted with the scratch folder."""
    return pathlib.Path(tempfile.mkdtemp(dir=scratch.parent), name)
