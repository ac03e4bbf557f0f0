"""One run over photos and videos: what of their results still holds, what is made again and why, and how many."""

import collections
import contextlib
import hashlib
import pathlib

from keras_bisenet.inference.batch import record, results
from keras_bisenet.inference.face_parser import locate
from keras_bisenet.utils import atomic

# Why there is something to do, besides what `Origin.change` gives. Of these two, nothing on the disk is outdated.
_NEW, _MISSING = "new", "results were missing"
_UNKNOWN = "nothing tells what they were made from"
# Of a photo or frame, and of a video, in the order in which they are told.
_OUTCOMES = ("parsed", "read", "done before", "failed")


class Run:
    """A run over photos and videos, whose results are recorded one by one.

    Args:
        job: `parse_folder.Job`, whose folder this process has for itself.
        sources: list of `inputs.Source`.

    Attributes:
        to_do: the sources that are not done. Videos always are among them: nobody knows how many frames they have.
        failures: messages, a line for each photo, frame and video that failed.
        counts: `Counter` of (`"photo"`, `"frame"` or `"video"`; one of `_OUTCOMES`).
        faces: name of each photo and frame that was parsed in this run -> number of its faces, with `job.detect`.
        again: `Counter` of (`"photo"` or `"frame"`, why it was parsed again).

    Raises:
        ImageError: the record of the folder cannot be read.
    """

    def __init__(self, job, sources):
        self._job = job
        with job.writing():
            self._record = record.Record(job.output_dir)
        self.failures, self.faces = [], {}
        self.counts, self.again = collections.Counter(), collections.Counter()
        self._sources = {source.name: source for source in sources}
        digest = hashlib.sha256(pathlib.Path(locate(job.model)).read_bytes()).hexdigest()
        # As they are before any is read: one that changes later has another origin in the next run.
        self._origins = {source.name: _origin(source.path, digest, job) for source in sources}
        self._reasons = {}
        self._frames = collections.defaultdict(set)
        self.to_do = [source for source in sources if source.is_video or self._is_wanted(source.name, "photo")]

    def parse(self, engine, count=None):
        """Parses what is to do.

        Args:
            engine: module with `run`, `parse_folder` or `ray_cluster`.
            count: see there.

        Yields:
            Name of each photo, frame and unreadable video when it is done.

        Raises:
            ModelError, ImageError: see there; or the folder cannot be written to.
        """
        outdated_videos = set()

        def is_stale(name, made):
            source = self._source(name)
            stale = source is not None and self._origins[source.name] not in (None, made.origin)
            if stale and source.is_video:
                outdated_videos.add(source.name)
            return stale

        with self._job.writing():
            self._record.rewrite(is_stale)
        parsed = engine.run(self._job, self.to_do, count, lambda name: self._is_wanted(name, "frame"))
        with contextlib.closing(parsed):
            for name, error, faces in parsed:
                with self._job.writing():
                    self._settle(name, error)
                if faces is not None:
                    self.faces[name] = faces
                yield name
        videos = sum(source.is_video for source in self.to_do)
        self.counts["video", "read"] = videos - self.counts["video", "failed"]
        with self._job.writing():
            for name in outdated_videos | self._frames.keys():
                results.remove_frames(self._job.output_dir, name, self._frames[name])

    def told(self):
        """What was done, a list of lines, and what failed, of how many: None where nothing did."""
        again = [f"{count} {unit}{'s' * (count > 1)} again: {reason}" for (unit, reason), count in self.again.items()]
        done, failed = [], []
        for unit in ("photo", "video", "frame"):
            total = sum(self.counts[unit, outcome] for outcome in _OUTCOMES)
            if total:
                words = [
                    f"{self.counts[unit, outcome]} {outcome}" for outcome in _OUTCOMES if self.counts[unit, outcome]
                ]
                done.append(f"{unit}s: {', '.join(words)}")
            if number := self.counts[unit, "failed"]:
                failed.append(f"{number} of {total} {unit}{'s' * (total > 1)}")
        return [*again, "; ".join(done)], ", ".join(failed) or None

    def _source(self, name):
        """The source of a photo, or of a frame."""
        return self._sources.get(name) or self._sources.get(name.parent)

    def _is_wanted(self, name, unit):
        if unit == "frame":
            self._frames[name.parent].add(name.name)
        reason = self._reason(name)
        if reason is None:
            self.counts[unit, "done before"] += 1
            return False
        self._reasons[name] = reason
        return True

    def _reason(self, name):
        """Why there is something to do; None if there is not."""
        source = self._source(name)
        origin = self._origins[source.name]
        if origin is None:
            return _NEW
        there, made = results.existing(self._job.output_dir, name), self._record.made(name)
        if made is None:
            return _UNKNOWN if there else _NEW
        change = origin.change(made.origin, "video" if source.is_video else "photo")
        return change or (None if there & made.kinds >= {*self._job.kinds} else _MISSING)

    def _settle(self, name, error):
        unit = "frame" if name not in self._sources else "video" if self._sources[name].is_video else "photo"
        reason = self._reasons.pop(name, _NEW)
        written = () if error else self._job.kinds
        if reason not in (_NEW, _MISSING):
            for kind, path in results.paths(self._job.output_dir, name, results.KINDS).items():
                if kind not in written:
                    atomic.remove(path)
        if error:
            self.counts[unit, "failed"] += 1
            self.failures.append(error)
            return
        self.counts[unit, "parsed"] += 1
        if reason != _NEW:
            self.again[unit, reason] += 1
        origin, before = self._origins[self._source(name).name], self._record.made(name)
        if origin is not None:
            others = before.kinds if reason == _MISSING else ()
            self._record.add(name, record.Made(origin, frozenset((*written, *others))))


def _origin(path, model, job):
    try:
        return record.Origin.of(path, model, job)
    except OSError:  # whoever parses it tells so
        return None
