"""Writes small videos whose pictures come back bit for bit."""

import fractions
import itertools
import struct

import av
import numpy as np


def write(path, pictures, options=None, codec=None, start=0, aspect=1, numbers=None):
    """Writes pictures, a list of `[H, W, 3]` uint8 RGB, ten a second, and gives the path.

    Args:
        path, pictures: the file, and what it shows.
        options: of the container, a dict.
        codec: (name, pixel format); None for one without loss.
        start: time of the first picture, in seconds.
        aspect: width of a pixel to its height.
        numbers: when each picture is shown, in tenths of a second; None for one after the other.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        name, stream_format = codec or (("ffv1", "bgr0") if path.suffix == ".mkv" else ("png", "rgb24"))
        stream = container.add_stream(name, rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = stream_format
        stream.codec_context.sample_aspect_ratio = fractions.Fraction(aspect)
        for number, picture in zip(numbers or itertools.count(10 * start), pictures, strict=False):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, fractions.Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_with_sound(path, pictures, codec):
    """Writes pictures, a list of `[H, W, 3]` uint8 RGB, ten a second, and a second of a tone in a codec."""
    with av.open(str(path), "w") as container:
        stream, sound = container.add_stream("mpeg4", rate=10), container.add_stream(codec, rate=8000)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        wave = (3000 * np.sin(np.arange(8000) / 9)).astype(np.int16)
        tone = av.AudioFrame.from_ndarray(wave[np.newaxis], "s16", "mono")
        tone.sample_rate, tone.pts = 8000, 0
        resampler = av.AudioResampler(sound.codec_context.format, "mono", 8000, sound.codec_context.frame_size or None)
        for part in (*resampler.resample(tone), *resampler.resample(None)):
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return path


def sound_of(path):
    """The bytes of the sound of a video, as they are encoded."""
    with av.open(str(path)) as container:
        return b"".join(bytes(packet) for packet in container.demux(audio=0) if packet.size)


def turn(path):
    """Notes in an .mp4 that the camera lay on its side: its pictures are to be turned by 90 degrees clockwise."""
    content = bytearray(path.read_bytes())
    # The matrix of the track header (ISO/IEC 14496-12, 8.3.2).
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def damage(path, number):
    """Makes the picture of a number, from 0 on, unreadable, and leaves the others."""
    with av.open(str(path)) as container:
        packet = next(itertools.islice(container.demux(video=0), number, None))
        content = bytes(packet)
    path.write_bytes(path.read_bytes().replace(content, b"\xff" * len(content)))


def empty(path):
    """Takes the frames out of the index of an .mp4, as where a recording was stopped at once."""
    content = bytearray(path.read_bytes())
    # What says how many there are, of what size, when and where (ISO/IEC 14496-12, 8.6 and 8.7).
    for name, offset in ((b"stts", 8), (b"stsz", 12), (b"stsc", 8), (b"stco", 8)):
        start = content.index(name) + offset
        content[start : start + 4] = bytes(4)
    path.write_bytes(content)
