"""What is written of a parsed photo: index PNG, overlay, mask of each part, JSON of areas and boxes."""

import contextlib
import io
import json
import pathlib
import re
import struct
import zlib

import numpy as np

from keras_bisenet.utils import atomic
from keras_bisenet.utils.errors import ImageError
from keras_bisenet.utils.painting import overlay

KINDS = ("labels", "overlay", "masks", "json")
# In the folder of the results: what they were made from, see `record.Record`.
RECORD = "parse_faces.jsonl"


def check_kinds(kinds):
    """Raises `ImageError` if there is none among `kinds`, or one that is not in `KINDS`."""
    for kind in kinds or [""]:
        if kind not in KINDS:
            raise ImageError(f"outputs names {kind!r}; expected some of {', '.join(KINDS)}")


def paths(folder, name, kinds):
    """Where the results of a photo go: dict, kind -> path. Masks have a folder of their own.

    Args:
        folder: of all results.
        name: relative path of the photo, with its suffix: two photos may differ in that alone.
        kinds: some of `KINDS`.
    """
    suffixes = {"labels": ".png", "overlay": ".jpg", "masks": "", "json": ".json"}
    return {kind: pathlib.Path(folder, kind, f"{name}{suffixes[kind]}") for kind in kinds}


def frame(name, number):
    """Name of a frame of a video, `Path("summer/clip.mp4/000001")`, of that of the video and its number from 1 on."""
    return name / f"{number:06d}"


def existing(folder, name):
    """The kinds of results that there are of a photo or frame, see `paths`: a set."""
    found = set()
    for kind, path in paths(folder, name, KINDS).items():
        with contextlib.suppress(OSError):
            path.stat()
            found.add(kind)
    return found


def remove_frames(folder, name, kept):
    """Removes the results of frames that a video does not have, as an older one of its name had them.

    Args:
        folder: of all results.
        name: of the video.
        kept: last parts of the names of its frames, see `frame`.

    Raises:
        OSError: they cannot be removed.
    """
    for kind in KINDS:
        for path in pathlib.Path(folder, kind, name).glob("*"):
            if re.fullmatch("[0-9]{6,}", path.stem) and path.stem not in kept:
                atomic.remove(path)


def part_names(class_names):
    """Names that differ from each other and can be names of files, for whatever names a file has for its classes."""
    names = [re.sub(r"[^\w-]+", "_", name) for name in class_names]
    return tuple(name if name and names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names))


def write(targets, photo, labels, names, palette, faces=None):
    """Writes results; each file, and each folder of masks, appears whole.

    Args:
        targets: of `paths`.
        photo: `[H, W, 3]` uint8 RGB.
        labels: `[H, W]` uint8 class ids.
        names: of the classes, see `part_names`.
        palette: uint8 RGB of each class.
        faces: list of `detection.ParsedFace`, or None if none were looked for.

    Raises:
        OSError: a folder cannot be written to.
    """
    for kind, path in targets.items():
        if kind == "labels":
            atomic.write(path, _encode_gray(labels) if labels.dtype == np.uint8 else _encode(labels, "PNG"))
        elif kind == "overlay":
            atomic.write(path, _encode(overlay(photo, labels, palette=palette), "JPEG", quality=90))
        elif kind == "masks":
            masks = {_name(names, label): (labels == label) * np.uint8(255) for label in np.unique(labels)}
            atomic.write_folder(path, {f"{name}.png": _encode_gray(mask) for name, mask in masks.items()})
        else:
            atomic.write(path, (json.dumps(describe(labels, names, faces), indent=2) + "\n").encode())


def describe(labels, names, faces=None):
    """Areas and boxes of the parts in a photo, and its faces.

    Args:
        labels: `[H, W]` class ids.
        names: of the classes, each its own.
        faces: list of `detection.ParsedFace`, or None if none were looked for.

    Returns:
        dict: `height`, `width`; `parts`: name -> `{pixels, share, box}` of each class that occurs, where `share` is of
        all pixels and `box` [left, top, right, bottom] in pixels, right and bottom exclusive. If faces were looked for,
        `faces`: a list, the largest first, of `{box, confidence, landmarks, parts}`, where `parts` is name -> area in
        pixels; `box` and the (x, y) of `landmarks` are in pixels, rounded to hundredths.
    """
    parts = {}
    for label in np.unique(labels):
        mask = labels == label
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        pixels = int(mask.sum())
        share = round(pixels / mask.size, 6)
        parts[_name(names, label)] = {"pixels": pixels, "share": share, "box": [int(side) for side in box]}
    described = {"height": labels.shape[0], "width": labels.shape[1], "parts": parts}
    return described if faces is None else described | {"faces": [_describe_face(face, names) for face in faces]}


def _describe_face(face, names):
    found = zip(*np.unique(face.part[face.part > 0], return_counts=True), strict=True)
    return {
        "box": [round(side, 2) for side in face.box],
        "confidence": round(face.confidence, 4),
        "landmarks": {name: [round(value, 2) for value in point] for name, point in face.landmarks.items()},
        "parts": {_name(names, label): int(pixels) for label, pixels in found},
    }


def count_faces(faces, most):
    """How many faces were found in each photo and in all, and which photos have none, in words.

    Args:
        faces: dict, name of a photo -> number of its faces.
        most: so many photos are named at most of those with a face, and of those without.

    Returns:
        List of lines.
    """
    counted = [f"{name}: {count}" for name, count in faces.items() if count]
    without = [f"no face: {name}" for name, count in faces.items() if not count]
    lines = []
    for named in (counted, without):
        lines += [*named[:most], *([f"... and {len(named) - most} more"] if len(named) > most else [])]
    total = f"{sum(faces.values())} faces in {len(counted)} photos"
    return [*lines, f"found {total}; {len(without)} have none"]


def _name(names, label):
    """A file may return more classes than it has names for."""
    return names[label] if label < len(names) else f"class_{label}"


def _encode_gray(labels):
    """A PNG of gray pixels, of uint8 `[H, W]`.

    Pillow would try five filters on each row, in three times the time; runs of one label need none.
    """
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with the number of its filter
    rows[:, 1:] = labels
    compressor = zlib.compressobj(1, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", compressor.compress(rows) + compressor.flush()), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _encode(array, kind, **options):
    from PIL import Image

    file = io.BytesIO()
    # The fastest compression: labels shrink to a hundredth with any.
    Image.fromarray(array).save(file, kind, **options | ({"compress_level": 1} if kind == "PNG" else {}))
    return file.getvalue()
