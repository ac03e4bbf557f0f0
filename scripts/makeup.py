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

import pathlib

import command
from absl import flags

from keras_bisenet.inference import detection
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import MakeupError

FLAGS = flags.FLAGS
flags.DEFINE_string("image", None, "The photo. Default: the bundled one.")
flags.DEFINE_string("video", None, "The video, instead of a photo; its sound and the times of its frames are kept.")
flags.DEFINE_string(
    "output", None, "Picture to write: .jpeg, .jpg, .png, .webp; or video: .mkv, .mov, .mp4.", required=True
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


def run(options):
    """Makes up a photo or a video.

    Args:
        options: the flags' values, as attributes.

    Returns:
        None, or what is wrong with the video: it is written without the frames that cannot be read.

    Raises:
        UserError: the photo or video, the model, a color or the flags cannot be used.
    """
    from keras_bisenet.inference import makeup

    colors = {
        part: makeup.parse_color(text) for part in makeup.LIGHTNESS if (text := getattr(options, part)) is not None
    }
    look = makeup.Look(**colors, smooth=options.smooth, strength=options.strength)
    detection.check_options(options.min_face, options.min_confidence, options.detect)
    of_faces = {"min_face": options.min_face, "min_confidence": options.min_confidence} if options.detect else None
    made_up = f"{', '.join([*colors, *(['skin'] if look.smooth else [])])} made up"
    make_up = make_up_photo if options.video is None else make_up_video
    return make_up(options, look, of_faces, made_up)


def make_up_photo(options, look, of_faces, made_up):
    """Makes up a photo. `made_up` says what, in words."""
    from keras_bisenet.data import folder
    from keras_bisenet.inference import photo_makeup

    labels, photo = None, images.BUNDLED if options.image is None else options.image
    if options.labels is not None:
        if options.detect:
            raise MakeupError(
                "--detect and --labels are both given; expected one of them: the labels name the parts already"
            )
        if not pathlib.Path(options.labels).is_file():
            raise MakeupError(f"{options.labels}: no such file; expected a label map of the photo")
        labels = options.labels, folder.read_label(options.labels)
    left = photo_makeup.write(photo, options.output, look, options.model, of_faces, labels, options.before_after)
    print(f"{photo}: {made_up}, in {options.output}")
    for reason in dict.fromkeys(left):
        print(f"eyes left as they are: {left.count(reason)}, {reason}")


def make_up_video(options, look, of_faces, made_up):
    """Makes up a video, or paints its labels over it. Returns what is wrong with the video, or None."""
    from keras_bisenet.inference import video_makeup

    for name in ("image", "labels", "before_after"):
        if getattr(options, name):
            raise MakeupError(f"--{name} and --video are both given; expected one of them: it is for photos alone")
    if options.overlay:
        if look.colors() or look.smooth:
            raise MakeupError("--overlay is given with what to make up; expected one of them; run it once for each")
        look, made_up = None, "labels painted"
    absent, problem = video_makeup.write(
        options.video, options.output, options.model, look, options.steady, of_faces, options.audio
    )
    print(f"{options.video}: {made_up}, in {options.output}")
    for part in absent:
        print(f"{part}: in none of the frames")
    return problem


def main(options):
    try:
        return run(options)
    except ModuleNotFoundError:
        raise
    except ImportError as error:  # OpenCV or a part of it; the message says how to install it
        return str(error)


if __name__ == "__main__":
    command.start(main, interrupted="nothing was written; of a video, run it again to resume")
