"""Times a folder of photos from files to label files: parse_faces.py against the original PyTorch script's way.

The original way (zllrunning's test.py): photo by photo, read, resize, normalise, forward with all heads, argmax, write.
Each contestant is a whole process, start included, in interleaved rounds. Then a longer folder shows how much memory
the workers hold from the 20th photo to the last. Writes THROUGHPUT.md and throughput.json. Exit status 0
only if every limit holds.

Example:
  python benchmarks/throughput/run.py --models build/face_parsing --rounds 3
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import shlex
import shutil
import sys
import tempfile

from absl import app, flags

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.common import machine, processes
from benchmarks.throughput import memory
from benchmarks.throughput.report import NAMES, SIZE, report, verdicts

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "models", "build/face_parsing", "Folder with face_parsing_float32.tflite and face_parsing_int8.tflite."
)
flags.DEFINE_integer("rounds", 3, "Turns of each contestant.", lower_bound=1)
flags.DEFINE_integer("photos", 200, "Photos of the folder.", lower_bound=1)
flags.DEFINE_integer("many", 2000, "Photos of the folder that memory is watched on.", lower_bound=100)
flags.DEFINE_string("output", "benchmarks/throughput/THROUGHPUT.md", "The report; throughput.json is put beside it.")


def run(options, arguments):
    """Measures and writes the report. Returns the sentences about limits that do not hold."""
    from PIL import Image

    from keras_bisenet.export.quantization import calibration

    seconds = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        photos = scratch / "photos"
        photos.mkdir()
        for number, photo in enumerate(calibration.variations(SIZE, options.photos).images):
            Image.fromarray(photo).save(photos / f"{number:04d}.jpg", quality=95)
        for number in range(options.rounds):
            for name in NAMES:
                results = scratch / "results"
                if name == "torch":
                    job = {"photos": str(photos), "output_dir": str(results)}
                    finished = processes.run_job(sys.executable, "throughput.worker", job, scratch / "log")
                else:
                    finished = processes.run(_command(photos, results, options.models, name), scratch / "log")
                written = len(list(results.rglob("*.png")))
                if written != options.photos:
                    sys.exit(f"error: {NAMES[name]} wrote {written} of {options.photos} label files")
                shutil.rmtree(results)
                seconds[name].append(finished.seconds)
                print(f"round {number + 1}: {NAMES[name]}: {options.photos / seconds[name][-1]:.2f} photos a second")
        many = scratch / "many"
        many.mkdir()
        files = sorted(photos.iterdir())
        for number in range(options.many):
            os.link(files[number % len(files)], many / f"{number:05d}.jpg")
        held = memory.watch(_command(many, scratch / "results", options.models, "int8"), scratch / "results")
    results = {
        "command": shlex.join(["python", "benchmarks/throughput/run.py", *map(machine.without_folders, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "pillow", "torch")},
        "photos": options.photos,
        "seconds": seconds,
        "memory": held,
    }
    output = pathlib.Path(options.output)
    sentences = verdicts(results)
    output.write_text(report(results, sentences), encoding="utf-8")
    output.with_name("throughput.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return [sentence for sentence, holds in sentences if not holds]


def _command(photos, results, models, precision):
    model = pathlib.Path(models, f"face_parsing_{precision}.tflite")
    return [sys.executable, "scripts/parse_faces.py", photos, "--output_dir", results, "--model", model]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    failed = run(FLAGS, sys.argv[1:])
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    app.run(main)
