"""Faces anywhere in a photo: found, cut out as CelebA-HQ was, and their labels put back."""

import math
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from support.refusals import refused

from keras_bisenet import LABELS, FaceParser
from keras_bisenet.classes import FACE
from keras_bisenet.inference import crops, detection
from keras_bisenet.inference.crops import Square
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError


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
    square = crops.square_of(*points)
    corners = square.matrix(64) @ np.array([[0, 0, 1], [0, 64, 1], [64, 64, 1], [64, 0, 1]]).T
    np.testing.assert_allclose(corners.T, quad(*points), atol=1e-6)


@pytest.mark.parametrize(("size", "tolerance"), [(32, 1.5), (75, 1.2), (128, 0), (300, 0.6)])
def test_an_upright_face_is_cropped_and_resized(portrait, size, tolerance):
    """But at the border, where the crop has neighbors that a photo cropped first has not."""
    crop = crops.cut_out(portrait, Square((120, 130), 128, 0), size)
    expected = Image.fromarray(portrait[66:194, 56:184]).resize((size, size), Image.Resampling.BILINEAR)
    inner = np.s_[size // 16 : -size // 16, size // 16 : -size // 16]
    assert crop.shape == (size, size, 3)
    assert np.abs(crop.astype(float) - np.asarray(expected))[inner].mean() <= tolerance


@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_face_is_cut_out_upright(portrait, quarters):
    turned = np.rot90(portrait, -quarters)  # clockwise
    crop = crops.cut_out(turned, Square((120, 120), 240, quarters * math.pi / 2), 240)
    np.testing.assert_allclose(crop.astype(int), portrait, atol=1)


def test_beyond_the_photo_it_is_mirrored(portrait):
    crop = crops.cut_out(portrait, Square((10, 230), 100, 0), 100)
    np.testing.assert_array_equal(crop, np.pad(portrait, ((0, 40), (40, 0), (0, 0)), "symmetric")[180:280, :100])


def gray_in_tens(photo):
    return np.rint(photo[..., 0] / 10).astype(int)


def parse(photo, squares, labels=gray_in_tens):
    """The labels of a photo with faces in these squares, by a network that is a function of photos `[64, 64, 3]`."""
    network = types.SimpleNamespace(image_size=(64, 64), num_classes=19, classes=FACE, labels=labels)
    nowhere = {"box": (0.0, 0.0, 1.0, 1.0), "confidence": 1.0, "landmarks": {}}
    faces = [types.SimpleNamespace(square=square, **nowhere) for square in squares]
    return detection.compose(detection.parse_faces(FaceParser(network), 64, photo, faces), photo.shape[:2])


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
    least, most = (one(labels, 2 * reach + 1) for one in (ndimage.minimum_filter, ndimage.maximum_filter))
    return least == most


@pytest.mark.parametrize("centers", [[], [(60, 50)], [(40, 75), (140, 75)]], ids=["no face", "one", "two side by side"])
def test_labels_of_crops_come_back_to_their_pixels(centers):
    labels = blocks()
    result = parse(painted(labels), [Square(center, 64, 0) for center in centers])
    assert result.dtype == np.uint8
    expected = np.zeros_like(labels)
    for x, y in centers:
        here = np.s_[y - 32 : y + 32, x - 32 : x + 32]
        expected[here] = labels[here]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "face",
    [
        Square((60, 50), 128, 0),
        Square((100.5, 75.25), 96.5, 0.3),
        Square((100, 75), 40, -2.0),
        Square((100, 75), 64, math.pi / 2),
        Square((5, 145), 80, 0.7),
        Square((195, 10), 300, -0.2),
        Square((100, 75), 900, 1.0),
    ],
    ids=["large", "turned", "small", "lying", "in a corner", "larger than the photo", "far beyond it"],
)
def test_labels_come_back_wherever_the_face_is(face):
    labels = blocks(side=25 if face.side < 600 else 75)
    result = parse(painted(labels), [face])
    pixel = max(1.0, face.side / 64)
    clear = flat(labels, math.ceil(1.5 * pixel))
    within = inside(labels, face, pixel)
    assert (within & clear).sum() > 100
    np.testing.assert_array_equal(result[within & clear], labels[within & clear])
    assert not result[~inside(labels, face, -pixel)].any()


def rings(photo):
    """Hair in the middle of a dark crop, and skin all over a light one."""
    labels = np.full(photo.shape[:2], 1)
    if photo.mean() < 50:
        labels[:], labels[16:48, 16:48] = 0, 17
    return labels


def test_of_two_faces_the_smaller_one_counts_but_for_its_background():
    photo = np.full((150, 200, 3), 200, np.uint8)
    photo[60:92, 80:112] = 0
    faces = [Square((74, 74), 128, 0), Square((96, 76), 32, 0)]
    expected = np.zeros((150, 200))
    expected[10:138, 10:138] = 1
    expected[68:84, 88:104] = 17
    for order in (faces, faces[::-1]):
        np.testing.assert_array_equal(parse(photo, order, rings), expected)


