"""What a person names to be parsed, photo by photo: files, patterns, folders with all that is in them, videos."""

import dataclasses
import functools
import glob
import itertools
import os
import pathlib

from keras_bisenet.inference import videos
from keras_bisenet.inference.batch import results
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError

_SUFFIXES = (*images.SUFFIXES, *videos.SUFFIXES)


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
        return self.path.suffix.lower() in videos.SUFFIXES


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
            raise ImageError(f"{name}: has .. after a wildcard; expected it only before the first one")
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
