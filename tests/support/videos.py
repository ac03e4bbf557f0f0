"""Writes small videos whose pictures come back bit for bit."""

import struct

import av


def write(path, pictures, options=None, codec=None):
    """Writes pictures `[H, W, 3]` uint8 RGB, ten a second; with a codec of (name, pixel format), if one is named."""
    with av.open(str(path), "w", options=options or {}) as container:
        name, stream_format = codec or (("ffv1", "bgr0") if path.suffix == ".mkv" else ("png", "rgb24"))
        stream = container.add_stream(name, rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = stream_format
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def turn(path):
    """Notes in an .mp4 that the camera lay on its side: its pictures are to be turned by 90 degrees clockwise."""
    content = bytearray(path.read_bytes())
    # The matrix of the track header (ISO/IEC 14496-12, 8.3.2).
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
