"""What a person names to be parsed, photo by photo: files, patterns, folders with all that is in them, videos."""

import dataclasses
import functools
import glob
import itertools
import os
import pathlib

import numpy as np

from keras_bisenet.inference.batch import results
from keras_bisenet.utils import extras, images
from keras_bisenet.utils.errors import ImageError

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
_SUFFIXES = (*images.SUFFIXES, *VIDEO_SUFFIXES)
# Of a pixel of a video, width to height or height to width. A hostile file could ask for pictures of any size.
MAX_ASPECT_RATIO = 8


@dataclasses.dataclass(frozen=True)
class Source:
    """A photo or a video.

    Attributes:
        path: the file.
        name: where it was below what was named, and what its results are called: `Path("summer/a.jpg")`.
    """

    path: pathlib.Path
    name: pathlib.PurePath

    @property
    def is_video(self):
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find(names, output_dir=None):
    """The photos and videos that are meant.

    Args:
        names: strings: files of any name; folders, in which files count that end like photos or videos, however deep
            and behind links, but for hidden ones; patterns such as `photos/**/*.jpg`.
        output_dir: folder of the results, or None. They may lie among the photos: folders and patterns pass them over,
            whatever path leads there, and so they do those of other runs.

    Returns:
        List of `Source`, in the order of the names, sorted within each.

    Raises:
        ImageError: a name means nothing, a folder cannot be read, or two files have the same name below theirs.
    """
    sources = {}
    written = [] if output_dir is None else [pathlib.Path(output_dir, kind).resolve() for kind in results.KINDS]
    for name in names:
        for source in _find(name, written):
            other = sources.setdefault(source.name, source)
            if other is not source and other.path.resolve() != source.path.resolve():
                raise ImageError(
                    f"{other.path} and {source.path} would both be written as {source.name}; expected different names; "
                    "parse them into folders of their own"
                )
    return list(sources.values())


def _find(name, written):
    path = pathlib.Path(name)
    if name and _is(path.is_file):
        return [Source(path, pathlib.PurePath(path.name))]

    @functools.cache
    def is_left_out(folder):
        return _holds_results(folder, below, written) or _is_loop(folder, below)

    if name and _is(path.is_dir):
        below = path
        found = (file for file in _match(path, ["**"], is_left_out) if file.suffix.lower() in _SUFFIXES)
        problem, expected = "no photo found", f"files ending in {', '.join(_SUFFIXES)}"
    else:
        # What comes before the first wildcard is where the pattern begins.
        below = pathlib.Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        pattern = path.relative_to(below).parts
        if ".." in pattern:
            raise ImageError(f"{name}: has .. behind a wildcard; expected it before the first one alone")
        found = _match(below, pattern, is_left_out)
        problem = "no photo found" if glob.has_magic(name) else "no such file or folder"
        expected = "a file, a folder, or a pattern in quotes such as 'photos/**/*.jpg'"
    found = sorted(file for file in {*found} if not file.is_dir())
    if not found:
        raise ImageError(f"{name or repr(name)}: {problem}; expected {expected}")
    return [Source(file, file.relative_to(below)) for file in found]


def _is(check):
    try:
        return check()
    except OSError:  # no name of a file is that long
        return False


def _holds_results(folder, below, written):
    """Whether results of this run lie in a folder, or those of another, which are known by its record."""
    real = folder.resolve()
    return any(real.is_relative_to(other) for other in written) or any(
        part.name in results.KINDS and _is((part.parent / results.RECORD).is_file) for part in _between(folder, below)
    )


def _is_loop(folder, below):
    """Whether a folder is, by a link, one of those that lead to it."""
    real = [part.resolve() for part in (below, *_between(folder, below))]
    return len({*real}) < len(real)


def _between(folder, below):
    """A folder and those above it, up to `below`, which is not among them."""
    inner = folder.relative_to(below)
    return [below / part for part in (inner, *inner.parents) if part.parts]


def _match(folder, pattern, is_left_out):
    """The paths below a folder that a pattern leads to, but for hidden ones.

    `glob.glob` would go round for ever where links lead back, and `Path.glob` would not follow links.

    Args:
        folder: path.
        pattern: its parts; `**` stands for any number of folders, at its end for all that is in them.
        is_left_out: called with a folder that is not to be entered.
    """
    if "**" in pattern:
        place = pattern.index("**")
        for start in _match(folder, pattern[:place], is_left_out) if place else [folder]:
            for inner in _folders(start, is_left_out):
                yield from _match(inner, pattern[place + 1 :] or ["*"], is_left_out)
    elif pattern:
        found = (folder / name for name in glob.glob(os.path.join(*pattern), root_dir=folder))  # noqa: PTH118, PTH207
        yield from (path for path in found if not is_left_out(path.parent))


def _folders(path, is_left_out):
    """A folder and those in it, however deep, but for hidden ones."""

    def refuse(error):
        raise ImageError(f"{error.filename}: cannot be read: {error.strerror}; leave it out, or make it readable")

    for folder, folders, _ in os.walk(path, onerror=refuse, followlinks=True):
        folders[:] = [
            name for name in folders if not name.startswith(".") and not is_left_out(pathlib.Path(folder, name))
        ]
        yield pathlib.Path(folder)


def frames(path, is_wanted=None):
    """The pictures of a video, in square pixels, as a player shows them.

    Args:
        path: video file.
        is_wanted: called with the number of a picture, from 1 on; the others are passed over. None for all.

    Yields:
        (number, `[H, W, 3]` uint8 RGB, upright). Where the pixels of the file are no squares, W is that in squares.

    Raises:
        ImageError: PyAV is missing, the file cannot be read as a video, its pixels are far from square, or, behind its
            last picture, it has damaged ones or breaks off.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise ImageError(f"{path}: reading videos needs PyAV: {extras.command('video')}") from error
    number, whole, end, is_complete = 0, 0, 0, True
    try:
        with av.open(os.fspath(path)) as container:
            stream = container.streams.video[0]
            ratio = stream.sample_aspect_ratio or 1  # 0 where it is not known
            if not 1 / MAX_ASPECT_RATIO <= ratio <= MAX_ASPECT_RATIO:
                raise ImageError(
                    f"{path}: its pixels are {ratio} times as wide as high; expected at most {MAX_ASPECT_RATIO} times, "
                    "either way; convert it to square pixels first"
                )
            for packet in container.demux(stream):
                is_complete &= not packet.is_corrupt
                for frame in packet.decode():
                    number += 1
                    end = max(end, (frame.pts or 0) + (frame.duration or 0))
                    if frame.is_corrupt:
                        continue
                    whole += 1
                    if is_wanted is None or is_wanted(number):
                        picture = frame.to_ndarray(format="rgb24")
                        picture = images.resize(picture, (frame.height, max(1, round(frame.width * ratio))))
                        # The camera was turned.
                        yield number, np.rot90(picture, round(frame.rotation / 90))
            # Files that break off between two pictures end without an error.
            is_complete &= end * stream.time_base > _end(container, stream) - 0.25
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except (av.FFmpegError, IndexError) as error:
        if not number:
            raise ImageError(f"{path}: cannot be read as a video; expected {', '.join(VIDEO_SUFFIXES)}") from error
        is_complete = False
    if not is_complete or not whole:
        raise ImageError(f"{path}: is damaged or breaks off; {whole} of its pictures could be read; copy it again")


def _end(container, stream):
    """When the last picture of a video ends by its own header, in seconds; 0 where the header has no length."""
    if stream.duration:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    # That of a Matroska file counts from 0, wherever its pictures begin. Other streams may be longer.
    return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0
