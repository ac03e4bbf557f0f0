"""Makes up a photo or a video: recolors hair, lips, eyes and brows, and smooths the skin.

The network finds the parts, unless --labels names a label map that is there already. --detect finds the faces first,
for photos that are not a close-up of one face, and makes up each. Colors are #rrggbb or CSS names.

Examples:
  .venv/bin/python scripts/makeup.py --image photo.jpg --output out.png --hair '#7a2f1d' --lips crimson --smooth 0.5
  .venv/bin/python scripts/makeup.py --image photo.jpg --output out.jpg --eyes '#4d7086' --strength 0.5 --before_after
  .venv/bin/python scripts/makeup.py --image photo.jpg --output out.webp --hair black --labels labels.png
  .venv/bin/python scripts/makeup.py --image party.jpg --output out.png --lips crimson --detect
  .venv/bin/python scripts/makeup.py --video clip.mp4 --output out.mp4 --hair black --lips crimson
  .venv/bin/python scripts/makeup.py --video clip.mp4 --output labels.mp4 --overlay --detect
"""

import math
import pathlib

import command
from absl import flags

from keras_bisenet.inference import detection
from keras_bisenet.utils.errors import MakeupError

# What Pillow is told for each kind of picture: at these settings the loss is invisible.
FORMATS = {
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "quality": 95},
}
# Longest side of a picture, in pixels, of those kinds that have a limit.
LIMITS = {"JPEG": 65500, "WEBP": 16383}
# The network gets a larger photo in this size: it sees no more in it, and probabilities are 76 bytes a pixel.
LONGEST_SIDE = 1024

FLAGS = flags.FLAGS
flags.DEFINE_string("image", None, "The photo. Default: the bundled one.")
flags.DEFINE_string("video", None, "The video, instead of a photo; its sound and the times of its frames are kept.")
flags.DEFINE_string(
    "output", None, f"Picture to write: {', '.join(FORMATS)}; or video: .mkv, .mov, .mp4.", required=True
)
flags.DEFINE_string("hair", None, "Color of the hair.")
flags.DEFINE_string("lips", None, "Color of the lips.")
flags.DEFINE_string("eyes", None, "Color of the irises.")
flags.DEFINE_string("brows", None, "Color of the eyebrows.")
flags.DEFINE_float("smooth", 0.0, "How much of the skin's unevenness goes, 0 to 1.")
flags.DEFINE_float("strength", 0.8, "How far the parts go to their colors, 0 to 1.")
flags.DEFINE_string(
    "model", "default", "default, fast or tiny, which come with the package in int8, or a .tflite or .keras file."
)
flags.DEFINE_string("labels", None, "Label map of the photo, a grayscale PNG of class ids, instead of a network's.")
flags.DEFINE_bool("detect", False, "Find the faces first, and make up each of them.")
flags.DEFINE_integer("min_face", detection.MIN_FACE, "Least size of a face to find, the root of its area, in pixels.")
flags.DEFINE_float("min_confidence", detection.MIN_CONFIDENCE, "Least confidence of a face to find, 0 to 1.")
flags.DEFINE_bool("before_after", False, "Write the photo as it was on the left of the result.")
flags.DEFINE_bool("overlay", False, "Of a video: paint the labels over the frames instead of making them up.")
flags.DEFINE_float("steady", 0.8, "Of a video: how much of the flicker goes, 0 to less than 1.")
flags.DEFINE_bool("audio", True, "Of a video: copy its sound.")


def find_parts(path, photo, options):
    """Where the faces are, and the masks of their parts.

    Args:
        path: of the photo.
        photo: `[H, W, 3]` uint8 RGB.
        options: the flags' values, as attributes.

    Returns:
        List, one item a face: rows and columns of the photo, and the masks in them, see `soft_masks.part_masks`.

    Raises:
        DataError, ImageError, MakeupError, ModelError: the label map, the model or what finds faces cannot be used; or
            there is no face to be found.
    """
    import numpy as np

    from keras_bisenet import FaceParser
    from keras_bisenet.data import folder
    from keras_bisenet.inference import soft_masks
    from keras_bisenet.utils import images

    size = photo.shape[:2]
    if options.labels is not None:
        if not pathlib.Path(options.labels).is_file():
            raise MakeupError(f"{options.labels}: no such file; expected a label map of the photo")
        labels = folder.read_label(options.labels)
        if labels.shape != size:
            found, expected = ("x".join(map(str, shape)) for shape in (labels.shape, size))
            raise MakeupError(
                f"{options.labels}: is {found}, the photo {expected}; expected the same; "
                "resize the labels by nearest neighbor"
            )
        return [(np.s_[:, :], soft_masks.part_masks(labels))]
    parser = FaceParser(options.model)
    if options.detect:
        faces = detection.Detector(options.min_face, options.min_confidence)(photo)
        if not faces:
            raise MakeupError(
                f"{path}: no face found; expected one of at least {options.min_face} pixels and a confidence of "
                f"{options.min_confidence}; give another photo, or leave --detect out if it is a close-up"
            )
        return [soft_masks.part_masks_of_face(photo, face, parser) for face in faces]
    scale = min(1, LONGEST_SIDE / max(size))
    small = images.resize(photo, tuple(max(1, round(side * scale)) for side in size))
    masks = soft_masks.part_masks(parser.probabilities(small), size, parser.class_names)
    if not soft_masks.has_face(masks):
        raise MakeupError(
            f"{path}: no face found; expected a close-up of one; give another photo, or --detect for small faces"
        )
    return [(np.s_[:, :], masks)]


