"""Faces in the wild: finds each face, and shows it to the network as the network knows faces.

The network was trained on CelebAMask-HQ: one face a photo, upright, in the middle. A detector finds the eyes and the
corners of the mouth; the square around them is cut out as CelebA-HQ was made (Karras et al., "Progressive Growing of
GANs", 2018, appendix C). The labels go back to where they came from.

The detector is MTCNN (Zhang et al., 2016) of the package `mtcnn`, which brings its weights along: the extra [detect].
"""

import dataclasses
import importlib.util
import math

import numpy as np

from keras_bisenet.utils import extras, images
from keras_bisenet.utils.errors import ImageError

# Detections that the detector is less sure of are left out.
CONFIDENCE = 0.9
# Longest side of what the detector sees, in pixels: below some 20 of them it finds no face.
DETECTION_SIDE = 1280


@dataclasses.dataclass(frozen=True)
class Face:
    """A square around a face, which may be turned and may reach beyond the photo.

    Attributes:
        center: (x, y) in pixels of the photo; whole numbers lie between pixels.
        side: in pixels.
        angle: in radians; how far the face is turned clockwise.
        confidence: of the detector, 0..1.
    """

    center: tuple[float, float]
    side: float
    angle: float
    confidence: float = 1.0

    def matrix(self, size):
        """The affine map from a pixel of the crop, `size` pixels wide, to one of the photo: `[2, 3]`."""
        scale = self.side / size
        cos, sin = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        x, y = self.center
        half = size / 2
        return np.array([[cos, -sin, x - half * (cos - sin)], [sin, cos, y - half * (sin + cos)]])


def face_of(left_eye, right_eye, mouth_left, mouth_right, confidence=1.0):
    """The square that CelebA-HQ would cut out.

    Args:
        left_eye, right_eye, mouth_left, mouth_right: (x, y) in the photo; left and right are those of the picture.
        confidence: of the detector.

    Returns:
        `Face`.
    """
    eyes, mouth = (np.array(pair, float) for pair in ((left_eye, right_eye), (mouth_left, mouth_right)))
    between_eyes = eyes[1] - eyes[0]
    down = mouth.mean(0) - eyes.mean(0)
    center = eyes.mean(0) + 0.1 * down
    side = max(4.0 * math.hypot(*between_eyes), 3.6 * math.hypot(*down))
    # The way of the eyes, and that of eyes to mouth turned by 90 degrees, are both a guess at what is level.
    level = between_eyes + np.array([down[1], -down[0]])
    return Face(tuple(center.tolist()), side, math.atan2(level[1], level[0]), confidence)


def check():
    """Raises `ImageError` if what finds faces is not installed."""
    for name in ("mtcnn", "tensorflow"):
        if importlib.util.find_spec(name) is None:
            raise ImageError(f"finding faces needs {name}: {extras.command('detect')}")


class Detector:
    """Finds faces. Not thread-safe.

    Raises:
        ImageError: see `check`.
    """

    def __init__(self):
        check()
        from mtcnn import MTCNN

        self._network = MTCNN(device="CPU:0")

    def __call__(self, photo):
        """The faces of a photo `[H, W, 3]` uint8 RGB, the largest first: a list of `Face`."""
        scale = min(1.0, DETECTION_SIDE / max(photo.shape[:2]))
        small = images.resize(photo, tuple(max(1, round(side * scale)) for side in photo.shape[:2]))
        if min(small.shape[:2]) < 20:  # of its smallest window
            return []
        faces = []
        for found in self._network.detect_faces(small):
            points = {name: np.array(point) / scale for name, point in found["keypoints"].items()}
            points.pop("nose")
            faces.append(face_of(**points, confidence=float(found["confidence"])))
        return sorted((face for face in faces if face.confidence >= CONFIDENCE), key=lambda face: -face.side)


def parse_faces(parser, photo, faces):
    """Labels each face by itself, and puts the labels back into the photo.

    Args:
        parser: `FaceParser`.
        photo: `[H, W, 3]` uint8 RGB.
        faces: list of `Face`. Where two overlap the smaller one counts, but for its background.

    Returns:
        `[H, W]` uint8 class ids; 0, the background, where there is no face.
    """
    result = np.zeros(photo.shape[:2], np.uint8)
    for face in sorted(faces, key=lambda face: -face.side):
        labels = parser(cut_out(photo, face, (parser.image_size or (512, 512))[0]))
        matrix = np.vstack([face.matrix(len(labels)), [0, 0, 1]])
        placed = _warp(labels, np.linalg.inv(matrix)[:2], photo.shape[:2], "NEAREST")
        result = np.where(placed == 0, result, placed)
    return result


def cut_out(photo, face, size):
    """The square around a face, upright, `[size, size, 3]` uint8 RGB. What lies outside of the photo is mirrored."""
    # Warping takes single pixels: a large face is cut out at twice the size and then made smaller, and one that is
    # larger still is made smaller before, which also bounds the memory.
    warped = size if face.side <= size else 2 * size
    scale = min(1.0, warped / face.side)
    photo = images.resize(photo, tuple(max(1, round(side * scale)) for side in photo.shape[:2]))
    matrix = face.matrix(warped) * scale
    corners = matrix @ np.array([[x, y, 1] for x in (0, warped) for y in (0, warped)]).T
    height, width = photo.shape[:2]
    left, top = (max(0, math.ceil(-low)) for low in corners.min(1))
    right, bottom = (max(0, math.ceil(high - side)) for high, side in zip(corners.max(1), (width, height), strict=True))
    padded = np.pad(photo, ((top, bottom), (left, right), (0, 0)), "symmetric")
    crop = _warp(padded, matrix + np.array([[0, 0, left], [0, 0, top]]), (warped, warped), "BILINEAR")
    return images.resize(crop, (size, size))


def _warp(array, matrix, size, resampling):
    """Each pixel of the result, (height, width) of `size`, is that of `array` where `matrix` maps it."""
    from PIL import Image

    # Pillow maps centers: it adds the half pixel itself.
    warped = Image.fromarray(array).transform(
        size[::-1], Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling[resampling]
    )
    return np.asarray(warped)
