"""Makes up a photo, from file to file."""

import math
import pathlib

import numpy as np
from PIL import Image

from keras_bisenet.inference import detection, makeup, soft_masks
from keras_bisenet.inference.face_parser import FaceParser
from keras_bisenet.utils import atomic, images
from keras_bisenet.utils.errors import MakeupError

# What Pillow is told for each kind of picture: at these settings the loss is invisible.
_FORMATS = {
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "quality": 95},
}
# Longest side of a picture, in pixels, of those kinds that have a limit.
_LIMITS = {"JPEG": 65500, "WEBP": 16383}
# The network gets a larger photo in this size: it sees no more in it, and probabilities are 76 bytes a pixel.
_LONGEST_SIDE = 1024


def write(source, output, look, model="default", of_faces=None, labels=None, before_after=False):
    """Makes up a photo.

    Args:
        source: path of the photo.
        output: path of the picture to write: .jpeg, .jpg, .png or .webp.
        look: `makeup.Look`.
        model: see `FaceParser`; a path or a name.
        of_faces: dict of the `min_face` and `min_confidence` of the faces that are found first, see `FaceParser`; None
            to find none.
        labels: path of a label map, for messages, and its `[H, W]` uint8 class ids; None to have the network find them.
        before_after: whether the photo as it was comes to stand on the left of the result.

    Returns:
        Why eyes were left as they are, see `makeup.apply_to_faces`.

    Raises:
        ImageError, MakeupError, ModelError, OutputError: the photo, the look, the model, the labels or the output
            cannot be used; or there is no face to be found.
    """
    output = pathlib.Path(output)
    saving = _FORMATS.get(output.suffix.lower())
    if saving is None:
        raise MakeupError(f"{output}: unknown kind of picture; expected a name ending in {', '.join(_FORMATS)}")
    look.check()
    photo = images.read(source)
    height, width = photo.shape[0], photo.shape[1] * (2 if before_after else 1)
    if max(height, width) > _LIMITS.get(saving["format"], math.inf):
        limit = f"{saving['format']} holds at most {_LIMITS[saving['format']]} pixels a side"
        raise MakeupError(f"{output}: would be {height}x{width}, but {limit}; write a .png")
    if labels is None:
        faces = _find_faces(source, photo, FaceParser(model), of_faces)
    else:
        faces = [(np.s_[:, :], soft_masks.part_masks(_checked(*labels, photo)))]
    result, left = makeup.apply_to_faces(photo, faces, look)
    picture = np.concatenate([photo, result], axis=1) if before_after else result
    with atomic.staged(output.parent) as scratch:
        Image.fromarray(picture).save(scratch / output.name, **saving)
    return left


def _checked(path, labels, photo):
    """The class ids of a label map, if it has the size of the photo."""
    if labels.shape != photo.shape[:2]:
        found, expected = ("x".join(map(str, each.shape[:2])) for each in (labels, photo))
        raise MakeupError(
            f"{path}: is {found}, the photo {expected}; expected the same; resize the labels by nearest neighbor"
        )
    return labels


def _find_faces(source, photo, parser, of_faces):
    """List, one item a face: rows and columns of the photo, and the masks in them, see `soft_masks.part_masks`."""
    if of_faces is not None:
        faces = detection.Detector(**of_faces)(photo)
        if not faces:
            raise MakeupError(
                f"{source}: no face found; expected one of at least {of_faces['min_face']} pixels and a confidence of "
                f"{of_faces['min_confidence']}; give another photo, or leave --detect out if it is a close-up"
            )
        return [soft_masks.part_masks_of_face(photo, face, parser) for face in faces]
    size = photo.shape[:2]
    scale = min(1, _LONGEST_SIDE / max(size))
    small = images.resize(photo, tuple(max(1, round(side * scale)) for side in size))
    masks = soft_masks.part_masks(parser.probabilities(small), size, parser.class_names)
    if not soft_masks.has_face(masks):
        raise MakeupError(
            f"{source}: no face found; expected a close-up of one; give another photo, or --detect for small faces"
        )
    return [(np.s_[:, :], masks)]