@pytest.fixture(scope="module")
def detector():
    return detection.Detector()


@pytest.fixture(scope="module")
def finding_parser():
    return FaceParser(detect=True)


def test_the_face_of_a_portrait(detector, portrait):
    (face,) = detector(portrait)
    # By eye.
    truth = {"left_eye": (94, 101), "right_eye": (136, 103), "mouth_left": (91, 139), "mouth_right": (135, 141)}
    for name, point in truth.items():
        assert math.dist(face.landmarks[name], point) < 5
    assert tuple(face.landmarks) == detection.LANDMARKS
    assert face.square.center == pytest.approx((115, 106), abs=3)
    assert face.square.side == pytest.approx(168, rel=0.05)
    assert face.square.angle == pytest.approx(0.05, abs=0.05)
    assert 0.9 < face.confidence <= 1
    left, top, right, bottom = face.box
    assert (left, top, right, bottom) == pytest.approx((69, 51, 159, 170), abs=15)
    numbers = (*face.box, face.confidence, *np.ravel([*face.landmarks.values()]).tolist())
    assert {type(number) for number in numbers} == {float}


@pytest.mark.parametrize("scale", [1, 2])
def test_faces_are_found_the_largest_first(detector, portrait, scale):
    """In pieces of the photo."""
    scene = np.full((900 * scale, 1200 * scale, 3), 120, np.uint8)
    for left, top, side in ((100, 300, 120), (700, 400, 360)):
        side *= scale
        scene[top * scale :, left * scale :][:side, :side] = images.resize(portrait, (side, side))
    large, small = (face.square for face in detector(scene))
    assert large.center == pytest.approx((scale * (700 + 115 * 1.5), scale * (400 + 106 * 1.5)), abs=6 * scale)
    assert large.side == pytest.approx(scale * 168 * 1.5, rel=0.05)
    assert small.center == pytest.approx((scale * (100 + 115 / 2), scale * (300 + 106 / 2)), abs=3 * scale)


@pytest.mark.parametrize("size", [240, 500, 1100, 2300])
def test_a_face_is_found_at_any_size_and_wherever_pieces_meet(detector, portrait, size):
    """The network of the detector, asked at one size, gives some of these sharp large faces low scores."""
    photo = np.asarray(Image.fromarray(portrait).resize((size, size), Image.Resampling.LANCZOS))
    (face,) = detector(photo)
    assert np.array(face.square.center) / size * 240 == pytest.approx((115, 106), abs=4)


@pytest.mark.parametrize("turn", [-30, -15, 15, 30])
def test_turned_faces(detector, portrait, turn):
    (face,) = detector(np.asarray(Image.fromarray(portrait).rotate(-turn, Image.Resampling.BICUBIC)))
    assert face.square.angle == pytest.approx(math.radians(turn) + 0.05, abs=0.1)


def test_faces_beside_each_other_and_half_outside(detector, portrait):
    row = np.concatenate([portrait, portrait[:, ::-1], portrait], axis=1)
    assert sorted(round(face.square.center[0] / 240) for face in detector(row)) == [0, 2, 3] or len(detector(row)) == 3
    (face,) = detector(portrait[:, :130])
    assert face.box[2] <= 130
    assert min(face.box) >= 0


def test_how_small_a_face_may_be(portrait):
    scene = np.full((300, 400, 3), 120, np.uint8)
    scene[30:110, 30:110] = images.resize(portrait, (80, 80))  # a face of 30 x 40 pixels
    scene[130:290, 130:290] = images.resize(portrait, (160, 160))  # of 60 x 80, the box found: 57 x 69
    assert [len(detection.Detector(min_face)(scene)) for min_face in (20, 60, 65, 150)] == [2, 1, 0, 0]


@pytest.mark.parametrize(("size", "confidence"), [(400, 0.9), (100, 0.9), (50, 0.975), (25, 0.99375)])
def test_small_faces_need_more_confidence(size, confidence):
    assert detection.required_confidence(size, 0.9) == pytest.approx(confidence)


def test_how_sure_the_detector_has_to_be(detector, portrait):
    (face,) = detector(portrait)
    above, below = min(1.0, face.confidence + 0.0005), face.confidence - 0.0005
    assert detection.Detector(min_confidence=above)(portrait) == []
    assert detection.Detector(min_confidence=below)(portrait) == [face]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"min_face": 9}, "min_face is 9"),
        ({"min_face": float("nan")}, "min_face is nan"),
        ({"min_confidence": 1.5}, "min_confidence is 1.5"),
        ({"min_confidence": -0.1}, "min_confidence is -0.1"),
    ],
)
def test_numbers_out_of_range(options, named):
    with refused(ImageError, named):
        detection.Detector(**options)
    with refused(ImageError, named):
        FaceParser(detect=True, **options)


