"""Finds a checkpoint by path or by its name in `checkpoints/manifest.json`, and downloads it if need be."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sys

from weight_port import checkpoint as reader
from weight_port import files
from weight_port.errors import CheckpointError

# Overrides the folder that downloads are kept in.
CACHE_VARIABLE = "KERAS_BISENET_CACHE"
# Seconds until a connection stands, and from some bytes to the next. A large file may take as long as it needs.
TIMEOUTS = (10, 60)
# Of a checkpoint whose size its publisher does not say: five times the largest network here. A server may not fill the
# disk.
LARGEST = 2**29


@dataclasses.dataclass(frozen=True)
class Entry:
    """A checkpoint of the manifest.

    Attributes:
        name: what `--checkpoint` takes.
        license: terms of use.
        layout: name of its layout.
        file: path beside the manifest, for a checkpoint that the project ships; or None.
        urls: where to download it from otherwise; the first that gives the file is taken.
        bytes: size of the file; None if its publisher does not say.
        sha256: its hash; None if its publisher does not say.
    """

    name: str
    license: str
    layout: str
    file: str | None = None
    urls: tuple[str, ...] = ()
    bytes: int | None = None
    sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found.

    Attributes:
        path: the file.
        sha256: its SHA-256 in hex, 64 digits.
        license: terms of use; empty for a file that is not in the manifest.
    """

    path: pathlib.Path
    sha256: str
    license: str


def read(manifest: str | os.PathLike) -> dict[str, Entry]:
    """Reads `manifest.json`: name -> entry.

    Raises:
        OSError, ValueError, TypeError: the file cannot be read, is not JSON, or has other keys than `Entry`.
    """
    entries = json.loads(pathlib.Path(manifest).read_text(encoding="utf-8"))
    return {name: Entry(name, **{**entry, "urls": tuple(entry.get("urls", ()))}) for name, entry in entries.items()}


def locate(checkpoint: str | os.PathLike, manifest: str | os.PathLike) -> Checkpoint:
    """Finds the checkpoint of a path or a manifest name, downloads it if need be, and hashes it, once.

    A name wins over a file of the same name; write `./name` for the file.

    Args:
        checkpoint: path of a file of any kind, or a name.
        manifest: path of `manifest.json`.

    Raises:
        CheckpointError: there is neither such a file nor such a name; the file cannot be read; the download failed; or
            the file has not the size and hash of the manifest.
    """
    entries = read(manifest)
    entry = entries.get(os.fspath(checkpoint))
    if entry is not None and entry.file is None:
        return _download(entry)
    try:
        if entry is not None and entry.file is not None:
            path = pathlib.Path(manifest).parent / entry.file
            return Checkpoint(path, _check(path, entry), entry.license)
        path = pathlib.Path(checkpoint)
        if not path.exists():
            names = ", ".join(entries)
            raise CheckpointError(f"{checkpoint}: no such file; expected one, or a name in the manifest: {names}")
        # A pipe or a device may never end.
        if not path.is_file():
            raise CheckpointError(f"{path}: is not a file; expected a .pth, .pt or .safetensors checkpoint")
        return Checkpoint(path, sha256(path), "")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def sha256(path: str | os.PathLike) -> str:
    """The file's SHA-256 in hex.

    Raises:
        OSError: it cannot be read.
    """
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_dir() -> pathlib.Path:
    """The folder that downloads are kept in: `CACHE_VARIABLE`, or that of the user."""
    import platformdirs

    return pathlib.Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("keras-bisenet"))


def _check(path, entry):
    """The hash of a file.

    Raises:
        CheckpointError: it is not the one of the manifest.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: the checkpoint {entry.name!r} is missing; expected {entry.bytes} bytes")
    try:
        return _checked_hash(path, entry)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _checked_hash(path, entry):
    """As `_check`, but the error does not name the path."""
    size = path.stat().st_size
    if entry.bytes is not None and size != entry.bytes:
        raise CheckpointError(f"is {size} bytes; the checkpoint {entry.name!r} has {entry.bytes}")
    found = sha256(path)
    if entry.sha256 is not None and found != entry.sha256:
        raise CheckpointError(f"has sha256 {found}; the checkpoint {entry.name!r} has {entry.sha256}")
    return found


def _download(entry):
    """The `Checkpoint` in the cache, which is filled if need be."""
    path = cache_dir() / f"{entry.name}{pathlib.PurePosixPath(entry.urls[0]).suffix}"
    try:
        found = None
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path):
                if not path.exists():
                    found = _fetch_from_any(entry, path)
        return Checkpoint(path, found or _check(path, entry), entry.license)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error.strerror or error}; {CACHE_VARIABLE} names another folder"
        ) from error


@contextlib.contextmanager
def _alone(path):
    """Waits for another process that fills the cache with the same file. A killed one is not waited for."""
    import filelock

    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        print(f"another process downloads {path}; waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            pathlib.Path(lock.lock_file).unlink()
        lock.release()


def _fetch_from_any(entry, path):
    """Downloads from the first address that gives the file. Returns its hash."""
    import requests

    failures = []
    for url in entry.urls:
        try:
            return _fetch(url, path, entry)
        except requests.HTTPError as error:
            failures.append(f"{url} (status {error.response.status_code})")
        except requests.RequestException as error:
            failures.append(f"{url} ({type(error).__name__})")
        except ValueError as error:  # what was fetched is wrong, or a redirect names no address
            failures.append(f"{url} ({error})")
    raise CheckpointError(
        f"the checkpoint {entry.name!r} could not be downloaded from {', '.join(failures)}; "
        f"fetch it by hand and save it as {path}"
    )


def _fetch(url, path, entry):
    """Downloads to a file of another name, checks it, and only then gives it its own. Returns its hash."""
    with files.written(path) as partial:
        _save(url, partial, entry.bytes)
        found = _checked_hash(partial, entry)
        if entry.sha256 is None:
            # Nothing else would tell a file that breaks off, or a web page, from the checkpoint.
            try:
                reader.load(partial)
            except CheckpointError as error:
                raise CheckpointError(str(error).removeprefix(f"{partial}: ")) from error
    return found


def _save(url, path, size):
    """Saves what an address gives; `size` is that of the file, or None."""
    import requests
    from tqdm import tqdm

    # A body that is not packed is as long as its file.
    get = requests.get(url, stream=True, timeout=TIMEOUTS, headers={"Accept-Encoding": "identity"})
    with get as response, path.open("wb") as file:
        response.raise_for_status()
        with tqdm(desc=path.name.removeprefix(files.PARTIAL), total=size, unit="B", unit_scale=True) as progress:
            for chunk in response.iter_content(2**14):
                file.write(chunk)
                progress.update(len(chunk))
                if file.tell() > (size or LARGEST):
                    raise CheckpointError(f"sends more than {size or LARGEST} bytes")
