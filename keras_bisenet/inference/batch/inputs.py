"""What a person names to be parsed, photo by photo: files, patterns, folders with all that is in them, videos."""

import dataclasses
import glob
import itertools
import os
import pathlib

import numpy as np

from keras_bisenet.utils import extras, images
from keras_bisenet.utils.errors import ImageError

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
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


def find(names, results=()):
    """The photos and videos that are meant.

    Args:
        names: strings: files of any name; folders, in which files count that end like photos or videos, however deep,
            but for hidden ones; patterns such as `photos/**/*.jpg`.
        results: folders of results, which may lie among the photos: folders and patterns pass them over.

    Returns:
        List of `Source`, in the order of the names, sorted within each.

    Raises:
        ImageError: a name means nothing, a folder cannot be read, or two files have the same name below theirs.
    """
    sources, results = {}, [folder.absolute() for folder in results]
    for name in names:
        for source in _find(name, results):
            other = sources.setdefault(source.name, source)
            if other is not source and other.path.resolve() != source.path.resolve():
                raise ImageError(
                    f"{other.path} and {source.path} would both be written as {source.name}; expected different names; "
                    "parse them into folders of their own"
                )
    return list(sources.values())


def _find(name, results):
    path = pathlib.Path(name)
    if name and _is(path.is_file):
        return [Source(path, pathlib.PurePath(path.name))]
    if name and _is(path.is_dir):
        below, found = path, _walk(path)
        problem, expected = "no photo found", f"files ending in {', '.join((*images.SUFFIXES, *VIDEO_SUFFIXES))}"
    else:
        # What comes before the first wildcard is where the pattern begins.
        below = pathlib.Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        if ".." in path.relative_to(below).parts:
            raise ImageError(f"{name}: has .. behind a wildcard; expected it before the first one alone")
        # Path.glob would find hidden files too.
        found = (pathlib.Path(file) for file in glob.glob(name, recursive=True) if pathlib.Path(file).is_file())  # noqa: PTH207
        problem = "no photo found" if glob.has_magic(name) else "no such file or folder"
        expected = "a file, a folder, or a pattern in quotes such as 'photos/**/*.jpg'"
    found = sorted(file for file in found if not any(file.absolute().is_relative_to(folder) for folder in results))
    if not found:
        raise ImageError(f"{name or repr(name)}: {problem}; expected {expected}")
    return [Source(file, file.relative_to(below)) for file in found]


def _is(check):
    try:
        return check()
    except OSError:  # no name of a file is that long
        return False


def _walk(path):
    def refuse(error):
        raise ImageError(f"{error.filename}: cannot be read: {error.strerror}; leave it out, or make it readable")

    for folder, folders, names in os.walk(path, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = pathlib.Path(folder, name)
            if not name.startswith(".") and file.suffix.lower() in (*images.SUFFIXES, *VIDEO_SUFFIXES):
                yield file


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
