"""Parses many photos in several processes."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import itertools
import os
import pathlib

import numpy as np

from keras_bisenet.inference import detection, smoothing, video_parser, videos
from keras_bisenet.inference.batch import results
from keras_bisenet.inference.face_parser import FaceParser
from keras_bisenet.utils import atomic, images, locks, workers
from keras_bisenet.utils.errors import CrashError, ImageError, unwritable

# In the folder of the results: what failed.
FAILURES = "failures.txt"

# Bytes of frames that wait to be parsed: some of 8K, or a hundred of 720p.
_MOST_AHEAD = 2**28
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
        smooth: 0..1 exclusive, how much of a video's flicker goes, see `smoothing.TemporalSmoother`.
        image_size: (height, width) that the network takes; None if it takes any. Frames are decoded in this size where
            that is enough.
        num_threads: of each worker.
        isolated: whether each worker runs the model in a process of its own, see `FaceParser`; a photo that it crashes
            or hangs on fails, and the others go on.
        accelerator: of each worker, see `FaceParser`.
    """

    output_dir: pathlib.Path
    kinds: tuple[str, ...] = ("labels",)
    model: str | None = None
    detect: bool = False
    min_face: float = detection.MIN_FACE
    min_confidence: float = detection.MIN_CONFIDENCE
    smooth: float = 0.0
    image_size: tuple[int, int] | None = None
    num_threads: int = 1
    isolated: bool = False
    accelerator: str = "cpu"

    @property
    def needs_order(self):
        """Whether the result of a frame depends on those before."""
        return self.detect or self.smooth > 0

    @property
    def frame_size(self):
        """(height, width) that frames are decoded in; None for their own."""
        return None if self.detect or "overlay" in self.kinds else self.image_size

    @contextlib.contextmanager
    def claim(self):
        """Has the folder of the results for itself.

        Raises:
            ImageError: another process writes into the folder, it cannot be written to, or what finds faces is missing,
                or a number is out of range; or there are such numbers and no faces to find.
        """
        detection.check_options(self.min_face, self.min_confidence, self.detect)
        if self.detect:
            detection.check()
        smoothing.check(self.smooth)
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


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of a video, to be parsed.

    Attributes:
        picture: `[h, w, 3]` uint8 RGB.
        size: (height, width) of the labels.
        is_wanted: whether its results are written; otherwise it is one of those before the first that is.
    """

    picture: np.ndarray
    size: tuple[int, int]
    is_wanted: bool = True


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
            accelerator=job.accelerator,
        )
        self._video, self._frames = None, video_parser.VideoParser(self._parser, job.detect, job.smooth)
        self._names = results.part_names(self._parser.class_names or [f"class {label}" for label in range(256)])

    def __call__(self, name, photo):
        """Parses a photo and writes its results.

        Args:
            name: relative path that the results are called after.
            photo: path, `[H, W, 3]` uint8 RGB, `Frame`, or the `ImageError` that took its place.

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
            if isinstance(photo, Frame):
                picture, (labels, faces) = photo.picture, self._parse_frame(name.parent, photo)
            else:
                picture = images.as_photo(photo)
                faces = self._parser.faces(picture) if self._job.detect else None
                labels = self._parser(picture) if faces is None else detection.compose(faces, picture.shape[:2])
            if not isinstance(photo, Frame) or photo.is_wanted:
                results.write(targets, picture, labels, self._names, self._parser.palette, faces)
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

    def _parse_frame(self, video, frame):
        if video != self._video:
            self._video = video
            self._frames.reset()
        return self._frames.labels(frame.picture, frame.size)


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


def _tasks(job, source, is_wanted):
    """Pairs (name, photo): of a video those frames that are wanted, and a few before them where these matter."""
    if not source.is_video:
        yield source.name, source.path
        return

    def is_to_do(number):
        return is_wanted is None or is_wanted(results.frame(source.name, number))

    before = collections.deque(maxlen=video_parser.MEMORY)
    try:
        for frame in videos.read(source.path, None if job.needs_order else is_to_do, job.frame_size):
            task = results.frame(source.name, frame.number), Frame(frame.picture, frame.size)
            if job.needs_order and not is_to_do(frame.number):
                before.append(task)
                while sum(map(_bytes, before)) > _MOST_AHEAD:
                    before.popleft()
                continue
            for name, passed in before:
                yield name, dataclasses.replace(passed, is_wanted=False)
            before.clear()
            yield task
    except ImageError as error:
        yield source.name, error


def prepare():
    """Begins to start the worker processes of a later `run`."""
    workers.prepare(__name__)


def run(job, sources, count=None, is_wanted=None):
    """Parses photos in worker processes.

    Args:
        job: `Job`.
        sources: iterable of `inputs.Source`.
        count: number of processes; None for one a core. Videos whose frames depend on those before are parsed in one
            process with as many threads.
        is_wanted: called with the name of each frame of a video, see `results.frame`; the others are passed over. None
            for all.

    Yields:
        (name, error, faces) of each photo, in order: the error is None where it went well, faces the number of those
        found, None without `job.detect` and where it failed.

    Raises:
        ModelError, ImageError: no photo can be parsed or written any more, or a worker process was killed.
    """
    count = count or workers.cores()
    for in_order, some in itertools.groupby(sources, lambda source: source.is_video and job.needs_order):
        if in_order:
            yield from _run(dataclasses.replace(job, num_threads=count * job.num_threads), some, 1, is_wanted)
        else:
            yield from _run(job, some, count, is_wanted)


def _run(job, sources, count, is_wanted):
    started = collections.deque()

    def tasks():
        for source in sources:
            for name, photo in _tasks(job, source, is_wanted):
                started.append((name, getattr(photo, "is_wanted", True)))
                yield name, photo

    pool = workers.pool(count, __name__)
    try:
        for error, faces in workers.run(pool, functools.partial(_work, job), tasks(), 4 * count, _bytes, _MOST_AHEAD):
            name, is_reported = started.popleft()
            if is_reported:
                yield name, error, faces
    except concurrent.futures.BrokenExecutor as error:
        raise ImageError("a worker process was killed, perhaps for lack of memory; run it again to resume") from error


def _bytes(task):
    _, photo = task
    return photo.picture.nbytes if isinstance(photo, Frame) else 0
