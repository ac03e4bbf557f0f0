"""What the results in a folder were made from, so that a later run can tell which of them still hold."""

import contextlib
import dataclasses
import json
import pathlib

from keras_bisenet.inference import videos
from keras_bisenet.inference.batch import results
from keras_bisenet.utils import atomic, text_files


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """What a result is made from.

    Attributes:
        path: of the photo or video, absolute and without links.
        size: of that file, in bytes.
        mtime_ns: when it was last changed, in nanoseconds of the system's clock.
        model: SHA-256 of the file of the network, in hexadecimal.
        min_face, min_confidence: of the faces that were found first, see `detection.Detector`; None where none were.
        smooth: of a video, see `parse_folder.Job`; 0 for none.
    """

    path: str
    size: int
    mtime_ns: int
    model: str
    min_face: float | None
    min_confidence: float | None
    smooth: float = 0.0

    @classmethod
    def of(cls, path, model, job):
        """That of a file as it is now.

        Args:
            path: `pathlib.Path`.
            model: see above.
            job: `parse_folder.Job`.

        Raises:
            OSError: there is no such file.
        """
        path = path.resolve(strict=True)
        status = path.stat()
        of_faces = (job.min_face, job.min_confidence) if job.detect else (None, None)
        smooth = job.smooth if path.suffix.lower() in videos.SUFFIXES else 0.0
        return cls(str(path), status.st_size, status.st_mtime_ns, model, *of_faces, smooth)

    def change(self, before, noun):
        """Why a result of another origin does not hold for this one.

        Args:
            before: `Origin` of the result.
            noun: what the file is, `"photo"` or `"video"`.

        Returns:
            The reason in words; None if the origins are the same.
        """
        if before == self:
            return None
        if before.path != self.path:
            return f"another {noun} had the name"
        if before.model != self.model:
            return "the model changed"
        if (before.min_face, before.min_confidence) != (self.min_face, self.min_confidence):
            return "which faces are found changed"
        if before.smooth != self.smooth:
            return "how much is smoothed changed"
        return f"the {noun} changed"


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """Results of one photo, or of one frame of a video.

    Attributes:
        origin: `Origin`.
        kinds: those of `results.KINDS` that were written.
    """

    origin: Origin
    kinds: frozenset[str]


class Record:
    """The file `results.RECORD` in a folder of results: a line of JSON for each photo and frame, in order of writing.

    The process that has the folder for itself writes it, and tells of a result once it is in its place. Results that no
    line tells of, or half a line, as killed processes leave it, count as unknown.

    Args:
        folder: of the results.

    Raises:
        OSError: the file cannot be read.
    """

    def __init__(self, folder):
        self._path = pathlib.Path(folder, results.RECORD)
        self._made = {}
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            for line in file:
                with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
                    entry = text_files.parse_json(line)
                    name, kinds = pathlib.PurePath(entry.pop("name")), frozenset(entry.pop("outputs"))
                    self._made[name] = Made(Origin(**entry), kinds)

    def made(self, name):
        """`Made` of a photo or frame by its name, a `PurePath`; None where nothing is known."""
        return self._made.get(name)

    def rewrite(self, is_stale):
        """Writes the file anew, without half lines and without what is to be made again.

        So a killed run leaves no new result under an old origin. `made` still gives the old one.

        Args:
            is_stale: called with a name and its `Made`.

        Raises:
            OSError: the file cannot be written.
        """
        lines = (_line(name, made) for name, made in self._made.items() if not is_stale(name, made))
        atomic.write(self._path, b"".join(lines))

    def add(self, name, made):
        """Tells of results that are in their place.

        Raises:
            OSError: the file cannot be written.
        """
        self._made[name] = made
        with self._path.open("ab") as file:
            file.write(_line(name, made))


def _line(name, made):
    entry = {"name": str(name), "outputs": sorted(made.kinds), **dataclasses.asdict(made.origin)}
    return json.dumps(entry).encode() + b"\n"
