"""Photos are read as a person sees them."""

import numpy as np
import pytest
from PIL import Image
from support.refusals import refused

from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError

COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [200, 100, 50]], [[9, 8, 7], [60, 60, 60]]], np.uint8)


TRANSPARENT = np.concatenate([COLOURS, np.full((3, 2, 1), 255, np.uint8)], -1)
TRANSPARENT[0, 0, 3] = 0


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(COLOURS), COLOURS),
        (Image.fromarray(COLOURS[..., 0]), COLOURS[..., :1].repeat(3, -1)),
        (Image.fromarray(COLOURS).quantize(6), COLOURS),
        (Image.fromarray(TRANSPARENT), np.where(TRANSPARENT[..., 3:], COLOURS, 255)),
    ],
    ids=["rgb", "gray", "palette", "transparent parts are white"],
)
def test_colors(tmp_path, image, expected):
    image.save(tmp_path / "a.png")
    result = images.read(tmp_path / "a.png")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("name", "order"), [("a.png", "<u2"), ("a.tif", "<u2"), ("a.tif", ">u2")])
def test_sixteen_bit_is_scaled_not_clipped(tmp_path, name, order):
    Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], order)).save(tmp_path / name)
    np.testing.assert_array_equal(images.read(tmp_path / name)[0, :, 0], [0, 0, 1, 128, 255])


@pytest.mark.parametrize(
    "pixels", [np.linspace(0, 1, 6, dtype=np.float32), np.arange(6, dtype=np.int32) * 50], ids=lambda array: array.dtype
)
def test_numbers_of_no_known_white_are_refused(tmp_path, pixels):
    """They were black photos."""
    image = Image.fromarray(pixels.reshape(2, 3))
    image.save(tmp_path / "a.tif")
    with refused(ImageError, tmp_path / "a.tif", "8 or 16 bits"):
        images.read(tmp_path / "a.tif")
    with refused(ImageError, "the photo", "8 or 16 bits"):
        images.as_photo(image)


def test_cmyk(tmp_path):
    cmyk = np.zeros((8, 8, 4), np.uint8)
    cmyk[..., 1:3] = 255  # magenta and yellow ink: red
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "a.jpg", quality=100)
    red = images.read(tmp_path / "a.jpg").reshape(-1, 3).mean(0)
    assert red[0] > 200
    assert red[1:].max() < 60


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), np.rot90(COLOURS, -1))


def test_resize_is_height_first(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png", (48, 32)).shape == (48, 32, 3)
    assert images.resize(COLOURS, (3, 2)) is COLOURS


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken", images.BUNDLED.read_bytes()[:50_000]]
)
def test_what_is_no_image(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with refused(ImageError, f"{path}: cannot be read as an image", ".bmp, .gif, .jpeg"):
        images.read(path)


def test_missing_image(tmp_path):
    with refused(ImageError, tmp_path / "a.png", "no such file"):
        images.read(tmp_path / "a.png")


def test_find(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in images.find(tmp_path)] == ["a.png", "b.JPG"]
    assert images.find(tmp_path / "a.png") == [tmp_path / "a.png"]


def test_find_nothing(tmp_path):
    with refused(ImageError, f"{tmp_path}: holds no photo"):
        images.find(tmp_path)
    with refused(ImageError, f"{tmp_path}/none: no such file or folder"):
        images.find(tmp_path / "none")


@pytest.mark.parametrize(("text", "size"), [("512", (512, 512)), ("480x640", (480, 640)), ("32x33", (32, 33))])
def test_parse_size_is_height_first(text, size):
    assert images.parse_size(text) == size


@pytest.mark.parametrize("text", ["31", "512x16", "big", "-64", "64x", "64x64x64", "1e3", "", "٦٤", "64 x 64"])
def test_sizes_that_are_none(text):
    with refused(ImageError, repr(text), "HEIGHTxWIDTH", "32"):
        images.parse_size(text)


def write_photo(path, height, width, orientation=None):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(path, exif=exif)
    return path


def test_a_size_that_lies_across_the_photos(tmp_path):
    high, square = write_photo(tmp_path / "a.jpg", 90, 60), write_photo(tmp_path / "b.png", 50, 50)
    turned = write_photo(tmp_path / "c.jpg", 60, 90, orientation=6)
    wide, broken = write_photo(tmp_path / "d.jpg", 60, 90), tmp_path / "e.jpg"
    broken.write_bytes(b"")
    assert "640x360" in images.swapped((360, 640), [high, square, turned, wide, broken])
    assert images.swapped((640, 360), [high, square, turned, wide, broken]) is None
    assert "360x640" in images.swapped((640, 360), [wide])
    for paths in ([], [square], [broken], [high, wide]):
        assert images.swapped((360, 640), paths) is None
    assert images.swapped((512, 512), [high]) is None


def test_lazy_photos_are_made_when_they_are_asked_for():
    made = []
    photos = images.Lazy(lambda item: made.append(item) or -item, [1, 2, 3])
    assert len(photos[1:]) == 2
    assert made == []
    assert [photos[0], *photos[1:]] == [-1, -2, -3]
    assert made == [1, 2, 3]
