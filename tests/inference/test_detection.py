"""Faces anywhere in a photo: found, cut out as CelebA-HQ was, and their labels put back."""

import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.refusals import refused

from keras_bisenet import LABELS, FaceParser
from keras_bisenet.classes import FACE
from keras_bisenet.inference import detection
from keras_bisenet.inference.detection import Face
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError

FACE_PARTS = [LABELS.index(part) for part in ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "u_lip", "l_lip")]


def quad(left_eye, right_eye, mouth_left, mouth_right):
    """The corners that Karras et al. cut out: top left, bottom left, bottom right, top right (appendix C)."""
    eyes = (left_eye + right_eye) / 2
    mouth = (mouth_left + mouth_right) / 2
    across, down = right_eye - left_eye, eyes - mouth
    x = across - np.array([-down[1], down[0]]) * -1
    x *= max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    center = eyes - 0.1 * down
    return np.array([center - x - y, center - x + y, center + x + y, center + x - y])


@given(st.lists(st.integers(-300, 300), min_size=8, max_size=8))
def test_the_corners_are_those_of_the_paper(numbers):
    points = np.array(numbers, float).reshape(4, 2)
    down = points[2:].mean(0) - points[:2].mean(0)
    level = points[1] - points[0] + [down[1], -down[0]]
    if np.hypot(*level) < 1:
        return
    face = detection.face_of(*points)
    corners = face.matrix(64) @ np.array([[0, 0, 1], [0, 64, 1], [64, 64, 1], [64, 0, 1]]).T
    np.testing.assert_allclose(corners.T, quad(*points), atol=1e-6)


@pytest.fixture(scope="module")
def portrait():
    return images.read(images.BUNDLED)


def test_a_square_of_the_right_size_is_cut_out_as_it_is(portrait):
    crop = detection.cut_out(portrait, Face((120, 130), 64, 0), 64)
    np.testing.assert_array_equal(crop, portrait[98:162, 88:152])


