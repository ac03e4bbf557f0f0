"""Turns the CelebAMask-HQ download (Lee et al., "MaskGAN", CVPR 2020) into a folder of labeled photos.

The download has one mask for each part of a face; here each face gets one label map in the order of `LABELS`.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import pathlib
import re

import numpy as np
from PIL import Image
from tqdm import tqdm

from keras_bisenet import classes
from keras_bisenet.data import label_order
from keras_bisenet.labels import LABELS
from keras_bisenet.utils import atomic, images, locks, text_files, workers
from keras_bisenet.utils.errors import DataError, ImageError, unwritable
from keras_bisenet.utils.text_files import shown

IMAGES = "CelebA-HQ-img"
MASKS = "CelebAMask-HQ-mask-anno"
# CelebA's own division: photo of CelebA-HQ -> photo of CelebA -> 0 train, 1 val, 2 test.
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION = "list_eval_partition.txt"
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Face:
    """A photo and its masks.

    Attributes:
        name: number of the photo, as its file has it.
        image: path of the photo.
        masks: tuple of (part, path), in the order of `LABELS`.
    """

    name: str
    image: pathlib.Path
    masks: tuple


def find_faces(source):
    """Every photo of the download with its masks, by number.

    Args:
        source: folder with `CelebA-HQ-img/<n>.jpg` and `CelebAMask-HQ-mask-anno/<0..14>/<n:05d>_<part>.png`.

    Returns:
        Tuple of `Face`.

    Raises:
        DataError: a folder is missing, a mask is named after no known part, or a photo or a mask is without the other.
    """
    source = pathlib.Path(source)
    for folder in (source, source / IMAGES, source / MASKS):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; expected {IMAGES}/ and {MASKS}/ in {source}, unpacked")
    masks = collections.defaultdict(dict)
    for path in sorted(source.glob(f"{MASKS}/*/[!.]*.png")):
        match = re.fullmatch(r"([0-9]+)_([a-z_]+)", path.stem)
        if match is None or match[2] not in LABELS[1:]:
            raise DataError(
                f"{path}: names no known part; expected NUMBER_PART.png with one of {', '.join(LABELS[1:])}; "
                "correct its name or remove it"
            )
        number, part = int(match[1]), match[2]
        if part in masks[number]:
            raise DataError(f"{path}: {masks[number][part]} is of the same part; expected one mask a part; remove one")
        masks[number][part] = path
    faces = {}
    for path in sorted(source.glob(f"{IMAGES}/[0-9]*.jpg"), key=lambda path: (len(path.stem), path.stem)):
        if not path.stem.isdecimal() or int(path.stem) in faces:
            raise DataError(f"{path}: is not named NUMBER.jpg, or another photo has its number; rename or remove it")
        number = int(path.stem)
        if number not in masks:
            raise DataError(
                f"{path}: has no mask; expected {source / MASKS}/*/{number:05}_*.png; unpack them all or remove it"
            )
        order = tuple((part, masks[number][part]) for part in LABELS if part in masks[number])
        faces[number] = Face(path.stem, path, order)
    for number in sorted(masks.keys() - faces.keys()):
        mask = min(masks[number].values())
        raise DataError(
            f"{mask}: has no photo; expected {source / IMAGES / str(number)}.jpg; add it or take the mask out"
        )
    if not faces:
        raise DataError(f"{source / IMAGES}: holds no photo; expected 0.jpg, 1.jpg and so on; unpack them")
    return tuple(faces[number] for number in sorted(faces))


def paint(masks):
    """One label map of the masks of a face. Where they overlap, the part that is later in `LABELS` wins.

    Args:
        masks: dict part -> `[H, W]` bool.

    Returns:
        `[H, W]` uint8 in the order of `LABELS`.
    """
    label = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for number, part in enumerate(LABELS):
        if part in masks:
            label[masks[part]] = number
    return label


def prepare(source, output_dir, size=512, val_count=1000, test_count=1000, seed=0, workers=None):
    """Writes `images/`, `labels/`, `labels.json` and the splits. What an interrupted run has finished is kept.

    Each file appears whole; the splits come last. The same arguments give the same bytes, interrupted or not.

    Args:
        source: see `find_faces`. If `list_eval_partition.txt` of CelebA lies there too, its split is taken.
        output_dir: folder, made if need be.
        size: side of the photos and label maps.
        val_count, test_count: otherwise so many faces are drawn by chance, the others are to train on.
        seed: for these.
        workers: number of processes. Default: one a core.

    Returns:
        Dict split -> number of faces.

    Raises:
        DataError: the download cannot be used, the folder holds something else or belongs to another process, or
            it cannot be written to.
    """
    source, output_dir = pathlib.Path(source), pathlib.Path(output_dir)
    faces = find_faces(source)
    splits = _split(source, [face.name for face in faces], val_count, test_count, seed)
    try:
        with locks.held(output_dir, DataError):
            _claim(output_dir, size)
            _write_all(faces, output_dir, size, workers)
            for split, names in splits.items():
                atomic.write(output_dir / f"{split}.txt", "".join(f"{name}\n" for name in names).encode())
    except OSError as error:
        raise DataError(f"{unwritable(output_dir, error)}, and run it again to resume") from error
    except concurrent.futures.BrokenExecutor as error:
        raise DataError("a worker process was killed, perhaps for lack of memory; run it again to resume") from error
    return {split: len(names) for split, names in splits.items()}


def _split(source, names, val_count, test_count, seed):
    if (source / PARTITION).exists():
        return _official_split(source, names)
    if val_count + test_count >= len(names):
        raise DataError(
            f"{source / IMAGES}: holds {len(names)} photos; expected more than {val_count} to validate and "
            f"{test_count} to test with; ask for fewer of these"
        )
    drawn = np.random.default_rng(seed).permutation(len(names))
    parts = np.split(drawn, [len(names) - val_count - test_count, len(names) - test_count])
    return {split: [names[i] for i in sorted(part)] for split, part in zip(SPLITS, parts, strict=True) if len(part)}


def _official_split(source, names):
    partition, original = _table(source / PARTITION, 1), _table(source / MAPPING, -1)
    splits = {split: [] for split in SPLITS}
    for name in names:
        part = partition.get(original.get(name))
        if part not in ("0", "1", "2"):
            raise DataError(f"{source / PARTITION}: does not say 0, 1 or 2 for photo {name}; replace or remove it")
        splits[SPLITS[int(part)]].append(name)
    return {split: names for split, names in splits.items() if names}


def _table(path, column):
    """Dict: first word of a line -> the word of a column."""
    try:
        rows = (line.split() for line in text_files.lines(path))
        return {words[0]: words[column] for words in rows if len(words) > 1}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text; expected the file of that name of CelebA; add it") from error


def _claim(output_dir, size):
    """Makes the folder, or finds out that it is one of ours. Takes its splits away until it is whole."""
    path = output_dir / classes.FILE
    if path.exists():
        label_order.read(output_dir, len(LABELS))
        made = text_files.read_json(path).get("size")
        if made != size:
            raise DataError(
                f"{path}: states size {shown(made)}; expected {size}, as asked for; choose another folder or size"
            )
    elif any((output_dir / "labels").glob("*.png")):
        label_order.read(output_dir, len(LABELS))
        raise DataError(
            f"{output_dir / 'labels'}: holds label maps from elsewhere (no {path.name}); expected none; "
            "choose another folder"
        )
    for name in ("images", "labels"):
        (output_dir / name).mkdir(parents=True, exist_ok=True)
    atomic.write(path, classes.FACE.as_json(size=size).encode())
    for split in SPLITS:
        (output_dir / f"{split}.txt").unlink(missing_ok=True)


def _write_all(faces, output_dir, size, count):
    pool = workers.pool(count, __name__)
    written = workers.run(pool, functools.partial(_write, output_dir, size), faces, ahead=1000)
    with contextlib.closing(written):
        for _ in tqdm(written, "preparing", len(faces), unit="face", disable=None):
            pass


def _write(output_dir, size, face):
    image, label = output_dir / "images" / f"{face.name}.jpg", output_dir / "labels" / f"{face.name}.png"
    if not label.exists():
        masks = _read_masks(face)
        atomic.write(
            label, _encoded(Image.fromarray(paint(masks)).resize((size, size), Image.Resampling.NEAREST), "PNG")
        )
    if not image.exists():
        photo = _read(face.image)
        atomic.write(image, _encoded(Image.fromarray(images.resize(photo, (size, size))), "JPEG", quality=95))


def _read_masks(face):
    masks = {}
    for part, path in face.masks:
        pixels = _read(path)[..., 0]
        masks[part] = pixels > 127
        if pixels.any() and not masks[part].any():
            raise DataError(
                f"{path}: its largest value is {pixels.max()}; expected 0 outside the part and 255 inside; replace it"
            )
        first = face.masks[0][1]
        expected = masks[face.masks[0][0]].shape
        if pixels.shape != expected:
            raise DataError(
                f"{path}: is {_size(pixels)}, {first.name} {expected[0]}x{expected[1]}; expected the same; replace one"
            )
    return masks


def _read(path):
    try:
        pixels = images.read(path)
    except ImageError as error:
        raise DataError(f"{error}; replace it") from error
    if pixels.shape[0] != pixels.shape[1]:
        raise DataError(f"{path}: is {_size(pixels)}; expected a square; replace it")
    return pixels


def _size(pixels):
    return f"{pixels.shape[0]}x{pixels.shape[1]}"


def _encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
