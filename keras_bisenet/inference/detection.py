"""Faces in the wild: finds each face, and shows it to the network as the network knows faces, see `crops`.

The detector is MTCNN (Zhang et al., 2016) of the package `mtcnn`, which brings its weights along: the extra [detect].
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_bisenet.inference import crops
from keras_bisenet.inference.crops import Square
from keras_bisenet.utils import extras, images
from keras_bisenet.utils.errors import ImageError

# The least size of a face, pixels of the photo, and the least confidence: what `Detector` has by default.
MIN_FACE = 24
MIN_CONFIDENCE = 0.9
# The smallest face that the detector knows, pixels; its own default.
_WINDOW = 20
# Photos are searched in pieces of at most so many pixels a side, which bounds the memory. They overlap by the size of
# the largest face that is taken from a piece; larger ones are found in the photo at half its size.
_TILE = 768
_OVERLAP = 96
# A photo of more pixels is searched at so many.
_MOST_PIXELS = 24e6
# What the detector is less sure of than this and than `min_confidence` is no face in a close-up either.
_DOUBT = 0.5
# Two boxes that share more than this of the smaller one are one face.
SAME = 0.5
# Faces of fewer pixels need more confidence: the smaller they are, the more places of a photo could hold one.
_SMALL = 100
# Sides of the crops in one of which a face has to be found again, pixels: the face is about 0.4 of them wide.
_CLOSE_UPS = (96, 224)

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a photo.

    Attributes:
        box: (left, top, right, bottom) around brows, chin and cheeks, pixels of the photo; within the photo.
        confidence: of the detector, 0..1.
        landmarks: name in `LANDMARKS` -> (x, y), pixels of the photo; left and right are those of the picture.
    """

    box: tuple[float, float, float, float]
    confidence: float
    landmarks: dict[str, tuple[float, float]]

    @property
    def size(self) -> float:
        """The root of the area of the box, pixels."""
        return size_of(self.box)

    @property
    def square(self) -> Square:
        """What is cut out for the network."""
        return crops.square_of(**{name: point for name, point in self.landmarks.items() if name != "nose"})


@dataclasses.dataclass(frozen=True)
class ParsedFace(Face):
    """A face and what its pixels show.

    Attributes:
        part: `[h, w]` class ids of the part of the photo that the face was cut out of; 0, the background, also where
            another face lies before it.
        place: rows and columns of `part` in the photo.
        photo_size: (height, width) of the photo.
    """

    part: np.ndarray
    place: tuple[slice, slice]
    photo_size: tuple[int, int]

    @property
    def labels(self) -> np.ndarray:
        """`[H, W]` class ids at the size of the photo; 0, the background, wherever this face is not."""
        return compose([self], self.photo_size, self.part.dtype)


def check() -> None:
    """Raises `ImageError` if what finds faces is not installed."""
    for name in ("mtcnn", "tensorflow"):
        if importlib.util.find_spec(name) is None:
            raise ImageError(f"finding faces needs {name}: {extras.command('detect')}")


