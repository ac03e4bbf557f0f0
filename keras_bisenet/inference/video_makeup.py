"""Makes up the frames of a video, or paints their labels over them."""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np

from keras_bisenet.inference import crops, makeup, smoothing, soft_masks
from keras_bisenet.inference.opencv import cv2
from keras_bisenet.utils import images, painting
from keras_bisenet.utils.errors import MakeupError

# Longest side of what is made up, pixels: a larger frame takes the changes of a smaller one, which bounds the memory.
LONGEST_SIDE = 2560


class FrameMakeup:
    """Makes up one frame after another. A part that is not to be seen in a frame is left out of it.

    Args:
        parser: `video_parser.VideoParser`.
        class_names: of its network, in the order of their ids.
        look: `makeup.Look`.

    Attributes:
        parts: that it makes up.
        seen: those that were in one of the frames so far.
        is_used: whether there were any frames.

    Raises:
        MakeupError: the look is none.
    """

    def __init__(self, parser, class_names, look):
        look.check()
        self._parser, self._class_names, self._look = parser, class_names, look
        self.parts = (*look.colors(), *(["skin"] if look.smooth else []))
        self.seen, self.is_used = set(), False

    def __call__(self, frame):
        """The next frame `[H, W, 3]` uint8 RGB, made up.

        Raises:
            MakeupError: the network lacks a class.
        """
        self.is_used = True
        scale = min(1, LONGEST_SIDE / max(frame.shape))
        small = images.resize(frame, tuple(max(1, round(side * scale)) for side in frame.shape[:2]))
        made_up = self._make_up(small)
        if scale == 1 or made_up is small:
            return frame if made_up is small else made_up
        change = cv2.resize(made_up.astype(np.int16) - small, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return cv2.add(frame.astype(np.int16), change, dst=change).clip(0, 255).astype(np.uint8)

    def _make_up(self, frame):
        faces = [self._place(frame, *view) for view in self._parser.views(frame)]
        seen = {part for part in self.parts if any((masks[part] >= 0.5).any() for _, masks in faces)}
        result = self._apply(frame, faces, seen)
        if result is None:  # no iris can be told from the rest
            seen.discard("eyes")
            result = self._apply(frame, faces, seen)
        self.seen |= seen
        return result

    def _place(self, frame, face, probabilities):
        """Rows and columns of a frame, and the masks in them."""
        size = frame.shape[:2]
        if face is None:
            return np.s_[:, :], soft_masks.part_masks(probabilities, size, self._class_names)
        masks = soft_masks.part_masks(probabilities, None, self._class_names)
        placed = {part: crops.put_back(mask, face.square, size, "BILINEAR") for part, mask in masks.items()}
        return placed["face"][1], {part: mask for part, (mask, _) in placed.items()}

    def _apply(self, frame, faces, seen):
        """The frame with those parts made up; None if eyes are among them and cannot be."""
        if not seen:
            return frame
        left_out = {part: None for part in self._look.colors() if part not in seen}
        look = dataclasses.replace(self._look, **left_out, smooth=self._look.smooth if "skin" in seen else 0.0)
        try:
            return makeup.apply_to_faces(frame, faces, look)[0]
        except MakeupError:
            if "eyes" not in seen:
                raise
            return None


class FrameOverlay:
    """Paints the labels of one frame after another over it.

    Args:
        parser: `video_parser.VideoParser`.
        palette: uint8 RGB of each class.
    """

    def __init__(self, parser, palette):
        self._parser, self._palette = parser, palette

    def __call__(self, frame):
        """The next frame `[H, W, 3]` uint8 RGB, painted."""
        labels, _ = self._parser.labels(frame, frame.shape[:2])
        return painting.overlay(frame, labels, palette=self._palette)


def write(source, output, model="default", look=None, steady=0.0, of_faces=None, with_audio=True):
    """Makes up a video, or paints its labels over it; shows how many frames a second that takes, and the time left.

    Args:
        source, output: paths, see `video_writer.write`.
        model: see `FaceParser`; a path or a name.
        look: `makeup.Look`; None to paint the labels.
        steady: 0..1 exclusive, how much of the flicker goes, see `smoothing.TemporalSmoother`.
        of_faces: dict of the `min_face` and `min_confidence` of the faces that are found first, see `FaceParser`; None
            to find none.
        with_audio: whether the sound is copied.

    Returns:
        List of the parts of the look that none of the frames has that this run made up; and what is wrong with the
        video, or None.

    Raises:
        ImageError, MakeupError, ModelError, OutputError: the video, the look, the model or the output cannot be used.
    """
    from tqdm import tqdm

    from keras_bisenet.inference import video_parser, video_writer
    from keras_bisenet.inference.face_parser import FaceParser, locate

    smoothing.check(steady, "steady")
    video_writer.check(source, output, with_audio)
    detect = of_faces is not None
    parser = FaceParser(model, detect=detect, **(of_faces or {}))
    in_order = video_parser.VideoParser(parser, detect, steady)
    if look is None:
        convert = FrameOverlay(in_order, parser.palette)
    else:
        convert = FrameMakeup(in_order, parser.class_names, look)
    digest = hashlib.sha256(pathlib.Path(locate(model)).read_bytes()).hexdigest()
    made_from = {"model": digest, "look": look and dataclasses.asdict(look), "steady": steady, "faces": of_faces}
    made_from = json.loads(json.dumps(made_from))  # tuples become lists
    total = video_writer.count(source)
    with tqdm(None, "frames", total, unit="frame", smoothing=0.05, disable=None) as progress:
        problem = video_writer.write(
            source, output, convert, made_from, in_order.reset, video_parser.MEMORY, with_audio, progress.update
        )
    absent = [] if look is None or not convert.is_used else [part for part in convert.parts if part not in convert.seen]
    return absent, problem
