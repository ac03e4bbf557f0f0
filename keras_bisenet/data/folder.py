"""A folder of labeled photos: `images/<id>.jpg`, `labels/<id>.png`, and `train.txt`, `val.txt` with one id a line.

Photos without labels, to learn a teacher's predictions on, lie in `images/` too and are named in `unlabelled.txt`.
"""

import concurrent.futures
import contextlib
import dataclasses
import io
import os
import pathlib

import numpy as np
from PIL import Image
from tqdm import tqdm

from keras_bisenet.labels import IGNORE
from keras_bisenet.utils import images, text_files
from keras_bisenet.utils.errors import DataError
from keras_bisenet.utils.text_files import shown

UNLABELED = "unlabelled"

_KINDS = {"1": "black and white", "P": "palette", "LA": "gray and alpha", "I;16": "16-bit", "I": "16-bit"}
_ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True)
class Example:
    """A photo and its label map: `image` and `label` are their paths, `name` is the id that the two share.

    `label` is None for a photo without labels.
    """

    name: str
    image: pathlib.Path
    label: pathlib.Path | None


def read_split(data_dir, split):
    """The examples of a split, in the order of its file.

    Args:
        data_dir: folder with `images/`, `labels/` and `<split>.txt`.
        split: `"train"`, `"val"` or another name.

    Returns:
        Tuple of `Example`.

    Raises:
        DataError: something is missing, an id is there twice, or any image or label of the folder is without the other.
    """
    data_dir = pathlib.Path(data_dir)
    for folder in (data_dir, data_dir / "images", data_dir / "labels"):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; expected images/, labels/ and {split}.txt in {data_dir}")
    names = _read_names(data_dir / f"{split}.txt")
    photos = _by_stem(data_dir / "images", images.SUFFIXES)
    for example in read_unlabeled(data_dir):
        del photos[example.name]
    labels = _by_stem(data_dir / "labels", (".png",))
    for name in names:
        if name not in photos and name not in labels:
            raise DataError(
                f"{data_dir / split}.txt: names {shown(name)}, which is in neither images/ nor labels/; "
                "expected names of files without their suffix; add the two files or remove the line"
            )
    for name in (*names, *sorted(photos)):
        if name not in labels:
            raise DataError(
                f"{photos[name]}: has no label; expected {data_dir / 'labels' / name}.png; add it or take the image out"
            )
    for name in (*names, *sorted(labels)):
        if name not in photos:
            raise DataError(
                f"{labels[name]}: has no image; expected {data_dir / 'images' / name} with one of "
                f"{', '.join(images.SUFFIXES)}; add it or take the label out"
            )
    return tuple(Example(name, photos[name], labels[name]) for name in names)


def read_unlabeled(data_dir):
    """The photos that `unlabelled.txt` names, in its order.

    Args:
        data_dir: see `read_split`.

    Returns:
        Tuple of `Example` without a label; an empty one if there is no such file.

    Raises:
        DataError: a photo is missing, named twice, or has a label.
    """
    data_dir = pathlib.Path(data_dir)
    listed = data_dir / f"{UNLABELED}.txt"
    if not listed.exists():
        return ()
    names = _read_names(listed)
    photos, labels = _by_stem(data_dir / "images", images.SUFFIXES), _by_stem(data_dir / "labels", (".png",))
    for name in names:
        if name not in photos:
            raise DataError(
                f"{listed}: names {shown(name)}, which is not in images/; expected names of photos without their "
                "suffix; add the photo or remove the line"
            )
        if name in labels:
            raise DataError(
                f"{listed}: names {shown(name)}, which has a label: {labels[name]}; expected photos without one; take "
                "the line or the label out"
            )
    return tuple(Example(name, photos[name], None) for name in names)


def _read_names(path):
    names, again = {}, None
    try:
        for name in text_files.lines(path):
            if name in names:
                again = name
                break
            names[name] = None
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected names of images without their suffix, one a line") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text; expected names of images, one a line") from error
    if again is not None:
        raise DataError(f"{path}: names {shown(again)} twice; expected each once; remove one")
    if not names:
        raise DataError(f"{path}: is empty; expected names of images without their suffix, one a line")
    return list(names)


