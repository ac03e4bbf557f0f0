"""Keeps processes from writing into one folder at the same time."""

import contextlib
import pathlib

import filelock

# Lies in a folder while a process has it. A killed process leaves it behind, unlocked.
NAME = ".keras_bisenet.lock"


@contextlib.contextmanager
def held(folder, refusal=None):
    """Has a folder for itself. The lock ends with the process, however that ends.

    Where none can be made, nothing is locked: who cannot write to a folder is told so by what writes to it next.

    Args:
        folder: folder, made if need be.
        refusal: what to raise if another process has it, an exception class; None to wait until it has not.

    Yields:
        Whether the folder is locked now.
    """
    path = pathlib.Path(folder, NAME)
    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=refusal is None)
    except filelock.Timeout:
        raise refusal(
            f"{folder}: another process is writing into it; wait until that has ended, or choose another folder"
        ) from None
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        # Before it is released: who waits for it makes a new one. (Windows removes no open file.)
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
