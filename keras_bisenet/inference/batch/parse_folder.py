"""Parses many photos, in several processes or on a Ray cluster, and resumes an interrupted run."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import pathlib

from keras_bisenet.inference import detection
from keras_bisenet.inference.batch import inputs, results
from keras_bisenet.inference.face_parser import FaceParser, locate
from keras_bisenet.utils import atomic, images, locks, text_files, workers
from keras_bisenet.utils.errors import ImageError

# In the folder of the results: what failed.
FAILURES = "failures.txt"

# What is wrong with a disk stays wrong with the next photo.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclasses.dataclass(frozen=True)
class Job:
    """How photos are parsed and what is written.

    Attributes:
        output_dir: folder of the results.
        kinds: some of `results.KINDS`.
        model: path of a `.tflite` or `.keras` file, or a name of `face_parser.NAMES`; None for the default one.
        detect: whether to find the faces first, see `detection`.
        num_threads: of each worker.
    """

    output_dir: pathlib.Path
    kinds: tuple[str, ...] = ("labels",)
    model: str | None = None
    detect: bool = False
    num_threads: int = 1

    @contextlib.contextmanager
    def claim(self):
        """Has the folder of the results for itself: a new one, or one whose results were made the same way.

        Raises:
            ImageError: they were not, another process writes into the folder, it cannot be written to, or what finds
                faces is missing.
        """
        if self.detect:
            detection.check()
        with locks.held(self.output_dir, ImageError):
            self._record()
            yield

    def _record(self):
        """Says in the folder what its results are made with, if they are not made with something else."""
        path = self.output_dir / results.RECORD
        model = pathlib.Path(locate(self.model))
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        now = {"model": model.name, "sha256": digest, "detect": self.detect}
        try:
            before = text_files.read_json(path)
            same = (before["sha256"], before["detect"]) == (digest, self.detect)
            there = _told(before)
        except FileNotFoundError:
            same = True
        except OSError as error:
            raise self.unwritable(error) from error
        except (KeyError, TypeError, ValueError) as error:
            raise ImageError(f"{path}: is damaged; remove it, or choose another folder") from error
        if not same:
            raise ImageError(
                f"{self.output_dir}: holds results of {there}; expected those of {_told(now)}; choose another folder"
            )
        self._put(results.RECORD, json.dumps(now, indent=2) + "\n")

    def is_done(self, source):
        """Whether all results of a photo are there and newer than it."""
        targets = results.paths(self.output_dir, source.name, self.kinds).values()
        try:
            made = source.path.stat().st_mtime_ns
            return all(path.stat().st_mtime_ns >= made for path in targets)
        except OSError:
            return False

    def list_failures(self, lines):
        """Writes `FAILURES`; there is none if there are no lines.

        Raises:
            ImageError: it cannot be written.
        """
        if lines:
            self._put(FAILURES, "".join(f"{line}\n" for line in lines))
        else:
            (self.output_dir / FAILURES).unlink(missing_ok=True)

    def unwritable(self, error):
        """`ImageError` that tells of an `OSError`."""
        reason = error.strerror or error
        return ImageError(f"cannot write to {self.output_dir}: {reason}; free it and run it again to resume")

    def _put(self, name, text):
        try:
            atomic.write(self.output_dir / name, text.encode())
        except OSError as error:
            raise self.unwritable(error) from error


def _told(record):
    how = "with" if record["detect"] else "without"
    return f"model {record['model']} (sha256 {record['sha256'][:8]}) {how} --detect"


class Worker:
    """Parses one photo after another. Not thread-safe.

    Args:
        job: `Job`.

    Raises:
        ModelError, ImageError: the model or what finds faces cannot be opened.
    """

    def __init__(self, job):
        self._job = job
        self._parser = FaceParser(job.model, job.num_threads)
        self._names = results.part_names(self._parser.class_names or [f"class {label}" for label in range(256)])
        self._detector = detection.Detector() if job.detect else None

    def __call__(self, name, photo):
        """Parses a photo and writes its results.

        Args:
            name: relative path that the results are called after.
            photo: path, `[H, W, 3]` uint8 RGB, or the `ImageError` that took its place.

        Returns:
            None, or in a line why it failed.

        Raises:
            ImageError: nothing can be written to the disk.
        """
        if isinstance(photo, ImageError):
            return str(photo)
        called = photo if isinstance(photo, os.PathLike) else name
        targets = results.paths(self._job.output_dir, name, self._job.kinds)
        try:
            photo = images.as_photo(photo)
            results.write(targets, photo, self._labels(photo), self._names, self._parser.palette)
        except ImageError as error:
            return str(error)
        except MemoryError:
            return f"{called}: not enough memory"
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise self._job.unwritable(error) from error
            return f"{called}: its results cannot be written: {error.strerror or error}"
        return None

    def _labels(self, photo):
        if self._detector is None:
            return self._parser(photo)
        return detection.parse_faces(self._parser, photo, self._detector(photo))


@functools.cache
def worker(job):
    """The `Worker` of this process, which is to do nothing else."""
    # There are other workers on the other cores, and on the same GPU.
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, str(job.num_threads))
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    return Worker(job)


def _work(job, task):
    return worker(job)(*task)


def _tasks(job, source):
    """Pairs (name, photo): of a video those pictures that are not done yet."""
    if not source.is_video:
        yield source.name, source.path
        return

    def name(number):
        return source.name / f"{number:06d}"

    def is_wanted(number):
        return not job.is_done(inputs.Source(source.path, name(number)))

    try:
        for number, frame in inputs.frames(source.path, is_wanted):
            yield name(number), frame
    except ImageError as error:
        yield source.name, error


def run(job, sources, count=None):
    """Parses photos in worker processes.

    Args:
        job: `Job`.
        sources: iterable of `inputs.Source`. Pictures of a video that are done are passed over.
        count: number of processes; None for one a core.

    Yields:
        (name, error) of each photo, None where it went well, in order.

    Raises:
        ModelError, ImageError: no photo can be parsed or written any more, or a worker process was ended.
    """
    count = count or workers.cores()
    names = []

    def tasks():
        for source in sources:
            for task in _tasks(job, source):
                names.append(task[0])
                yield task

    pool = workers.pool(count, __name__)
    try:
        for error in workers.run(pool, functools.partial(_work, job), tasks(), 4 * count):
            yield names.pop(0), error
    except concurrent.futures.BrokenExecutor as error:
        raise ImageError("a worker process was ended, for want of memory perhaps; run it again to resume") from error