class Detector:
    """Finds faces. Not thread-safe.

    MTCNN resizes what it has found without a filter, so a large face that is sharp gets a low score. Here the photo is
    made smaller by halves, antialiased, and each face counts where its score is highest. What is found is cut out
    upright and has to be found again in this crop: a window in a wall seldom is. This second look is also what places
    the landmarks. The confidence is the lower one of the two.

    Args:
        min_face: least size of a face, see `Face`, pixels of the photo, at least 10. Half of it takes four times as
            long. Photos of more than 24 million pixels are searched at so many.
        min_confidence: 0..1; faces of less than `required_confidence` are left out.

    Raises:
        ImageError: a number is out of range; or see `check`.
    """

    def __init__(self, min_face: float = MIN_FACE, min_confidence: float = MIN_CONFIDENCE) -> None:
        check_options(min_face, min_confidence)
        check()
        from mtcnn import MTCNN

        self._network = MTCNN(device="CPU:0")
        self._scale, self._min_face, self._min_confidence = _WINDOW / min_face, min_face, min_confidence

    def __call__(self, photo: np.ndarray) -> list[Face]:
        """The faces of a photo `[H, W, 3]` uint8 RGB, the largest first."""
        candidates: list[Face] = []
        for face in sorted(self._search(photo), key=lambda face: -face.confidence):
            if not any(shared(face.box, other.box) > SAME for other in candidates):
                candidates.append(face)
        seen_again = (face for candidate in candidates for face in self._look_again(photo, candidate))
        faces = [face for face in seen_again if face.confidence >= required_confidence(face.size, self._min_confidence)]
        return sorted(faces, key=lambda face: -face.square.side)

    def _search(self, photo: np.ndarray) -> Iterator[Face]:
        """What may be faces, several times each."""
        height, width = photo.shape[:2]
        scale = min(self._scale, (_MOST_PIXELS / (height * width)) ** 0.5)
        while min(height, width) * scale >= _WINDOW:
            small = images.resize(photo, (round(height * scale), round(width * scale)))
            is_whole = max(small.shape[:2]) <= _TILE
            for left, top in _corners(small.shape[:2]):
                for face in self._detect(small[top : top + _TILE, left : left + _TILE]):
                    if is_whole or max(face.box[2] - face.box[0], face.box[3] - face.box[1]) <= _OVERLAP:
                        face = moved(face, np.array([[1, 0, left], [0, 1, top]]) / scale)
                        if face.confidence >= self._min_confidence and face.size >= self._min_face:
                            yield face
            scale /= 2

    def _look_again(self, photo, candidate):
        """The face in close-ups of it, upright; none if there is none in the middle of one."""
        square, seen = candidate.square, []
        for size in _CLOSE_UPS:
            close_up = self._detect(crops.cut_out(photo, square, size))
            middle = [face for face in close_up if max(face.box[:2]) < size / 2 < min(face.box[2:])]
            if middle:
                seen.append(moved(max(middle, key=lambda face: face.confidence), square.matrix(size)))
        if seen:
            height, width = photo.shape[:2]
            left, top, right, bottom = candidate.box
            box = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
            confidence = min(candidate.confidence, max(face.confidence for face in seen))
            yield Face(box, confidence, seen[-1].landmarks)  # of the larger close-up

    def _detect(self, image):
        doubt = min(_DOUBT, self._min_confidence)
        for face in self._network.detect_faces(image, box_format="xyxy", threshold_onet=doubt):
            points = {name: tuple(map(float, face["keypoints"][name])) for name in LANDMARKS}
            yield Face(tuple(map(float, face["box"])), float(face["confidence"]), points)


def check_options(min_face: float, min_confidence: float, detect: bool = True) -> None:
    """Raises `ImageError` if a number is out of range, see `Detector`, or is given where no faces are to be found."""
    for name, found, default in (
        ("min_face", min_face, MIN_FACE),
        ("min_confidence", min_confidence, MIN_CONFIDENCE),
    ):
        if not detect and found != default:
            raise ImageError(
                f"{name} is {found}, which counts only where faces are found first; add detect, or leave it out"
            )
    if not min_face >= 10:
        raise ImageError(f"min_face is {min_face}; expected at least 10 pixels")
    if not 0 <= min_confidence <= 1:
        raise ImageError(f"min_confidence is {min_confidence}; expected a number from 0 to 1")


def required_confidence(size: float, min_confidence: float) -> float:
    """The least confidence of a face of so many pixels: `min_confidence` from 100 on.

    A face may be in about `1 / size ** 2` places of a photo. So that false ones of every size are equally rare, what
    the confidence may lack to 1 shrinks with the square of the size.
    """
    return 1 - (1 - min_confidence) * min(1, size / _SMALL) ** 2


def _corners(size):
    """(left, top) of the pieces that a picture is searched in."""
    height, width = size
    step = _TILE - _OVERLAP
    for top in range(0, max(height - _OVERLAP, 1), step):
        for left in range(0, max(width - _OVERLAP, 1), step):
            yield left, top


def moved(face, matrix):
    """The face where an affine map `[2, 3]` moves it."""
    points = np.array([face.box[:2], face.box[2:], *face.landmarks.values()])
    low, high, *landmarks = map(tuple, (points @ matrix[:, :2].T + matrix[:, 2]).tolist())
    return Face(low + high, face.confidence, dict(zip(face.landmarks, landmarks, strict=True)))