@pytest.mark.parametrize(("size", "tolerance"), [(32, 1.5), (75, 1.2), (128, 0), (300, 0.6)])
def test_an_upright_face_is_cropped_and_resized(portrait, size, tolerance):
    """But at the border, where the crop has neighbors that a photo cropped first has not."""
    crop = detection.cut_out(portrait, Face((120, 130), 128, 0), size)
    expected = Image.fromarray(portrait[66:194, 56:184]).resize((size, size), Image.Resampling.BILINEAR)
    inner = np.s_[size // 16 : -size // 16, size // 16 : -size // 16]
    assert crop.shape == (size, size, 3)
    assert np.abs(crop.astype(float) - np.asarray(expected))[inner].mean() <= tolerance


@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_face_is_cut_out_upright(portrait, quarters):
    turned = np.rot90(portrait, -quarters)  # clockwise
    crop = detection.cut_out(turned, Face((120, 120), 240, quarters * math.pi / 2), 240)
    np.testing.assert_allclose(crop.astype(int), portrait, atol=1)


def test_beyond_the_photo_it_is_mirrored(portrait):
    crop = detection.cut_out(portrait, Face((10, 230), 100, 0), 100)
    np.testing.assert_array_equal(crop, np.pad(portrait, ((0, 40), (40, 0), (0, 0)), "symmetric")[180:280, :100])


class Gray:
    """A network that takes the gray of a pixel, in tens, for its label."""

    image_size, num_classes, classes = (64, 64), 19, FACE

    def labels(self, image):
        return np.rint(image[..., 0] / 10).astype(int)


@pytest.fixture(scope="module")
def grey_parser():
    return FaceParser(Gray())


def painted(labels):
    return np.repeat(labels[..., np.newaxis] * np.uint8(10), 3, -1)


def blocks(height=150, width=200, side=25):
    """A label map of squares, no two of them of one label, but for the 19 that there are; none is background."""
    rows, columns = np.ogrid[:height, :width]
    return (1 + (5 * (rows // side) + 3 * (columns // side)) % 18).astype(np.uint8)


def inside(labels, face, margin=0.0):
    """Pixels whose center lies in the square of a face, so far from its sides."""
    rows, columns = np.indices(labels.shape) + 0.5
    x, y = columns - face.center[0], rows - face.center[1]
    across, down = (
        x * math.cos(face.angle) + y * math.sin(face.angle),
        -x * math.sin(face.angle) + y * math.cos(face.angle),
    )
    return np.maximum(abs(across), abs(down)) < face.side / 2 - margin


def flat(labels, reach):
    """Pixels around which all have their label."""
    padded = np.pad(labels, reach, "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    return windows.min((2, 3)) == windows.max((2, 3))


def test_labels_of_a_crop_come_back_to_their_pixels(grey_parser):
    labels, face = blocks(), Face((60, 50), 64, 0)
    result = detection.parse_faces(grey_parser, painted(labels), [face])
    assert result.dtype == np.uint8
    expected = np.zeros_like(labels)
    expected[18:82, 28:92] = labels[18:82, 28:92]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "face",
    [
        Face((60, 50), 128, 0),
        Face((100.5, 75.25), 96.5, 0.3),
        Face((100, 75), 40, -2.0),
        Face((100, 75), 64, math.pi / 2),
        Face((5, 145), 80, 0.7),
        Face((195, 10), 300, -0.2),
        Face((100, 75), 900, 1.0),
    ],
    ids=["large", "turned", "small", "lying", "in a corner", "larger than the photo", "far beyond it"],
)
def test_labels_come_back_wherever_the_face_is(grey_parser, face):
    labels = blocks(side=25 if face.side < 600 else 75)
    result = detection.parse_faces(grey_parser, painted(labels), [face])
    pixel = max(1.0, face.side / 64)
    clear = flat(labels, math.ceil(1.5 * pixel))
    within = inside(labels, face, pixel)
    assert (within & clear).sum() > 100
    np.testing.assert_array_equal(result[within & clear], labels[within & clear])
    assert not result[~inside(labels, face, -pixel)].any()


class Rings:
    """A network that sees hair in the middle of a dark crop, and skin all over a light one."""

    image_size, num_classes, classes = (64, 64), 19, FACE

    def labels(self, image):
        labels = np.full(image.shape[:2], 1)
        if image.mean() < 50:
            labels[:], labels[16:48, 16:48] = 0, 17
        return labels


def test_of_two_faces_the_smaller_one_counts_but_for_its_background():
    photo = np.full((150, 200, 3), 200, np.uint8)
    photo[60:92, 80:112] = 0
    large, small = Face((74, 74), 128, 0), Face((96, 76), 32, 0)
    expected = np.zeros((150, 200))
    expected[10:138, 10:138] = 1
    expected[68:84, 88:104] = 17
    for faces in ([large, small], [small, large]):
        np.testing.assert_array_equal(detection.parse_faces(FaceParser(Rings()), photo, faces), expected)


def test_two_faces_side_by_side(grey_parser):
    labels = blocks()
    faces = [Face((40, 75), 64, 0), Face((140, 75), 64, 0)]
    result = detection.parse_faces(grey_parser, painted(labels), faces)
    expected = np.zeros_like(labels)
    for left in (8, 108):
        expected[43:107, left : left + 64] = labels[43:107, left : left + 64]
    np.testing.assert_array_equal(result, expected)


def test_no_face_is_all_background(grey_parser):
    np.testing.assert_array_equal(detection.parse_faces(grey_parser, painted(blocks()), []), np.zeros((150, 200)))


@pytest.fixture(scope="module")
def detector():
    return detection.Detector()


def test_the_face_of_a_portrait(detector, portrait):
    (face,) = detector(portrait)
    # The eyes are at (94, 101) and (136, 103), the corners of the mouth at (91, 139) and (135, 141), by eye.
    assert face.center == pytest.approx((115, 106), abs=3)
    assert face.side == pytest.approx(168, rel=0.05)
    assert face.angle == pytest.approx(0.05, abs=0.05)
    assert 0.9 < face.confidence <= 1
    assert [type(value) for value in (*face.center, face.side, face.angle, face.confidence)] == [float] * 5


@pytest.mark.parametrize("scale", [1, 2])
def test_faces_are_found_the_largest_first(detector, portrait, scale):
    """On a photo of 2400 pixels too, which is searched at 1280."""
    scene = np.full((900 * scale, 1200 * scale, 3), 120, np.uint8)
    for left, top, side in ((100, 300, 120), (700, 400, 360)):
        side *= scale
        scene[top * scale :, left * scale :][:side, :side] = images.resize(portrait, (side, side))
    large, small = detector(scene)
    assert large.center == pytest.approx((scale * (700 + 115 * 1.5), scale * (400 + 106 * 1.5)), abs=6 * scale)
    assert large.side == pytest.approx(scale * 168 * 1.5, rel=0.05)
    assert small.center == pytest.approx((scale * (100 + 115 / 2), scale * (300 + 106 / 2)), abs=3 * scale)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (19, 400), (64, 48), (300, 300)])
def test_where_no_face_is_none_is_found(detector, shape):
    for photo in (np.zeros((*shape, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)):
        assert detector(photo) == []


@pytest.mark.parametrize("surroundings", ["gray", "noise"])
def test_a_small_face_is_parsed_far_better_when_it_is_found_first(detector, portrait, surroundings):
    """A fifth as wide as the photo. Measured: 96 % of the face agree with the portrait alone, against 12 % and 1 %."""
    parser = FaceParser()
    alone = parser(portrait)
    scene = np.full((900, 1200, 3), 120, np.uint8)
    if surroundings == "noise":
        coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
        scene = images.resize(coarse, (900, 1200)).copy()
    scene[400:640, 700:940] = portrait
    found = detection.parse_faces(parser, scene, detector(scene))
    assert not np.delete(np.delete(found, np.s_[400:640], 0), np.s_[700:940], 1).any()
    of_face = np.isin(alone, FACE_PARTS)
    with_detection, without = ((labels[400:640, 700:940] == alone)[of_face].mean() for labels in (found, parser(scene)))
    assert with_detection > 0.93
    assert without < 0.2


def test_missing_packages_are_named(monkeypatch):
    for name in ("tensorflow", "mtcnn"):
        monkeypatch.setitem(sys.modules, name, None)
        with refused(ImageError, name, "pip install '.[detect]'"):
            detection.Detector()
        monkeypatch.undo()
