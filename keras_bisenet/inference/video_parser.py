"""Parses the frames of a video in their order, with what is known from those before."""

import numpy as np

from keras_bisenet.inference import crops, detection
from keras_bisenet.inference.face_parser import FaceParser
from keras_bisenet.inference.smoothing import TemporalSmoother, labels_of
from keras_bisenet.inference.tracking import FaceTracker, TrackedFace
from keras_bisenet.utils import resizing

# What was longer ago than so many frames hardly counts: who begins in the middle of a video lets as many pass before.
MEMORY = 16


class VideoParser:
    """Parses one frame after another.

    Args:
        parser: `FaceParser`; one that was made with `detect` has its faces followed, see `tracking.FaceTracker`.
        detect: whether to find faces first.
        smooth: 0..1 exclusive, see `smoothing.TemporalSmoother`; each face is smoothed by itself.

    Raises:
        ImageError: a number is out of range.
    """

    def __init__(self, parser: FaceParser, detect: bool = False, smooth: float = 0.0) -> None:
        self._parser, self._smooth = parser, smooth
        self._tracker = FaceTracker(parser.find) if detect else None
        self._smoothers: dict[int | None, TemporalSmoother] = {None: TemporalSmoother(smooth)}

    def reset(self) -> None:
        """Forgets the frames before, as at the start of another video."""
        if self._tracker is not None:
            self._tracker.reset()
        self._smoothers = {None: TemporalSmoother(self._smooth)}

    def views(self, frame: np.ndarray) -> list[tuple[TrackedFace | None, np.ndarray]]:
        """What the network sees in the next frame.

        Args:
            frame: `[H, W, 3]` uint8 RGB.

        Returns:
            Pairs of a face and the smoothed probabilities `[128, 128, C]` float32 of its square; without `detect` one
            pair, of None and those of the frame.

        Raises:
            ModelError: see `FaceParser.probabilities`.
        """
        pairs = []
        for face, close_up in self._close_ups(frame):
            smoother = self._smoothers[None if face is None else face.number]
            pairs.append((face, smoother(close_up, self._parser.coarse_probabilities(close_up))))
        return pairs

    def labels(self, frame: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, list[detection.ParsedFace] | None]:
        """Labels the next frame.

        Args:
            frame: `[H, W, 3]` uint8 RGB.
            size: (height, width) of the labels; with `detect` that of the frame.

        Returns:
            `[*size]` class ids, and the faces, or None without `detect`.

        Raises:
            ModelError: see `FaceParser.__call__`, and where it is to be smoothed `FaceParser.probabilities`.
        """
        side = self._parser.image_size or frame.shape[:2]
        if self._smooth:
            seen = [(face, labels_of(probabilities, side)) for face, probabilities in self.views(frame)]
            seen = [(face, labels.astype(self._parser.dtype)) for face, labels in seen]
        else:
            seen = [(face, self._parser.labels_of_close_up(view)) for face, view in self._close_ups(frame)]
        if self._tracker is None:
            ((_, labels),) = seen
            return resizing.resize_labels(labels, size), None
        faces = detection.place_labels([labels for _, labels in seen], size, [face for face, _ in seen])
        return detection.compose(faces, size, self._parser.dtype), faces

    def _close_ups(self, frame):
        if self._tracker is None:
            return [(None, frame)]
        faces = self._tracker(frame)
        new = {face.number: self._smoothers.get(face.number) or TemporalSmoother(self._smooth) for face in faces}
        self._smoothers = new
        return [(face, crops.cut_out(frame, face.square, self._parser.crop_size)) for face in faces]
