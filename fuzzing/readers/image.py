"""Photos: `images.read`, which FaceParser and all scripts use."""

import io
import random
import struct
import zlib

from fuzzing import cases, mutations
from keras_bisenet.utils.errors import ImageError

INSTRUMENTED = ("keras_bisenet.utils.images",)


def seeds():
    """Every kind of file that is read, with what turns, darkens or hides parts of it."""
    import numpy as np
    from PIL import Image

    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    deep = Image.fromarray(np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000)
    clear = rgb.convert("RGBA")
    clear.putalpha(rgb.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = {f"rgb.{kind}": _save(rgb, kind) for kind in ("bmp", "gif", "jpeg", "png", "tiff", "webp")}
    return contents | {
        "turned.jpeg": _save(rgb, "jpeg", exif=exif),
        "turned.png": _save(rgb, "png", exif=exif),
        "cmyk.jpeg": _save(rgb.convert("CMYK"), "jpeg"),
        "progressive.jpeg": _save(rgb, "jpeg", progressive=True),
        "deep.png": _save(deep, "png"),
        "deep.tiff": _save(deep, "tiff"),
        "lzw.tiff": _save(rgb, "tiff", compression="tiff_lzw"),
        "clear.png": _save(clear, "png"),
        "clear.webp": _save(clear, "webp", lossless=True),
        "palette.png": _save(rgb.quantize(5), "png", transparency=1),
        "bits.png": _save(rgb.convert("1"), "png"),
        "moving.gif": _save(rgb, "gif", save_all=True, append_images=[rgb.rotate(90, expand=True)]),
        "moving.webp": _save(rgb, "webp", save_all=True, append_images=[rgb.rotate(180)]),
        "pages.tiff": _save(rgb, "tiff", save_all=True, append_images=[deep]),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 7\n%%EndComments\n",
    }


def _save(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def mutate(content, max_size, seed):
    """Changes one chunk of a PNG and makes its checksum right again."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    rng = random.Random(seed)
    chunks, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return None
    chosen = rng.randrange(len(chunks))
    kind, data = chunks[chosen]
    if kind in (b"IDAT", b"zTXt", b"iCCP") and rng.random() < 0.5:
        data = zlib.compress(rng.randbytes(rng.randrange(200)))
    else:
        data = mutations.mutate(data, max_size, seed)
    if rng.random() < 0.2:
        kind = rng.choice((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT"))
        chunks.insert(chosen, (kind, data))
    else:
        chunks[chosen] = (kind, data)
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def read(content, folder):
    from keras_bisenet.utils import images

    path = folder / "photo.png"
    path.write_bytes(content)
    try:
        photo = images.read(path, (32, 48))
    except ImageError as error:
        cases.check_refusal(error, path)
        return
    if photo.shape != (32, 48, 3) or photo.dtype != "uint8":
        raise AssertionError(f"{photo.dtype} {photo.shape}")
