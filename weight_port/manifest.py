"""Finds a checkpoint by path or by its name in `checkpoints/manifest.json`, and downloads it if need be."""

import dataclasses
import hashlib
import json
import os
import pathlib

from weight_port.errors import CheckpointError

# Overrides the folder that downloads are kept in.
CACHE_VARIABLE = "KERAS_BISENET_CACHE"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A checkpoint of the manifest.

    Attributes:
        name: what `--checkpoint` takes.
        licence: terms of use.
        layout: name of its dialect.
        file: path beside the manifest, for a checkpoint that the project ships; or None.
        urls: where to download it from otherwise; the first that answers is taken.
        bytes: size of the file; None if its publisher does not say.
        sha256: its hash; None if its publisher does not say.
    """

    name: str
    licence: str
    layout: str
    file: str | None = None
    urls: tuple[str, ...] = ()
    bytes: int | None = None
    sha256: str | None = None


def read(manifest: str | os.PathLike) -> dict[str, Entry]:
    """Reads `manifest.json`: name -> entry."""
    entries = json.loads(pathlib.Path(manifest).read_text(encoding="utf-8"))
    return {name: Entry(name, **{**entry, "urls": tuple(entry.get("urls", ()))}) for name, entry in entries.items()}


def locate(checkpoint: str, manifest: str | os.PathLike) -> pathlib.Path:
    """The file behind a path or a manifest name, downloaded and checked if need be.

    A name wins over a file of the same name; write `./name` for the file.

    Raises:
        CheckpointError: neither a file nor a name; or the download failed, or is not the file that the manifest tells.
    """
    entries = read(manifest)
    if checkpoint not in entries:
        path = pathlib.Path(checkpoint)
        if path.exists():
            return path
        raise CheckpointError(f"{checkpoint}: no such file, and no checkpoint of the manifest: {', '.join(entries)}")
    entry = entries[checkpoint]
    if entry.file is not None:
        path = pathlib.Path(manifest).parent / entry.file
        _check(path, entry)
        return path
    return _download(entry)


def licence(checkpoint: str, manifest: str | os.PathLike) -> str:
    """The terms of a checkpoint of the manifest; empty for any other file."""
    entry = read(manifest).get(checkpoint)
    return entry.licence if entry else ""


def sha256(path: str | os.PathLike) -> str:
    """The file's SHA-256 in hex."""
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_dir() -> pathlib.Path:
    """The folder that downloads are kept in."""
    import pooch

    return pathlib.Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("keras-bisenet"))


def _check(path, entry, source=None):
    """Compares size and hash with the manifest's; `source` names the file in the message, if not its path."""
    source = source or path
    if not path.exists():
        raise CheckpointError(f"{source}: the checkpoint {entry.name!r} is missing; expected {entry.bytes} bytes")
    size = path.stat().st_size
    if entry.bytes is not None and size != entry.bytes:
        raise CheckpointError(f"{source}: is {size} bytes; the checkpoint {entry.name!r} has {entry.bytes}")
    if entry.sha256 is not None and (found := sha256(path)) != entry.sha256:
        raise CheckpointError(f"{source}: has sha256 {found}; the checkpoint {entry.name!r} has {entry.sha256}")


def _download(entry):
    path = cache_dir() / f"{entry.name}{pathlib.PurePosixPath(entry.urls[0]).suffix}"
    if path.exists():
        _check(path, entry)
        return path
    failures = []
    for url in entry.urls:
        try:
            _fetch(url, path, entry)
            return path
        except OSError as error:
            failures.append(f"{url} ({type(error).__name__})")
    raise CheckpointError(
        f"the checkpoint {entry.name!r} could not be downloaded from {', '.join(failures)}; "
        f"fetch it by hand and save it as {path}"
    )


def _fetch(url, path, entry):
    """Downloads to a temporary file, checks it, and only then gives it its name."""
    import pooch

    def download(url, output_file, pup):
        pooch.HTTPDownloader(progressbar=True)(url, output_file, pup)
        _check(pathlib.Path(output_file), entry, source=url)

    pooch.get_logger().setLevel("WARNING")
    pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=download)
