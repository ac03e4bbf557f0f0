"""Faces are followed from frame to frame, and found anew where they are lost."""

import numpy as np
import pytest
from PIL import Image
from support.refusals import refused

from keras_bisenet import FaceParser
from keras_bisenet.inference import tracking
from keras_bisenet.inference.detection import LANDMARKS, Face
from keras_bisenet.inference.video_parser import VideoParser
from keras_bisenet.utils.errors import ImageError

# The face of the bundled photo, which is 240 pixels wide: the box, and the points of `LANDMARKS`.
BOX = np.array([[75.0, 60.0], [165.0, 180.0]])
POINTS = np.array([[100.0, 108.0], [140.0, 108.0], [120.0, 130.0], [104.0, 150.0], [136.0, 150.0]])


class Scene:
    """A portrait that is moved over a gray frame, and what finds its face there."""

    def __init__(self, portrait):
        self.asked, self.is_there, self.corner = 0, True, (0, 0)
        self._portrait = Image.fromarray(portrait)

    def frame(self, x, y, scale=1.0):
        frame = Image.new("RGB", (640, 480), (90, 90, 90))
        side = round(240 * scale)
        frame.paste(self._portrait.resize((side, side)), (x, y))
        self.corner, self.scale = (x, y), scale
        return np.asarray(frame)

    def face(self):
        low, high = (BOX * self.scale + self.corner).tolist()
        points = (POINTS * self.scale + self.corner).tolist()
        return Face((*low, *high), 0.99, dict(zip(LANDMARKS, map(tuple, points), strict=True)))

    def find(self, _):
        self.asked += 1
        return [self.face()] if self.is_there else []


@pytest.fixture
def scene(portrait):
    return Scene(portrait)


def test_a_face_is_followed(scene):
    tracker = tracking.FaceTracker(scene.find)
    for number in range(tracking.EVERY):
        (face,) = tracker(scene.frame(100 + 6 * number, 80 + 3 * number, 1 + 0.01 * number))
        expected = scene.face()
        np.testing.assert_allclose(face.box, expected.box, atol=6)
        np.testing.assert_allclose([*face.landmarks.values()], [*expected.landmarks.values()], atol=6)
        assert (face.number, face.confidence) == (1, 0.99)
    assert scene.asked == 1
    # Found again, it is still the same one.
    assert [face.number for face in tracker(scene.frame(200, 130, 1.15))] == [1]
    assert scene.asked == 2


@pytest.mark.parametrize("change", ["gone", "elsewhere", "cut", "size", "reset"])
def test_a_face_that_is_lost_is_looked_for_at_once(scene, change):
    tracker = tracking.FaceTracker(scene.find)
    tracker(scene.frame(100, 80))
    if change == "gone":
        frame, scene.is_there = np.full((480, 640, 3), 90, np.uint8), False
    elif change == "elsewhere":
        frame = scene.frame(350, 200)
    else:
        frame = scene.frame(100, 80)
        frame = {"cut": 255 - frame // 2, "size": frame[:400], "reset": frame}[change]
    if change == "reset":
        tracker.reset()
    assert len(tracker(np.ascontiguousarray(frame))) == scene.is_there
    assert scene.asked == 2


def test_a_face_that_comes_into_view_is_found_in_time(scene):
    tracker = tracking.FaceTracker(scene.find)
    scene.is_there = False
    assert tracker(scene.frame(100, 80)) == []
    scene.is_there = True
    numbers = [[face.number for face in tracker(scene.frame(100, 80))] for _ in range(tracking.EVERY)]
    assert numbers == [[]] * (tracking.EVERY - 1) + [[1]]


class Parser(FaceParser):
    """A parser of a network without weights: gray in tens is the label; and faces of the scene."""

    def __init__(self, scene):
        self.find = scene.find
        super().__init__(Gray())


class Gray:
    image_size, num_classes, classes = (64, 64), 19, None

    def labels(self, image):
        return np.full(image.shape[:2], 17)

    def coarse_probabilities(self, _, size):
        return np.full((*size, 19), 0.01, np.float32) + 0.81 * (np.arange(19) == 17).astype(np.float32)


@pytest.mark.parametrize("smooth", [0.0, 0.8])
def test_each_face_of_a_frame_is_parsed_where_it_is(scene, smooth):
    parser = VideoParser(Parser(scene), True, smooth)
    for x in (100, 104):
        labels, (face,) = parser.labels(scene.frame(x, 80), (480, 640))
        column, row = (int(middle) for middle in scene.face().square.center)
        assert (labels[row - 60 : row + 60, column - 60 : column + 60] == 17).all()
        assert labels[:20].max() == 0
        assert face.labels.shape == (480, 640)
    assert scene.asked == 1


def test_a_smoothness_out_of_range(scene):
    with refused(ImageError, "smooth", 1.5):
        VideoParser(Parser(scene), smooth=1.5)
