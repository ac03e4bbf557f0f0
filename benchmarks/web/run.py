"""Measures the web page in headless Chromium: milliseconds a frame of the int8 and of the float32 file, on the CPU.

Needs Chromium, Node and the packages of web/ and tests/browser/ (`make web` and `npm ci --prefix tests/browser`).
Writes WEB.md and web.json. Exit status 0 only if the limit holds.

Examples:
  python benchmarks/web/run.py
  python benchmarks/web/run.py --picture docs/web.png   # the README's picture of the page instead
"""

import contextlib
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from absl import app, flags

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

DRIVER = ROOT / "tests" / "browser" / "web.mjs"
PRECISIONS = ("int8", "float32")
# Beyond this size the PNG takes more than 400 kB.
PICTURE = {"file": "page.png", "width": 1040, "height": 800, "whole": True}

FLAGS = flags.FLAGS
flags.DEFINE_string("models", "build/face_parsing", "Folder of the .tflite files.")
flags.DEFINE_string("output", "benchmarks/web/WEB.md", "The report; a .json is put beside it.")
flags.DEFINE_string("picture", None, "PNG to write a picture of the page to, instead of measuring.")
flags.DEFINE_integer("rounds", 5, "Turns that each file takes.", lower_bound=1)
flags.DEFINE_integer("frames", 20, "Frames of a turn.", lower_bound=1)


class WebError(RuntimeError):
    """The page cannot be built, served or used. The message says why and what to do."""


def build(models, output):
    """Builds the page into the folder `output`, with the .tflite files of `models`.

    Raises:
        WebError: Node or its packages are missing, or the build failed.
    """
    if not (ROOT / "web" / "node_modules").is_dir():
        raise WebError("web/node_modules: no such folder; expected the packages of the page: npm ci --prefix web")
    command = [_program("node"), ROOT / "web" / "build.mjs", "--models", models, "--output", output]
    _run(command, env=os.environ | {"PYTHON": sys.executable})


@contextlib.contextmanager
def served(folder):
    """Serves a built page as `make web` does, on a free port, and gives its address."""
    command = [sys.executable, ROOT / "scripts" / "serve_web.py", "--port", "0", "--build_dir", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            words = server.stdout.readline().split()
            if not words:
                raise WebError(server.stderr.read().strip())
            yield next(word for word in words if word.startswith("http://"))
        finally:
            server.terminate()


def use(address, folder, **scenes):
    """Uses the page in Chromium, see tests/browser/web.mjs.

    Args:
        address: of the page.
        folder: where photos lie and saved files go.
        **scenes: what to do -> dict of its options, in this order.

    Returns:
        dict: what was done -> what it returned.

    Raises:
        WebError: Chromium, Node or its package is missing, or the page did something else.
    """
    if not (ROOT / "tests" / "browser" / "node_modules").is_dir():
        raise WebError(
            "tests/browser/node_modules: no such folder; expected what drives Chromium: npm ci --prefix tests/browser"
        )
    command = [_program("node"), DRIVER, _program("chromium"), address, folder, *scenes]
    return json.loads(_run(command, input=json.dumps(scenes)))


def measure(address, rounds, frames):
    """The `results` of `markdown`, but for the command.

    Raises:
        WebError: see `use`.
    """
    from benchmarks.common import machine

    computer = machine.describe()
    options = {"precisions": PRECISIONS, "rounds": rounds, "frames": frames, "warmup": 3}
    with tempfile.TemporaryDirectory() as folder:
        found = use(address, folder, speed=options)["speed"]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": computer,
        "browser": f"Chromium {found['browser']}",
        "litert": json.loads((ROOT / "web" / "package.json").read_text())["dependencies"]["@litertjs/core"],
        "runs_on": found["status"],
        "milliseconds": found["times"],
    }


def take_picture(address, path):
    """Writes a picture of the page with the example photo to `path`.

    Raises:
        WebError: see `use`.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        use(address, folder, pictures={"shots": [PICTURE]})
        with Image.open(pathlib.Path(folder, PICTURE["file"])) as image:
            image.convert("RGB").save(path, format="PNG", optimize=True)


def run(options):
    """Does the whole job.

    Args:
        options: the flags' values, as attributes.

    Returns:
        Sentences about the limits that do not hold; empty if all do.

    Raises:
        WebError, OSError: with a message for the person who asked.
    """
    from benchmarks.web import report as web_report

    with tempfile.TemporaryDirectory() as folder:
        build(options.models, folder)
        with served(folder) as address:
            if options.picture:
                take_picture(address, options.picture)
                print(f"wrote {options.picture}")
                return []
            results = measure(address, options.rounds, options.frames)
    results = {"command": "python benchmarks/web/run.py", **results}
    output = pathlib.Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f"{output.stem.lower()}.json")
    beside.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    output.write_text(web_report.markdown(results), encoding="utf-8")
    sentence, holds = web_report.verdict(results)
    print(f"{sentence}\nwrote {output} and {beside.name}")
    return [] if holds else [sentence]


def _program(name):
    found = shutil.which(name)
    if found is None:
        raise WebError(f"{name}: no such program; install it, on Debian: apt-get install chromium nodejs npm")
    return found


def _run(command, **options):
    process = subprocess.run(command, capture_output=True, text=True, **options)
    if process.returncode:
        raise WebError(process.stderr.strip() or f"{command[1]} ended with status {process.returncode}")
    return process.stdout


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    try:
        broken = run(FLAGS)
    except WebError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write: {error.filename}: {error.strerror}")
    if broken:
        sys.exit(f"error: {'; '.join(broken)}")


if __name__ == "__main__":
    app.run(main)