def run_video(options):
    """Makes up a video, or paints its labels over it.

    Args:
        options: the flags' values, as attributes.

    Returns:
        None, or what is wrong with the video: it is written without the frames that cannot be read.

    Raises:
        UserError: the video, the model, a color or the flags cannot be used.
    """
    from keras_bisenet.inference import makeup, video_makeup

    for name in ("image", "labels", "before_after"):
        if getattr(options, name):
            raise MakeupError(f"--{name} and --video are both given; expected one of them: it is for photos alone")
    colors = {part: getattr(options, part) for part in makeup.LIGHTNESS if getattr(options, part) is not None}
    if options.overlay and (colors or options.smooth):
        raise MakeupError("--overlay is given with what to make up; expected one of them; run it once for each")
    colors = {part: makeup.parse_color(text) for part, text in colors.items()}
    look = None if options.overlay else makeup.Look(**colors, smooth=options.smooth, strength=options.strength)
    detection.check_options(options.min_face, options.min_confidence, options.detect)
    of_faces = {"min_face": options.min_face, "min_confidence": options.min_confidence} if options.detect else None
    absent, problem = video_makeup.write(
        options.video, options.output, options.model, look, options.steady, of_faces, options.audio
    )
    made_up = ", ".join([*colors, *(["skin"] if options.smooth else [])])
    print(f"{options.video}: {'labels painted' if look is None else f'{made_up} made up'}, in {options.output}")
    for part in absent:
        print(f"{part}: in none of the frames")
    return problem


def run(options):
    """Makes up a photo.

    Args:
        options: the flags' values, as attributes.

    Raises:
        UserError: the photo, the model or a color cannot be used.
    """
    import numpy as np
    from PIL import Image

    from keras_bisenet.inference import makeup
    from keras_bisenet.utils import atomic, images

    output = pathlib.Path(options.output)
    if output.suffix.lower() not in FORMATS:
        raise MakeupError(f"{output}: unknown kind of picture; expected a name ending in {', '.join(FORMATS)}")
    colors = {part: getattr(options, part) for part in makeup.LIGHTNESS if getattr(options, part) is not None}
    colors = {part: makeup.parse_color(text) for part, text in colors.items()}
    look = makeup.Look(**colors, smooth=options.smooth, strength=options.strength)
    look.check()
    detection.check_options(options.min_face, options.min_confidence, options.detect)
    if options.detect and options.labels is not None:
        raise MakeupError(
            "--detect and --labels are both given; expected one of them: the labels name the parts already"
        )
    path = images.BUNDLED if options.image is None else options.image
    photo = images.read(path)
    saving = FORMATS[output.suffix.lower()]
    height, width = photo.shape[0], photo.shape[1] * (2 if options.before_after else 1)
    if max(height, width) > LIMITS.get(saving["format"], math.inf):
        limit = f"{saving['format']} holds at most {LIMITS[saving['format']]} pixels a side"
        raise MakeupError(f"{output}: would be {height}x{width}, but {limit}; write a .png")
    result, left = makeup.apply_to_faces(photo, find_parts(path, photo, options), look)
    picture = np.concatenate([photo, result], axis=1) if options.before_after else result
    with atomic.staged(output.parent) as scratch:
        Image.fromarray(picture).save(scratch / output.name, **saving)
    print(f"{path}: {', '.join([*colors, *(['skin'] if look.smooth else [])])} made up, in {output}")
    for reason in dict.fromkeys(left):
        print(f"eyes left as they are: {left.count(reason)}, {reason}")


def main(options):
    try:
        return run(options) if options.video is None else run_video(options)
    except ModuleNotFoundError:
        raise
    except ImportError as error:  # OpenCV or a part of it; the message says how to install it
        return str(error)


if __name__ == "__main__":
    command.start(main, interrupted="nothing was written; of a video, run it again to resume")