def _by_stem(folder, suffixes):
    """Dict: name without suffix -> path. Hidden files are passed over."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in files:
                raise DataError(
                    f"{path}: {files[path.stem].name} has the same name; expected one file of a name; remove one"
                )
            files[path.stem] = path
    return files


def read_label(path):
    """Reads a label map.

    Returns:
        `[H, W]` uint8, the class of each pixel.

    Raises:
        DataError: the file is missing, corrupt, too large, or no 8-bit grayscale PNG.
    """
    return np.asarray(_decode(path, _open_label(path)))


def _open_label(path):
    image, bits = _open(path)
    if image.format != "PNG" or image.mode != "L" or bits != 8:
        kind = f"{bits}-bit grayscale" if image.mode == "L" else _KINDS.get(image.mode, image.mode)
        raise DataError(
            f"{path}: label is a {kind} {image.format}; expected an 8-bit grayscale PNG whose pixels are class "
            "numbers; save those in one"
        )
    return image


def _open_image(path):
    image, _ = _open(path)
    with _reading(path):
        turned = image.getexif().get(_ORIENTATION) in range(2, 9)
    if turned:
        raise DataError(
            f"{path}: is rotated by its EXIF orientation, and its label perhaps is not; expected an upright image "
            "without it; save it so"
        )
    return image


def _open(path):
    """Reads the header of an image file. Returns the image, and how many bits a channel of a PNG has (8 for others)."""
    with _reading(path):
        content = pathlib.Path(path).read_bytes()
        image = Image.open(io.BytesIO(content), formats=images.FORMATS)
        if image.format != "PNG":
            return image, 8
        # The header of a PNG comes first, and in it width, height and depth; Pillow takes it in other places too.
        if content[12:16] != b"IHDR":
            raise ValueError("another chunk comes first")
        return image, content[24]


def _decode(path, image):
    with _reading(path):
        image.load()
    return image


@contextlib.contextmanager
def _reading(path):
    """Around all that Pillow does with a file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; add it or remove it from the split") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {images.too_many_pixels(error)}; shrink it") from error
    except MemoryError as error:
        raise DataError(f"{path}: not enough memory; shrink it") from error
    except Exception as error:  # Pillow trusts the file, and a damaged one fails in any way
        raise DataError(f"{path}: corrupt or no image; expected one that opens; replace it") from error


def check(examples, num_classes, skip_bad=False, ignore=IGNORE):
    """Opens every image and label, and finds those that cannot be trained on.

    Bad are: a corrupt file, an image that EXIF turns, a label that `read_label` refuses or with another class, and
    sizes that differ.

    Args:
        examples: of `read_split`.
        num_classes: labels may hold 0 to `num_classes - 1`,
        ignore: and this.
        skip_bad: leave bad ones out instead of raising.

    Returns:
        The good `Example`s, a tuple in the order given, and a tuple of messages, one for each that was left out.

    Raises:
        DataError: about the first bad example, or if none is good.
    """
    good, skipped = [], []
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        problems = pool.map(lambda example: _problem(example, num_classes, ignore), examples)
        progress = tqdm(problems, "checking", len(examples), unit="pair", disable=None)
        for example, problem in zip(examples, progress, strict=True):
            if problem is None:
                good.append(example)
            elif skip_bad:
                skipped.append(problem)
            else:
                progress.close()
                raise DataError(f"{problem}, or leave all such out with --skip_bad")
    finally:
        pool.shutdown(cancel_futures=True)
    if skipped and not good:
        raise DataError(f"none of {len(skipped)} examples can be used; the first: {skipped[0]}")
    return tuple(good), tuple(skipped)


def _problem(example, num_classes, ignore):
    """What is wrong with an example, or None."""
    try:
        image = _open_image(example.image)
        if example.label is None:
            _decode(example.image, image)
            return None
        label = _open_label(example.label)
    except DataError as error:
        return str(error)
    if image.size != label.size:
        return (
            f"{example.label}: is {label.height}x{label.width}, its image {image.height}x{image.width}; "
            "expected the same; resize one of them, a label by nearest neighbor"
        )
    try:
        _decode(example.image, image), _decode(example.label, label)
    except DataError as error:
        return str(error)
    found = [value for value, count in enumerate(label.histogram()) if count]
    wrong = [value for value in found if value >= num_classes and value != ignore]
    if wrong:
        values = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        return (
            f"{example.label}: holds {values}; expected classes 0 to {num_classes - 1}, or {ignore} to ignore; "
            "correct it or the number of classes"
        )
    return None