@pytest.mark.parametrize("options", [{"min_face": 50}, {"min_confidence": 0.5}])
def test_numbers_that_count_for_nothing(options):
    with refused(ImageError, *options):
        FaceParser(**options)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (19, 400), (64, 48), (300, 300)])
def test_where_no_face_is_none_is_found(detector, shape):
    for photo in (np.zeros((*shape, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)):
        assert detector(photo) == []


@pytest.mark.parametrize("surroundings", ["gray", "noise"])
def test_a_small_face_is_parsed_far_better_when_it_is_found_first(parser, finding_parser, portrait, surroundings):
    """A fifth as wide as the photo. Measured: 96 % of the face agree with the portrait alone, against 12 % and 1 %."""
    alone = parser(portrait)
    scene = np.full((900, 1200, 3), 120, np.uint8)
    if surroundings == "noise":
        coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
        scene = images.resize(coarse, (900, 1200)).copy()
    scene[400:640, 700:940] = portrait
    found = finding_parser(scene)
    assert not np.delete(np.delete(found, np.s_[400:640], 0), np.s_[700:940], 1).any()
    parts = ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "u_lip", "l_lip")
    of_face = np.isin(alone, [LABELS.index(part) for part in parts])
    with_detection, without = ((labels[400:640, 700:940] == alone)[of_face].mean() for labels in (found, parser(scene)))
    assert with_detection > 0.93
    assert without < 0.2


@pytest.fixture(scope="module")
def scene(portrait):
    """Two faces, one turned."""
    scene = np.full((300, 700, 3), 120, np.uint8)
    scene[40:280, 20:260] = np.asarray(Image.fromarray(portrait).rotate(20, Image.Resampling.BICUBIC))
    scene[100:220, 400:520] = images.resize(portrait, (120, 120))
    return scene


def test_each_face_of_a_parser(parser, finding_parser, detector, scene):
    """As the detector and a parser without one give it."""
    faces = finding_parser.faces(scene)
    found, expected = (
        [(face.box, face.confidence, face.landmarks) for face in each] for each in (faces, detector(scene))
    )
    assert found == expected
    labels = finding_parser(scene)
    assert (labels.dtype, labels.shape) == (np.uint8, (300, 700))
    alone = [face.labels for face in faces]
    np.testing.assert_array_equal(np.sum(alone, axis=0), labels)
    assert not (alone[0].astype(bool) & alone[1].astype(bool)).any()
    for face, other in zip(faces, alone, strict=True):
        crop = parser(crops.cut_out(scene, face.square, 512))
        for name, label in (("left_eye", "r_eye"), ("right_eye", "l_eye"), ("nose", "nose")):
            x, y = face.landmarks[name]
            rows, columns = np.nonzero(other == LABELS.index(label))
            assert math.dist((columns.mean(), rows.mean()), (x, y)) < 0.1 * face.square.side
            # The nearest pixel moves a border by up to a half, a quarter on average.
            border = 2 * math.sqrt(math.pi * rows.size)
            expected = (crop == LABELS.index(label)).mean() * face.square.side**2
            assert rows.size == pytest.approx(expected, rel=0.05, abs=border / 4)


def test_all_kinds_of_photos_have_faces(finding_parser, scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / "scene.png")
    expected = [face.box for face in finding_parser.faces(scene)]
    for kind in (tmp_path / "scene.png", Image.fromarray(scene)):
        assert [face.box for face in finding_parser.faces(kind)] == expected
    batch = finding_parser([scene, scene[:, :300]])
    np.testing.assert_array_equal(batch[0], finding_parser(scene))
    assert batch[1].shape == (300, 300)


def test_probabilities_of_faces_are_put_back_too(finding_parser, scene):
    labels, probabilities = finding_parser(scene), finding_parser.probabilities(scene)
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (300, 700, 19))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-4)
    assert probabilities.min() >= 0
    assert (probabilities.argmax(-1) == labels).mean() > 0.98
    assert (probabilities[:, 600:, 0] == 1).all()


def test_where_no_face_is_all_is_background(finding_parser):
    photo = np.full((60, 90, 3), 99, np.uint8)
    assert finding_parser.faces(photo) == []
    assert not finding_parser(photo).any()
    np.testing.assert_array_equal(finding_parser.probabilities(photo)[..., 0], 1)


def test_what_a_parser_with_or_without_faces_refuses(parser, finding_parser, portrait):
    with refused(ImageError, "detect=True"):
        parser.faces(portrait)
    with refused(ImageError, "detect"):
        finding_parser.logits(portrait)
    assert "faces" not in repr(parser)
    assert "faces" in repr(finding_parser)


def test_missing_packages_are_named(monkeypatch):
    for name in ("tensorflow", "mtcnn"):
        monkeypatch.setitem(sys.modules, name, None)
        with refused(ImageError, name, "pip install '.[detect]'"):
            FaceParser(detect=True)
        monkeypatch.undo()
