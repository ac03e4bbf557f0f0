"""Reads the frames of videos as a player shows them, in PyAV."""

import contextlib
import dataclasses
import fractions
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_bisenet.utils import extras, images
from keras_bisenet.utils.errors import ImageError

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
# Of a pixel of a video, width to height or height to width. A hostile file could ask for pictures of any size.
MAX_ASPECT_RATIO = 8


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        number: from 1 on; damaged ones, which are left out, count.
        picture: `[h, w, 3]` uint8 RGB, upright.
        size: (height, width) at which a player shows it, in square pixels; that of the picture, unless another one was
            asked for.
        time: when it is shown, in seconds; None where the file does not tell.
    """

    number: int
    picture: np.ndarray
    size: tuple[int, int]
    time: fractions.Fraction | None


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Opens a video.

    Yields:
        `av.container.InputContainer` with at least one video stream.

    Raises:
        ImageError: PyAV is missing, or the file is, or cannot be read as a video; also where the block raises what
            PyAV raises.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise ImageError(f"{path}: reading videos needs PyAV: {extras.command('video')}") from error
    try:
        with av.open(os.fspath(path)) as container:
            container.streams.video[0]
            yield container
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except (av.FFmpegError, IndexError) as error:
        raise ImageError(f"{path}: cannot be read as a video; expected {', '.join(SUFFIXES)}") from error


def read(
    path: str | os.PathLike[str],
    is_wanted: Callable[[int], bool] | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[Frame]:
    """The frames of a video.

    Args:
        path: video file.
        is_wanted: called with the number of a frame; the others are passed over. None for all.
        size: (height, width) that pictures are resized to (bilinear, antialiased) as they are decoded, in a fraction of
            the time and memory; None for that at which a player shows them.

    Yields:
        `Frame`s. What is damaged is passed over.

    Raises:
        ImageError: PyAV is missing, the file cannot be read as a video or holds no frame, its pixels are far from
            square; or, behind its last frame, it had damaged ones or breaks off.
    """
    number, whole, end, is_complete = 0, 0, 0, True
    with opened(path) as container:
        import av

        stream = container.streams.video[0]
        ratio = stream.sample_aspect_ratio or 1  # 0 where it is not known
        if not 1 / MAX_ASPECT_RATIO <= ratio <= MAX_ASPECT_RATIO:
            raise ImageError(
                f"{path}: its pixels are {ratio} times as wide as high; expected at most {MAX_ASPECT_RATIO} times, "
                "either way; convert it to square pixels first"
            )
        packets, reformatter = container.demux(stream), av.video.reformatter.VideoReformatter()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                if not number:
                    raise
                is_complete = False  # what lies behind is not to be found
                break
            if packet is None:
                break
            is_complete &= not packet.is_corrupt
            try:
                frames = packet.decode()
            except av.FFmpegError:
                number, is_complete = number + 1, False
                continue
            for frame in frames:
                number += 1
                end = max(end, (frame.pts or 0) + (frame.duration or 0))
                if frame.is_corrupt:
                    is_complete = False
                    continue
                whole += 1
                if is_wanted is None or is_wanted(number):
                    time = None if frame.pts is None else frame.pts * stream.time_base
                    yield Frame(number, *_picture(frame, ratio, size, reformatter), time)
        # Files that break off between two frames end without an error.
        is_complete &= end * stream.time_base > _end(container, stream) - 0.25
    if not number:
        raise ImageError(f"{path}: is a video without frames; expected at least one; record or copy it again")
    if not is_complete or not whole:
        raise ImageError(f"{path}: is damaged or breaks off; {whole} of its frames could be read; copy it again")


def _picture(frame, ratio, size, reformatter):
    """The picture `[h, w, 3]`, upright, and the (height, width) at which it is shown."""
    quarters = round(frame.rotation / 90)  # the camera was turned
    shown = frame.height, max(1, round(frame.width * ratio))
    if size is None:
        picture = images.resize(frame.to_ndarray(format="rgb24"), shown)
    else:
        height, width = size[:: -1 if quarters % 2 else 1]
        # Set up once for all frames, and in this thread: the cores are the network's. To planes, as FFmpeg scales
        # straight to interleaved pixels less exactly, two levels too dark, and in twice the time.
        small = reformatter.reformat(frame, width, height, "gbrp", interpolation="BILINEAR", threads=1)
        picture = small.to_ndarray()
    return np.rot90(picture, quarters), shown[:: -1 if quarters % 2 else 1]


def _end(container, stream):
    """When the last frame of a video ends by its own header, in seconds; 0 where the header has no length."""
    if stream.duration:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    # That of a Matroska file counts from 0, wherever its frames begin. Other streams may be longer.
    return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0
