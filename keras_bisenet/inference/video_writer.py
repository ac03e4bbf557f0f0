"""Writes a video from the frames of another one, with their times and its sound, a part at a time.

A part that is written stays: a run that was interrupted continues behind it. The video itself appears whole at the end.
"""

import contextlib
import fractions
import io
import itertools
import json
import os
import pathlib
import shutil

import numpy as np

from keras_bisenet.inference import videos
from keras_bisenet.utils import atomic, locks
from keras_bisenet.utils.errors import ImageError, OutputError, unwritable

SUFFIXES = (".mkv", ".mov", ".mp4")
# Frames of a part; so many at most are made again after an interruption.
PART = 150
# Of x264: its default of quality is visible in skin. Without B-frames, so that parts can be put together.
_OPTIONS = {"crf": "18", "preset": "veryfast", "bf": "0"}
_RECORD = "made_from.json"
# Files of a part hold times of any unit.
_FORMAT = "nut"


def check(source, output, with_audio=True):
    """What can be known before the first frame.

    Args:
        source: path of the video.
        output: path of the video to be written.
        with_audio: whether its sound is copied.

    Raises:
        ImageError: the output has another suffix, is the source itself, or cannot hold the sound; or the source cannot
            be read.
    """
    output = pathlib.Path(output)
    if output.suffix.lower() not in SUFFIXES:
        raise ImageError(f"{output}: unknown kind of video; expected a name ending in {', '.join(SUFFIXES)}")
    if output.exists() and output.samefile(source):
        raise ImageError(f"{output}: is the video that is read; write to another file")
    with videos.opened(source) as container:
        if with_audio and container.streams.audio:
            _check_audio(source, output, container.streams.audio)


def _check_audio(source, output, streams):
    import av

    try:
        # A file of a moment's sound tells.
        with av.open(os.fspath(source)) as container, av.open(io.BytesIO(), "w", format=_muxer(output)) as trial:
            sounds = {stream.index: trial.add_stream_from_template(stream) for stream in container.streams.audio}
            for packet in itertools.islice(_packets(container, list(container.streams.audio)), 8 * len(sounds)):
                packet.stream = sounds[packet.stream.index]
                trial.mux(packet)
    except (av.FFmpegError, ValueError, AttributeError) as error:
        codecs = ", ".join(dict.fromkeys(stream.codec_context.name for stream in streams))
        raise ImageError(
            f"{source}: its sound ({codecs}) cannot be copied to a {output.suffix}; write a .mkv, or leave the sound "
            "out with --noaudio"
        ) from error


def _muxer(output):
    return {".mkv": "matroska", ".mov": "mov", ".mp4": "mp4"}[output.suffix.lower()]


def count(path):
    """How many frames a video has by its header, or by its length and rate; None where neither is known."""
    with videos.opened(path) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return stream.frames
        seconds = stream.duration * stream.time_base if stream.duration else (container.duration or 0) / 1e6
        return round(seconds * (stream.average_rate or 0)) or None


