"""Labeled photos are read as they are, and what cannot be trained on is named."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT
from support.refusals import refused

from keras_bisenet.data import folder
from keras_bisenet.data.folder import Example
from keras_bisenet.utils.errors import DataError

REAL = ROOT.parent / "shared" / "data" / "celebamask_1k"
LABEL = np.array([[0, 1, 2, 255, 18], [3, 4, 5, 6, 7], [8, 9, 10, 11, 12]], np.uint8)


def save_pair(data_dir, name, label=LABEL, suffix=".jpg"):
    photo = np.random.default_rng(len(name)).integers(0, 256, (*label.shape, 3), np.uint8)
    Image.fromarray(photo).save(data_dir / "images" / f"{name}{suffix}")
    Image.fromarray(label).save(data_dir / "labels" / f"{name}.png")


@pytest.fixture
def data(tmp_path):
    """Three pairs: a and c to train on, b to validate."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for name, suffix in (("a", ".jpg"), ("b", ".PNG"), ("c", ".webp")):
        save_pair(tmp_path, name, suffix=suffix)
    (tmp_path / "train.txt").write_text("c\na\n")
    (tmp_path / "val.txt").write_text("b\n")
    return tmp_path


def example(data, name, suffix):
    return Example(name, data / "images" / f"{name}{suffix}", data / "labels" / f"{name}.png")


def test_a_split_keeps_the_order_of_its_file(data):
    assert folder.read_split(data, "train") == (example(data, "c", ".webp"), example(data, "a", ".jpg"))
    assert folder.read_split(str(data), "val") == (example(data, "b", ".PNG"),)


def test_a_split_written_on_windows(data):
    (data / "train.txt").write_bytes(b"\xef\xbb\xbfc\r\n\r\n  a \r\n")
    assert [example.name for example in folder.read_split(data, "train")] == ["c", "a"]


def test_other_and_hidden_files_are_passed_over(data):
    for name in ("images/notes.txt", "images/._a.jpg", "labels/._a.png", "labels/a.json", "labels/.DS_Store"):
        (data / name).write_text("")
    assert len(folder.read_split(data, "train")) == 2


def test_missing_folders(data):
    with refused(DataError, f"{data}/x: no such folder", "images/, labels/ and val.txt"):
        folder.read_split(data / "x", "val")
    (data / "labels").rename(data / "masks")
    with refused(DataError, f"{data}/labels: no such folder"):
        folder.read_split(data, "train")


@pytest.mark.parametrize(
    ("path", "content", "found"),
    [
        ("val.txt", None, "no such file"),
        ("val.txt", b"\n \n", "is empty"),
        ("val.txt", b"\xff\xfe\x00", "cannot be read as text"),
        ("val.txt", b"b\na\nb\n", "names b twice"),
        ("val.txt", b"b\nd\n", "names d, which is in neither images/ nor labels/"),
        ("val.txt", b"b\nb.jpg\n", "names b.jpg, which is in neither"),
        ("val.txt", b"b\n../images/b\n", "names ../images/b, which is in neither"),
        ("images/a.png", b"", "a.jpg has the same name"),
    ],
    ids=["missing", "empty", "no text", "twice", "unknown", "with its suffix", "a path", "two images of one name"],
)
def test_what_cannot_be_a_split(data, path, content, found):
    (data / path).unlink(missing_ok=True)
    if content is not None:
        (data / path).write_bytes(content)
    with refused(DataError, f"{data / path}: {found}"):
        folder.read_split(data, "val")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("gone", "found", "expected"),
    [
        ("labels/a.png", "images/a.jpg: has no label", "labels/a.png"),
        ("images/c.webp", "labels/c.png: has no image", "images/c with one of .bmp, .gif, .jpeg, .jpg, .png, .tif"),
    ],
    ids=["label", "image"],
)
def test_an_image_or_a_label_without_the_other(data, split, gone, found, expected):
    """Of this split or of none: it may have been forgotten."""
    (data / gone).unlink()
    with refused(DataError, data / found, f"expected {data / expected}"):
        folder.read_split(data, split)


def grayscale_png(label, bits):
    """A grayscale PNG of `bits` a pixel, uncompressed. Pillow writes none of 2 or 4 bits."""
    height, width = label.shape
    planes = np.unpackbits(label[..., np.newaxis], -1)[..., 8 - bits :].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in planes)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b"")):
        content += len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
    return content


def encoded(array, kind="PNG", mode=None):
    file, image = io.BytesIO(), Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


LABELS_THAT_ARE_NONE = {
    "palette PNG": encoded(LABEL, mode="P"),
    "RGB PNG": encoded(LABEL, mode="RGB"),
    "RGBA PNG": encoded(LABEL, mode="RGBA"),
    "gray and alpha PNG": encoded(LABEL, mode="LA"),
    "black and white PNG": encoded(LABEL, mode="1"),
    "16-bit PNG": encoded(LABEL.astype(np.uint16)),
    "2-bit grayscale PNG": grayscale_png(LABEL % 4, 2),
    "4-bit grayscale PNG": grayscale_png(LABEL % 16, 4),
    "8-bit grayscale JPEG": encoded(LABEL, "JPEG"),
}


@pytest.mark.parametrize("kind", LABELS_THAT_ARE_NONE)
def test_labels_of_another_kind(tmp_path, kind):
    path = tmp_path / "a.png"
    path.write_bytes(LABELS_THAT_ARE_NONE[kind])
    with refused(DataError, f"{path}: label is a {kind}; expected an 8-bit grayscale PNG"):
        folder.read_label(path)


