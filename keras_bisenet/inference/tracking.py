"""Follows faces from frame to frame of a video, which takes a fraction of the time of finding them anew."""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_bisenet.inference import smoothing
from keras_bisenet.inference.detection import SAME, Face, moved, shared
from keras_bisenet.utils import images

# So many frames after faces were found they are found again: faces that come into view are seen then.
EVERY = 15
# Side of the gray picture in which a face is followed, and how far it reaches beyond the box of the face, as a fraction
# of it.
_SIDE, _AROUND = 64, 0.25
# Least share of the face that has to look the same, and how much it may grow or shrink from frame to frame.
_SEEN, _GROWTH = 0.6, 1.15
# Side of the gray picture by which cuts are told, and the mean change of its pixels 0..255 from which on it is one.
_GLANCE, _CUT = 32, 30.0


@dataclasses.dataclass(frozen=True)
class TrackedFace(Face):
    """A face in a frame.

    Attributes:
        number: that of the face, from 1 on, the same as long as it is followed.
    """

    number: int


class FaceTracker:
    """Finds the faces of a video in every 15th frame, and where one is lost; between those it follows them.

    A face goes where the pixels around it went: its motion is found as that of `smoothing.TemporalSmoother`, and the
    nearest shift, turn and change of size is taken.

    Args:
        find: gives the faces of a photo `[H, W, 3]` uint8 RGB, such as `detection.Detector` or `FaceParser.find`.
    """

    def __init__(self, find: Callable[[np.ndarray], list[Face]]) -> None:
        self._find = find
        self._count = 0
        self.reset()

    def reset(self) -> None:
        """Forgets the frames before, as at the start of another video."""
        self._faces: list[TrackedFace] = []
        self._age = EVERY
        self._before: np.ndarray | None = None
        self._glance: np.ndarray | None = None

    def __call__(self, frame: np.ndarray) -> list[TrackedFace]:
        """The faces of the next frame `[H, W, 3]` uint8 RGB, the largest first."""
        glance = images.resize(frame, (_GLANCE, _GLANCE)).mean(-1)
        is_new = self._before is None or self._before.shape != frame.shape
        is_cut = is_new or np.abs(glance - self._glance).mean() > _CUT
        followed = [] if is_cut else [_follow(self._before, frame, face) for face in self._faces]
        self._age += 1
        if is_cut or self._age >= EVERY or None in followed:
            known = [face for face in followed if face is not None]
            followed = [self._numbered(face, known) for face in self._find(frame)]
            self._age = 0
        self._before, self._glance = frame, glance
        self._faces = sorted(followed, key=lambda face: -face.square.side)
        return self._faces

    def _numbered(self, face, known):
        """A face that was found, as the one that was followed there, or as another."""
        match = next((other for other in known if shared(face.box, other.box) > SAME), None)
        if match is None:
            self._count += 1
        else:
            known.remove(match)
        return TrackedFace(face.box, face.confidence, face.landmarks, self._count if match is None else match.number)


def _follow(before, frame, face):
    """The face where it is in a frame; None if it is not to be found.

    Args:
        before, frame: `[H, W, 3]` uint8 RGB.
        face: `TrackedFace` in `before`.
    """
    low, high = np.array(face.box[:2]), np.array(face.box[2:])
    around = _AROUND * (high - low)
    left, top = np.floor((low - around).clip(0)).astype(int)
    right, bottom = np.ceil(high + around).astype(int)  # what lies beyond the frame is cut off by slicing
    views = [_gray(picture[top:bottom, left:right]) for picture in (before, frame)]
    motion = smoothing.motion(*views)
    same = smoothing.sameness(*views, motion)
    height, width = np.minimum(frame.shape[:2], (bottom, right)) - (top, left)
    scale = np.array([width, height]) / _SIDE
    points = (np.indices(motion.shape[1:])[::-1].reshape(2, -1).T + 0.5) * scale + (left, top)
    was = points + motion[::-1].reshape(2, -1).T * scale
    inside = ((was >= low) & (was <= high)).all(1)
    weights = same.ravel() * inside
    if not inside.any() or weights.sum() < _SEEN * inside.sum():
        return None
    matrix, growth = _similarity(was, points, weights)
    if not 1 / _GROWTH <= growth <= _GROWTH:
        return None
    new = moved(face, matrix)
    center = np.add(new.box[:2], new.box[2:]) / 2
    if not (center >= 0).all() or not (center <= frame.shape[1::-1]).all():
        return None
    box = tuple(np.clip(new.box, 0, (*frame.shape[1::-1], *frame.shape[1::-1])).tolist())
    return TrackedFace(box, face.confidence, new.landmarks, face.number)


def _gray(picture):
    return smoothing.gray(picture, _SIDE)


def _similarity(points, targets, weights):
    """The shift, turn and change of size, `[2, 3]`, that takes points `[N, 2]` nearest to targets; and that change."""
    share = weights[:, np.newaxis] / weights.sum()
    start, end = (share * points).sum(0), (share * targets).sum(0)
    (x, y), (u, v) = (points - start).T, (targets - end).T
    spread = (share[:, 0] * (x * x + y * y)).sum()
    along, across = (share[:, 0] * (x * u + y * v)).sum() / spread, (share[:, 0] * (x * v - y * u)).sum() / spread
    turned = np.array([[along, -across], [across, along]])
    return np.column_stack([turned, end - turned @ start]), float(np.hypot(along, across))
