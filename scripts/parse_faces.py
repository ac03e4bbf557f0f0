"""Labels the parts of faces in photos and videos: files, folders with all that is in them, patterns.

Writes, of each photo, what --outputs names: labels/ (PNG of class ids), overlay/ (labels painted over the photo),
masks/ (a PNG for each part) and json/ (areas and boxes, and with --detect the faces). Run again, it resumes where it
stopped, and parses again what was made from another photo or model. Files that cannot be read are listed in
failures.txt, and the exit status is then 1.

Examples:
  .venv/bin/python scripts/parse_faces.py photos --output_dir build/parsed
  .venv/bin/python scripts/parse_faces.py party.jpg 'holidays/**/*.jpg' clip.mp4 --detect --outputs labels,overlay,json
  .venv/bin/python scripts/parse_faces.py clip.mp4 --outputs overlay --smooth 0.8 --output_dir build/steady
  .venv/bin/python scripts/parse_faces.py photos --model build/face_parsing/face_parsing_float32.tflite --workers 4
  .venv/bin/python scripts/parse_faces.py /shared/photos --output_dir /shared/parsed --engine ray
"""

import collections
import contextlib
import pathlib
import sys

import command
from absl import flags

from keras_bisenet.inference import detection
from keras_bisenet.tflite import accelerators

# How many failures, numbers of faces and photos without one are printed; all failures are in failures.txt.
SHOWN = 20

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "build/parsed", "Folder of the results.")
flags.DEFINE_list("outputs", "labels", "What is written of each photo: labels, overlay, masks, json.")
flags.DEFINE_string(
    "model", "default", "default, fast or tiny, which come with the package in int8, or a .tflite or .keras file."
)
flags.DEFINE_bool("detect", False, "Find the faces first, for photos that are not a close-up of one face.")
flags.DEFINE_integer("min_face", detection.MIN_FACE, "Least size of a face to find, the root of its area, in pixels.")
flags.DEFINE_float("min_confidence", detection.MIN_CONFIDENCE, "Least confidence of a face to find, 0 to 1.")
flags.DEFINE_float(
    "smooth", 0.0, "How much of the flicker of videos goes, 0 to less than 1; 0.8 is an average of 5 frames."
)
flags.DEFINE_integer("workers", None, "Number of worker processes. Default: one per core.", lower_bound=1)
flags.DEFINE_bool("isolated", False, "Run a stranger's .tflite in processes of its own: a photo that crashes it fails.")
flags.DEFINE_enum(
    "accelerator",
    "cpu",
    accelerators.ACCELERATORS,
    "What runs a .tflite; without it, and where it is wrong, the CPU does.",
)
flags.DEFINE_enum("engine", "local", ["local", "ray"], "Worker processes of this machine, or a Ray cluster.")


def run(options, names):
    """Labels photos and videos.

    Args:
        options: the flags' values, as attributes.
        names: files, folders and patterns.

    Returns:
        None, or how many photos failed, in words.

    Raises:
        ImageError, ModelError: nothing can be labeled.
    """
    from tqdm import tqdm

    from keras_bisenet.inference.batch import inputs, parse_folder, ray_cluster, results, resume
    from keras_bisenet.inference.face_parser import FaceParser

    results.check_kinds(options.outputs)
    engine = ray_cluster if options.engine == "ray" else parse_folder
    if engine is parse_folder:
        parse_folder.prepare()
    output_dir = pathlib.Path(options.output_dir)
    sources = inputs.find(names, output_dir)
    # A model that cannot be opened is told before any worker starts.
    with FaceParser(options.model, num_threads=1, isolated=options.isolated, accelerator=options.accelerator) as parser:
        image_size, ops = parser.image_size, parser.ops
    accelerator = next((name for name in ops if name != "cpu"), "cpu")
    of_faces = options.detect, options.min_face, options.min_confidence
    job = parse_folder.Job(
        output_dir,
        tuple(options.outputs),
        options.model,
        *of_faces,
        options.smooth,
        image_size,
        isolated=options.isolated,
        accelerator=accelerator,
    )
    with job.claim():
        parsing = resume.Run(job, sources)
        # Nobody knows how many frames a video has.
        total = None if any(source.is_video for source in parsing.to_do) else len(parsing.to_do)
        with (
            contextlib.closing(parsing.parse(engine, options.workers)) as parsed,
            tqdm(parsed, "parsing", total, unit="photo", smoothing=0.05, disable=None) as progress,
        ):
            collections.deque(progress, maxlen=0)
        failures = [command.one_line(failure) for failure in parsing.failures]
        job.list_failures(failures)
    for failure in failures[:SHOWN]:
        print(f"failed: {failure}", file=sys.stderr)
    if options.detect:
        faces = {command.one_line(name): count for name, count in parsing.faces.items()}
        print(*results.count_faces(faces, SHOWN), sep="\n")
    if accelerator != "cpu":
        model = command.one_line(options.model)
        print(f"the {accelerator.upper()} runs {ops[accelerator]} of the {sum(ops.values())} ops of {model}")
    where = command.one_line(options.output_dir)
    lines, failed = parsing.told()
    print("\n".join(lines) + f"; everything is in {where}")
    return failed and f"{failed} failed; they are listed in {where}/{parse_folder.FAILURES}"


if __name__ == "__main__":
    command.start(run, "photos: files, folders or patterns", "run it again to resume")
