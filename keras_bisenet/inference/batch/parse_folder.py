"""Parses many photos in several processes."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import os
import pathlib

from keras_bisenet.inference import detection
from keras_bisenet.inference.batch import inputs, results
from keras_bisenet.inference.face_parser import FaceParser
from keras_bisenet.utils import atomic, images, locks, workers
from keras_bisenet.utils.errors import CrashError, ImageError, unwritable

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
        min_face, min_confidence: of the faces, see `detection.Detector`.
        num_threads: of each worker.
        isolated: whether each worker runs the model in a process of its own, see `FaceParser`; a photo that it crashes
            or hangs on fails, and the others go on.
    """

    output_dir: pathlib.Path
    kinds: tuple[str, ...] = ("labels",)
    model: str | None = None
    detect: bool = False
    min_face: float = detection.MIN_FACE
    min_confidence: float = detection.MIN_CONFIDENCE
    num_threads: int = 1
    isolated: bool = False

    @contextlib.contextmanager
    def claim(self):
        """Has the folder of the results for itself.

        Raises:
            ImageError: another process writes into the folder, it cannot be written to, or what finds faces is missing
                or gets a number out of range; or there are such numbers and no faces to find.
        """
        detection.check_options(self.min_face, self.min_confidence, self.detect)
        if self.detect:
            detection.check()
        with locks.held(self.output_dir, ImageError):
            with self.writing():
                for kind in results.KINDS:
                    atomic.sweep(self.output_dir / kind)
            yield

    @contextlib.contextmanager
    def writing(self):
        """Raises `ImageError` where the block raises an `OSError`."""
        try:
            yield
        except OSError as error:
            raise self.unwritable(error) from error

    def list_failures(self, lines):
        """Writes `FAILURES`; there is none if there are no lines.

        Raises:
            ImageError: it cannot be written.
        """
        path = self.output_dir / FAILURES
        with self.writing():
            if lines:
                atomic.write(path, "".join(f"{line}\n" for line in lines).encode())
            else:
                path.unlink(missing_ok=True)

    def unwritable(self, error):
        """`ImageError` that tells of an `OSError`."""
        return ImageError(f"{unwritable(self.output_dir, error)}, and run it again to resume")


class Worker:
    """Parses one photo after another. Not thread-safe.

    Args:
        job: `Job`.

    Raises:
        ModelError, ImageError: the model or what finds faces cannot be opened.
    """

    def __init__(self, job):
        self._job = job
        self._parser = FaceParser(
            job.model,
            job.num_threads,
            detect=job.detect,
            min_face=job.min_face,
            min_confidence=job.min_confidence,
            isolated=job.isolated,
        )
        self._names = results.part_names(self._parser.class_names or [f"class {label}" for label in range(256)])

    def __call__(self, name, photo):
        """Parses a photo and writes its results.

        Args:
            name: relative path that the results are called after.
            photo: path, `[H, W, 3]` uint8 RGB, or the `ImageError` that took its place.

        Returns:
            None, or in a line why it failed; and the number of faces found, None if there are none to find.

        Raises:
            ImageError: nothing can be written to the disk.
        """
        if isinstance(photo, ImageError):
            return str(photo), None
        called = photo if isinstance(photo, os.PathLike) else name
        targets = results.paths(self._job.output_dir, name, self._job.kinds)
        try:
            photo = images.as_photo(photo)
            faces = self._parser.faces(photo) if self._job.detect else None
            labels = self._parser(photo) if faces is None else detection.compose(faces, photo.shape[:2])
            results.write(targets, photo, labels, self._names, self._parser.palette, faces)
        except CrashError as error:
            return f"{called}: {error}", None
        except ImageError as error:
            return str(error), None
        except MemoryError:
            return f"{called}: not enough memory", None
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise self._job.unwritable(error) from error
            return f"{called}: its results cannot be written: {error.strerror or error}", None
        return None, None if faces is None else len(faces)


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


def _tasks(source, is_wanted):
    """Pairs (name, photo): of a video those pictures that are wanted."""
    if not source.is_video:
        yield source.name, source.path
        return
    try:
        for number, picture in inputs.frames(
            source.path, lambda number: is_wanted is None or is_wanted(results.frame(source.name, number))
        ):
            yield results.frame(source.name, number), picture
    except ImageError as error:
        yield source.name, error


def run(job, sources, count=None, is_wanted=None):
    """Parses photos in worker processes.

    Args:
        job: `Job`.
        sources: iterable of `inputs.Source`.
        count: number of processes; None for one a core.
        is_wanted: called with the name of each frame of a video, see `results.frame`; the others are passed over. None
            for all.

    Yields:
        (name, error, faces) of each photo, in order: the error is None where it went well, faces the number of those
        found, None without `job.detect` and where it failed.

    Raises:
        ModelError, ImageError: no photo can be parsed or written any more, or a worker process was ended.
    """
    count = count or workers.cores()
    names = []

    def tasks():
        for source in sources:
            for task in _tasks(source, is_wanted):
                names.append(task[0])
                yield task

    pool = workers.pool(count, __name__)
    try:
        for error, faces in workers.run(pool, functools.partial(_work, job), tasks(), 4 * count):
            yield names.pop(0), error, faces
    except concurrent.futures.BrokenExecutor as error:
        raise ImageError("a worker process was ended, for want of memory perhaps; run it again to resume") from error
