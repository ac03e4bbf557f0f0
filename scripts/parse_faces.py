"""Labels the parts of faces in photos and videos: files, folders with all that is in them, patterns.

Writes, of each photo, what --outputs names: labels/ (PNG of class ids), overlay/ (labels painted over the photo),
masks/ (a PNG for each part) and json/ (areas and boxes). Run again, it resumes where it stopped. Files that cannot be
read are listed in failures.txt, and the exit status is then 1.

Examples:
  python scripts/parse_faces.py photos --output_dir build/parsed
  python scripts/parse_faces.py party.jpg 'holidays/**/*.jpg' clip.mp4 --detect --outputs labels,overlay,json
  python scripts/parse_faces.py photos --model build/face_parsing/face_parsing_float32.tflite --workers 4
  python scripts/parse_faces.py /shared/photos --output_dir /shared/parsed --engine ray
"""

import contextlib
import pathlib
import sys

import command
from absl import flags

# How many failures are printed; all of them are in failures.txt.
SHOWN = 20

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "build/parsed", "Folder of the results.")
flags.DEFINE_list("outputs", "labels", "What is written of each photo: labels, overlay, masks, json.")
flags.DEFINE_string(
    "model", "default", "default or fast, which come with the package in int8, or a .tflite or .keras file."
)
flags.DEFINE_bool("detect", False, "Find the faces first, for photos that are no close-up of one face.")
flags.DEFINE_integer("workers", None, "Number of worker processes. Default: one a core.", lower_bound=1)
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

    from keras_bisenet.inference.batch import inputs, parse_folder, ray_cluster, results
    from keras_bisenet.inference.face_parser import FaceParser

    results.check_kinds(options.outputs)
    output_dir = pathlib.Path(options.output_dir)
    sources = inputs.find(names, output_dir)
    FaceParser(options.model, num_threads=1)  # a model that cannot be opened is told before any worker starts
    job = parse_folder.Job(output_dir, tuple(options.outputs), options.model, options.detect)
    failures, count = [], 0
    with job.claim():
        to_do = [source for source in sources if source.is_video or not job.is_done(source)]
        # Nobody knows how many pictures a video has.
        total = None if any(source.is_video for source in to_do) else len(to_do)
        engine = ray_cluster if options.engine == "ray" else parse_folder
        with (
            contextlib.closing(engine.run(job, to_do, options.workers)) as parsed,
            tqdm(parsed, "parsing", total, unit="photo", smoothing=0.05, disable=None) as progress,
        ):
            for _, error in progress:
                count += 1
                failures.extend([command.one_line(error)] if error else [])
        job.list_failures(failures)
    for failure in failures[:SHOWN]:
        print(f"failed: {failure}", file=sys.stderr)
    before = f", {len(sources) - len(to_do)} were done before" if len(to_do) < len(sources) else ""
    print(f"parsed {count - len(failures)}{before}; everything is in {command.one_line(options.output_dir)}")
    if not failures:
        return None
    return f"{len(failures)} of {count} failed; they are listed in {command.one_line(options.output_dir)}/failures.txt"


if __name__ == "__main__":
    command.start(run, "photos: files, folders or patterns", "run it again to resume")