def write(source, output, convert, made_from, reset, memory=0, with_audio=True, passed=lambda: None):
    """Writes a video of the frames that a function makes of those of another one.

    Args:
        source: path of the video that is read.
        output: path of the video, of one of `SUFFIXES`. Its parts lie beside it, in a folder of a name like its own.
        convert: called with each frame `[H, W, 3]` uint8 RGB in order, gives one of the same size.
        made_from: what the result depends on besides the source, of JSON types. Parts of anything else are made again.
        reset: called before the frames of a run begin.
        memory: `convert` is called with so many frames before the first that is missing, so that the result is that of
            an uninterrupted run.
        with_audio: whether the sound is copied.
        passed: called at each frame that was read.

    Returns:
        None, or what is wrong with the video, a str: frames that could not be read are not in the result either.

    Raises:
        ImageError: see `check` and `videos.read`.
        OutputError: it cannot be written, or another process writes it.
    """
    source, output = pathlib.Path(source), pathlib.Path(output)
    check(source, output, with_audio)
    status = source.stat()
    made_from = {"video": str(source.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns, **made_from}
    folder = output.with_name(f".parts-{output.name}")
    try:
        with locks.held(folder, OutputError):
            _keep_parts_of(folder, made_from)
            try:
                problem = _write_parts(source, folder, convert, reset, memory, passed)
            except ImageError:
                shutil.rmtree(folder, ignore_errors=True)  # there are no parts
                raise
            with atomic.written(output) as scratch:
                _join(sorted(folder.glob(f"*.{_FORMAT}")), scratch, source if with_audio else None, _muxer(output))
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{unwritable(output.parent, error)}, and run it again to resume") from error
    return problem


def _keep_parts_of(folder, made_from):
    """Removes the parts of anything else."""
    atomic.sweep(folder)
    record = folder / _RECORD
    with contextlib.suppress(OSError, ValueError):
        if json.loads(record.read_text(encoding="utf-8")) == made_from:
            return
    for part in folder.glob(f"*.{_FORMAT}"):
        part.unlink()
    atomic.write(record, json.dumps(made_from).encode())


def _write_parts(source, folder, convert, reset, memory, passed):
    """Writes the parts that are missing; gives what is wrong with the video, or None."""

    def part_of(number):
        return folder / f"{(number - 1) // PART:06d}.{_FORMAT}"

    def is_needed(number):
        passed()
        return not (part_of(number).exists() and part_of(number + memory).exists())

    reset()
    frames, problem = videos.read(source, is_needed), None
    waiting = None
    with contextlib.closing(frames), contextlib.ExitStack() as stack:
        while True:
            try:
                frame = next(frames, None)
            except ImageError as error:
                if waiting is None and not any(folder.glob(f"*.{_FORMAT}")):
                    raise
                frame, problem = None, str(error)
            if waiting is not None and (frame is None or part_of(frame.number) != waiting[0]):
                stack.pop_all().close()
                waiting = None
            if frame is None:
                return problem
            picture = convert(frame.picture)
            path = part_of(frame.number)
            if waiting is None and path.exists():
                continue  # what it makes is there; it was shown for those that follow
            if waiting is None:
                scratch = stack.enter_context(atomic.written(path, durable=True))
                waiting = path, stack.enter_context(_Encoder.open(scratch, source, picture.shape))
            waiting[1].add(picture, frame)


class _Encoder:
    """Encodes frames into a file of a part."""

    def __init__(self, container, stream):
        self._container, self._stream, self._last = container, stream, None

    @classmethod
    @contextlib.contextmanager
    def open(cls, path, source, shape):
        import av

        with videos.opened(source) as container:
            given = container.streams.video[0]
            rate, unit = given.average_rate or fractions.Fraction(25), given.time_base
        with av.open(str(path), "w", format=_FORMAT) as container:
            stream = container.add_stream("libx264", rate=rate, options=_OPTIONS)
            stream.height, stream.width = (side + side % 2 for side in shape[:2])
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", unit
            # What players take a picture of this size for, where nothing tells; the pictures are encoded so.
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
            encoder = cls(container, stream)
            encoder.unit, encoder.step = unit, 1 / (rate * unit)
            yield encoder
            container.mux(stream.encode())

    def add(self, picture, frame):
        import av

        height, width = picture.shape[:2]
        # Half the pixels have a color of their own: one row or column more makes the sides even.
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        video_frame = video_frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        time = round((frame.number - 1) * self.step) if frame.time is None else round(frame.time / self.unit)
        if self._last is not None and time <= self._last:
            time = self._last + 1  # some cameras give two frames one time
        self._last, video_frame.pts, video_frame.time_base = time, time, self.unit
        self._container.mux(self._stream.encode(video_frame))


def _join(parts, path, source, muxer):
    """Puts parts one behind the other, with the sound of a video, without encoding anything again."""
    import av

    with contextlib.ExitStack() as stack:
        output = stack.enter_context(av.open(str(path), "w", format=muxer))
        first = stack.enter_context(av.open(str(parts[0])))
        video = output.add_stream_from_template(first.streams.video[0])
        sounds, sound_packets = {}, iter(())
        if source is not None:
            original = stack.enter_context(videos.opened(source))
            sounds = {stream.index: output.add_stream_from_template(stream) for stream in original.streams.audio}
            if sounds:
                sound_packets = _packets(original, list(original.streams.audio))
        sound = next(sound_packets, None)
        for part in parts:
            with av.open(str(part)) as container:
                for packet in _packets(container, [container.streams.video[0]]):
                    while sound is not None and sound.dts * sound.time_base <= packet.dts * packet.time_base:
                        sound.stream = sounds[sound.stream.index]
                        output.mux(sound)
                        sound = next(sound_packets, None)
                    packet.stream = video
                    output.mux(packet)
        while sound is not None:
            sound.stream = sounds[sound.stream.index]
            output.mux(sound)
            sound = next(sound_packets, None)


def _packets(container, streams):
    """The packets of streams that have a time; those of a damaged end are left out."""
    import av

    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        if packet.dts is not None:
            yield packet
