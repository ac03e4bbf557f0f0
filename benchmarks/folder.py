"""Times a folder of photos from files to label files: parse_faces.py against the original PyTorch script's way.

The original way (zllrunning's test.py): photo by photo, read, resize, normalise, forward with all heads, argmax, write.
Each contestant is a whole process, start included, in interleaved rounds. Then a longer folder shows how much memory
the workers hold from the 20th photo to the last. Writes FOLDER.md and folder.json. Exit status 0 only if every limit
holds.

Example:
  python benchmarks/folder.py --models build/face_parsing --rounds 3
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

from absl import app, flags

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import machine, processes
from benchmarks.figures import ratios, spread

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "models", "build/face_parsing", "Folder with face_parsing_float32.tflite and face_parsing_int8.tflite."
)
flags.DEFINE_integer("rounds", 3, "Turns of each contestant.", lower_bound=1)
flags.DEFINE_integer("photos", 200, "Photos of the folder.", lower_bound=1)
flags.DEFINE_integer("many", 2000, "Photos of the folder that memory is watched on.", lower_bound=100)
flags.DEFINE_string("output", "benchmarks/FOLDER.md", "The report; folder.json is put beside it.")

SIZE = (512, 512)
NAMES = {"torch": "PyTorch, one by one", "float32": "parse_faces.py, float32", "int8": "parse_faces.py, int8"}
# Times PyTorch's photos a second, at least.
LIMITS = {"int8": 3.0, "float32": 1.4}
# How far the memory of the workers may go from what it is at the 20th photo.
MEMORY_LIMIT = 50e6


def run(options, arguments):
    """Measures and writes the report. Returns the sentences about limits that do not hold."""
    from PIL import Image

    from keras_bisenet.export import calibration

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
                    finished = processes.run_job(sys.executable, "folder_turn", job, scratch / "log")
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
        memory = watch(_command(many, scratch / "results", options.models, "int8"), scratch / "results")
    results = {
        "command": shlex.join(["python", "benchmarks/folder.py", *map(machine.without_folders, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "pillow", "torch")},
        "photos": options.photos,
        "seconds": seconds,
        "memory": memory,
    }
    output = pathlib.Path(options.output)
    sentences = verdicts(results)
    output.write_text(report(results, sentences), encoding="utf-8")
    output.with_name("folder.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return [sentence for sentence, holds in sentences if not holds]


def _command(photos, results, models, precision):
    model = pathlib.Path(models, f"face_parsing_{precision}.tflite")
    return [sys.executable, "scripts/parse_faces.py", photos, "--output_dir", results, "--model", model]


def watch(command, results):
    """Runs a command and looks at the memory of all its processes while label files appear.

    Returns:
        List of [label files, bytes], one a second from the 20th file on. (Linux only.)
    """
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=processes.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    seen = []
    while process.poll() is None:
        time.sleep(1)
        count = sum(1 for _ in results.rglob("*.png")) if results.exists() else 0
        if count >= 20:
            seen.append([count, _memory(process.pid)])
    # The last look may have met processes that were ending.
    return seen[:-1]


def _memory(session):
    """What the processes of a session hold for themselves, in bytes: shared pages count in parts (PSS)."""
    total = 0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += int(re.search(r"^Pss:\s*(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)[1])
        except OSError:  # it has ended
            continue
    return 1024 * total


def verdicts(results):
    """A sentence for each limit, and whether it holds."""
    sentences = []
    for name, limit in LIMITS.items():
        ratio = spread(ratios(results["seconds"]["torch"], results["seconds"][name]))
        said = f"{NAMES[name]}: {ratio.text(2)} times the photos a second of {NAMES['torch']}, at least {limit:.1f}"
        sentences.append((said, ratio.median >= limit))
    (start, first), *others = results["memory"]
    change = max((held - first for _, held in others), key=abs, default=0)
    said = f"memory from photo {start} to {results['memory'][-1][0]}: {change / 1e6:+.0f} MB at most"
    sentences.append((f"{said}, allowed {MEMORY_LIMIT / 1e6:.0f} MB either way", abs(change) <= MEMORY_LIMIT))
    return [(f"{said}: {'holds' if holds else 'does not hold'}", holds) for said, holds in sentences]


def report(results, sentences):
    """The text of FOLDER.md."""
    rows = [
        (name, spread([results["photos"] / turn for turn in results["seconds"][contestant]]).text(2))
        for contestant, name in NAMES.items()
    ]
    computer = results["machine"]
    return "\n".join(
        [
            "# A folder of photos",
            "",
            "Written by the command below; not edited by hand.",
            "",
            f"| {results['photos']} photos of {SIZE[0]}x{SIZE[1]}, from JPEG to label PNG | photos a second |",
            "|---|---:|",
            *(f"| {name} | {figure} |" for name, figure in rows),
            "",
            *(f"- {sentence}" for sentence, _ in sentences),
            "",
            "Whole processes, start included; the median of the rounds, and the smallest and largest of them; a ratio "
            "is taken round by round. Memory is that of all processes together (PSS).",
            "",
            f"- command: `{results['command']}`",
            f"- date: {results['date']}",
            f"- CPU: {computer['cpu']}, {computer['cores']} cores; {computer['system']}, Python {computer['python']}",
            f"- packages: {', '.join(f'{name} {version}' for name, version in results['versions'].items())}",
            "",
        ]
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    failed = run(FLAGS, sys.argv[1:])
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    app.run(main)
