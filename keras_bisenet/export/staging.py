"""Writes a set of files and folders so that they appear whole or not at all."""

import contextlib
import pathlib
import shutil
import tempfile

from keras_bisenet.export.errors import ExportError


@contextlib.contextmanager
def staged(output_dir):
    """A scratch folder whose content moves into `output_dir` when the block ends without an error.

    Each file gets its name by an atomic rename on the same disk. A folder replaces an older one as a whole, which is
    gone for a moment in between. When the block fails, `output_dir` is left as it was.

    Args:
        output_dir: folder, made if need be.

    Yields:
        `pathlib.Path` of the scratch folder, inside `output_dir`.

    Raises:
        ExportError: the folder cannot be made or written to, or the disk is full.
    """
    output_dir = pathlib.Path(output_dir)
    made = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    scratch = None
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=".partial-", dir=output_dir))
        yield scratch
        # Folders first: one that cannot be moved is found out before any file is replaced.
        for path in sorted(scratch.iterdir(), key=lambda path: (path.is_file(), path.name)):
            _move(path, output_dir / path.name)
        made = []
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(f"cannot write to {output_dir}: {reason}; free it or choose another folder") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _move(path, target):
    """Moves a file or folder to `target`, which may exist. Where that fails, `target` is as it was."""
    if not (path.is_dir() and target.is_dir()):
        path.replace(target)
        return
    # A folder cannot be renamed to one that holds something: that one steps aside, into the scratch folder.
    aside = pathlib.Path(tempfile.mkdtemp(dir=path.parent), target.name)
    target.rename(aside)
    try:
        path.rename(target)
    except BaseException:  # an interruption too: what stays aside is deleted
        aside.rename(target)
        raise