def size_of(box: Sequence[float]) -> float:
    """The size of a face: the root of the area of its box (left, top, right, bottom)."""
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def shared(box, other):
    """The area that two boxes share, by that of the smaller one."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    areas = [np.prod(np.subtract(one[2:], one[:2])) for one in (box, other)]
    return np.prod((high - low).clip(0)) / max(min(areas), 1e-9)


def parse_faces(
    label: Callable[[np.ndarray], np.ndarray], crop_size: int, photo: np.ndarray, faces: Sequence[Face]
) -> list[ParsedFace]:
    """Labels each face by itself.

    Args:
        label: gives the labels `[crop_size, crop_size]` of a photo `[crop_size, crop_size, 3]` uint8 RGB of one face,
            upright and in the middle.
        crop_size: side of what the faces are cut out to, pixels.
        photo: `[H, W, 3]` uint8 RGB.
        faces: see `place_labels`.

    Returns:
        See `place_labels`.
    """
    labels = [label(crops.cut_out(photo, face.square, crop_size)) for face in faces]
    return place_labels(labels, photo.shape[:2], faces)


def place_labels(labels: Sequence[np.ndarray], size: tuple[int, int], faces: Sequence[Face]) -> list[ParsedFace]:
    """Puts the labels of faces where these are.

    Args:
        labels: of each face, what its square shows: `[crop_size, crop_size]` class ids.
        size: (height, width) of the photo.
        faces: where two overlap, the smaller one counts, but for its background.

    Returns:
        The same faces in the same order. A pixel belongs to one of them at most.
    """
    placed = [crops.put_back(part, face.square, size) for part, face in zip(labels, faces, strict=True)]
    owner = np.full(size, -1, np.int32)
    for number in sorted(range(len(faces)), key=lambda number: -faces[number].square.side):
        part, place = placed[number]
        owner[place][part > 0] = number
    return [
        ParsedFace(face.box, face.confidence, face.landmarks, np.where(owner[place] == number, part, 0), place, size)
        for number, (face, (part, place)) in enumerate(zip(faces, placed, strict=True))
    ]


def compose(faces: Sequence[ParsedFace], size: tuple[int, int], dtype: Any = np.uint8) -> np.ndarray:
    """The labels of a photo.

    Args:
        faces: of `parse_faces`.
        size: (height, width) of the photo.
        dtype: of the labels.

    Returns:
        `[H, W]` class ids; 0, the background, where there is no face.
    """
    result = np.zeros(size, dtype)
    for face in faces:
        result[face.place] += face.part  # of each pixel, one of them at most is not 0
    return result


def place_probabilities(
    predict: Callable[[np.ndarray], np.ndarray],
    crop_size: int,
    num_classes: int,
    photo: np.ndarray,
    faces: Sequence[Face],
) -> np.ndarray:
    """The probabilities of a photo, each face by itself.

    Args:
        predict: gives the probabilities `[crop_size, crop_size, C]` float32 of a photo, see `parse_faces`.
        num_classes: C.
        crop_size, photo, faces: see `parse_faces`.

    Returns:
        `[H, W, C]` float32; all is background where there is no face.
    """
    size = photo.shape[:2]
    result = np.zeros((*size, num_classes), np.float32)
    result[..., 0] = 1
    for face in sorted(faces, key=lambda face: -face.square.side):
        scores = predict(crops.cut_out(photo, face.square, crop_size))
        placed = [crops.put_back(channel, face.square, size, "BILINEAR") for channel in np.moveaxis(scores, -1, 0)]
        part, before = np.stack([channel for channel, _ in placed], -1), result[placed[0][1]]
        part[..., 0] += (1 - part.sum(-1)).clip(0)  # at the border of the square and beyond it
        # As with labels; and the soft edge of a face before the background.
        is_edge = (before.argmax(-1) == 0) & (part[..., 0] < before[..., 0])
        wins = (part.argmax(-1) > 0) | is_edge
        before[wins] = part[wins]
    return result