@pytest.mark.parametrize(
    "content", [encoded(LABEL), grayscale_png(LABEL, 8)], ids=["of Pillow", "put together by hand"]
)
def test_a_label_is_read_as_it_is(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    result = folder.read_label(tmp_path / "a.png")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, LABEL)


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) * 2 // 3], lambda _: b"", lambda content: content[1:]],
    ids=["cut", "empty", "shifted"],
)
def test_corrupt_files(data, kind, damage):
    save_pair(data, "a", np.zeros((64, 64), np.uint8))
    examples = folder.read_split(data, "train")
    path = getattr(examples[1], kind)
    path.write_bytes(damage(path.read_bytes()))
    with refused(DataError, f"{path}: corrupt or no image", "--skip_bad"):
        folder.check(examples, 19)


def test_a_flipped_bit_in_a_pixel(tmp_path):
    """The pixels lie in the file as they are: nothing but the checksum can tell."""
    path = tmp_path / "a.png"
    content = bytearray(grayscale_png(LABEL, 8))
    content[content.index(LABEL[1].tobytes())] ^= 1
    path.write_bytes(content)
    with refused(DataError, f"{path}: corrupt or no image") as error:
        folder.read_label(path)
    assert "--skip_bad" not in str(error.value)


def check_example(example, problem, **options):
    """The example must be good, or this must be wrong with it."""
    if problem is None:
        assert folder.check([example], 19, **options) == ((example,), ())
        return
    with refused(DataError, problem, "--skip_bad"):
        folder.check([example], 19, **options)


def test_image_modes_that_can_be_read_are_good(data):
    cmyk = np.zeros((*LABEL.shape, 4), np.uint8)
    Image.fromarray(cmyk, mode="CMYK").save(data / "images" / "a.jpg")
    Image.fromarray(LABEL.astype(np.uint16)).save(data / "images" / "b.PNG")
    examples = (*folder.read_split(data, "train"), *folder.read_split(data, "val"))
    assert folder.check(examples, 19) == (examples, ())


@pytest.mark.parametrize(("orientation", "good"), [(0, True), (1, True), (3, False), (6, False), (9, True)])
def test_an_image_turned_by_exif(data, orientation, good):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = data / "images" / "a.jpg"
    Image.new("RGB", (5, 3)).save(path, exif=exif)
    check_example(example(data, "a", ".jpg"), None if good else f"{path}: is rotated by its EXIF orientation")


def test_sizes_that_differ(data):
    Image.fromarray(LABEL.T.copy()).save(data / "labels" / "a.png")
    check_example(example(data, "a", ".jpg"), f"{data}/labels/a.png: is 5x3, its image 3x5")


@pytest.mark.parametrize(
    ("value", "ignore", "good"),
    [(18, 255, True), (19, 255, False), (254, 255, False), (255, 255, True), (255, 200, False)],
)
def test_values_of_a_label(data, value, ignore, good):
    label = np.zeros((3, 5), np.uint8)
    label[1, 2] = value
    Image.fromarray(label).save(data / "labels" / "a.png")
    problem = f"{data}/labels/a.png: holds {value}; expected classes 0 to 18, or {ignore} to ignore"
    check_example(example(data, "a", ".jpg"), None if good else problem, ignore=ignore)


def test_many_wrong_values_are_shortened(data):
    with refused(DataError, f"{data}/labels/b.png: holds 3, 4, 5, 6, 7, ...; expected classes 0 to 2"):
        folder.check(folder.read_split(data, "val"), 3)


def many(data, count, bad):
    names = [f"n{number:03}" for number in range(count)]
    for number, name in enumerate(names):
        save_pair(data, name, np.full((4, 4), 77 if number in bad else 1, np.uint8))
    (data / "train.txt").write_text("\n".join(reversed(names)))
    return folder.read_split(data, "train")


def test_the_first_of_several_bad_ones_is_named(data):
    examples = many(data, 40, (3, 8, 30))
    for _ in range(5):
        with refused(DataError, f"{data}/labels/n030.png: holds 77;"):
            folder.check(examples, 19)


def test_skip_bad_counts_and_goes_on(data):
    examples = many(data, 40, (3, 8, 30))
    good, skipped = folder.check(examples, 19, skip_bad=True)
    bad = ("n030", "n008", "n003")
    assert good == tuple(example for example in examples if example.name not in bad)
    for message, name in zip(skipped, bad, strict=True):
        assert message.startswith(f"{data}/labels/{name}.png: holds 77;") and "--skip_bad" not in message


def test_skip_bad_with_nothing_left(data):
    with refused(DataError, "none of 3 examples", f"{data}/labels/n002.png: holds 77"):
        folder.check(many(data, 3, (0, 1, 2)), 19, skip_bad=True)


@pytest.mark.parametrize("path", ["images/a.jpg", "labels/a.png"])
def test_a_file_that_is_gone_by_now(data, path):
    (data / path).unlink()
    check_example(example(data, "a", ".jpg"), f"{data / path}: no such file")


def test_real_faces():
    if not REAL.is_dir():
        pytest.skip("needs the 900 faces, which may not be passed on")
    examples = folder.read_split(REAL, "val")
    assert len(examples) == 100
    assert folder.check(examples, 19) == (examples, ())
