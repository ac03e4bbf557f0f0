"""Measures the web page in headless Chromium: milliseconds a frame of each network in int8, and in float32, on the CPU.

Needs Chromium, Node and the packages of web/ and tests/browser/ (`make web` and `npm ci --prefix tests/browser`).
Writes WEB.md and web.json. Exit status 0 only if the threshold holds.

Example:
  .venv/bin/python -m benchmarks.web.run
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

from absl import flags

from benchmarks.common import experiment, reporting, statistics
from benchmarks.common.processes import ROOT, BenchmarkError

# Largest time of the int8 file, over that of the float32 file.
AT_MOST = 0.5
# Least frames a second of the fast network's int8 file.
FAST_FRAMES = 20


def define_flags():
    """Defines the flags of the command line."""
    flags.DEFINE_string("models", "build/face_parsing", "Folder of the .tflite files.")
    flags.DEFINE_integer("rounds", 5, "Rounds in which the files alternate.", lower_bound=1)
    flags.DEFINE_integer("frames", 20, "Frames of a file in a round.", lower_bound=1)


def measure(options):
    """Builds, serves and times the page.

    Returns:
        dict: `browser`; `litert`: version of LiteRT.js; `runs_on`: the status that the page shows; `milliseconds`:
        file -> list of rounds, each the times of its frames.
    """
    speed = {
        "precisions": ("int8", "fast_int8", "float32"),
        "rounds": options.rounds,
        "frames": options.frames,
        "warmup": 3,
    }
    with tempfile.TemporaryDirectory() as built, tempfile.TemporaryDirectory() as folder:
        build(options.models, built)
        with served(built) as address:
            found = use(address, folder, speed=speed)["speed"]
    packages = json.loads((ROOT / "web" / "package.json").read_text())["dependencies"]
    versions = {"browser": f"Chromium {found['browser']}", "litert": packages["@litertjs/core"]}
    return {**versions, "runs_on": found["status"], "milliseconds": found["times"]}


def build(models, output):
    """Builds the page into the folder `output`, with the .tflite files of `models`.

    Raises:
        BenchmarkError: Node or its packages are missing, or the build failed.
    """
    _node("web", "build.mjs", "--models", models, "--output", output, env=os.environ | {"PYTHON": sys.executable})


@contextlib.contextmanager
def served(folder):
    """Serves a built page as `make web` does, on a free port; the value of the context is its address."""
    command = [sys.executable, ROOT / "scripts" / "serve_web.py", "--port", "0", "--build_dir", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            words = server.stdout.readline().split()
            if not words:
                raise BenchmarkError(server.stderr.read().strip())
            yield next(word for word in words if word.startswith("http://"))
        finally:
            server.terminate()


def use(address, folder, **scenes):
    """Uses the page at an address in Chromium, see tests/browser/web.mjs: dict of scene -> its result.

    Args:
        address: of the page.
        folder: of the photos and of saved files.
        **scenes: scene -> dict of its options, in this order.

    Raises:
        BenchmarkError: Chromium, Node or its package is missing, or a scene failed.
    """
    chromium, request = _program("chromium"), json.dumps(scenes)
    return json.loads(_node("tests/browser", "web.mjs", chromium, address, folder, *scenes, input=request))


def _program(name):
    found = shutil.which(name)
    if found is None:
        raise BenchmarkError(f"{name}: no such program; install it, on Debian: apt-get install chromium nodejs npm")
    return found


def _node(folder, script, *arguments, **options):
    """What a script of a folder prints in Node."""
    if not (ROOT / folder / "node_modules").is_dir():
        raise BenchmarkError(f"{folder}/node_modules: no such folder; expected its packages: npm ci --prefix {folder}")
    command = [_program("node"), ROOT / folder / script, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, **options)
    if process.returncode:
        raise BenchmarkError(process.stderr.strip() or f"{script} ended with status {process.returncode}")
    return process.stdout


def _medians(rounds):
    return [statistics.median(frames) for frames in rounds]


def _checks(results):
    found = statistics.ratio(*(_medians(results["milliseconds"][name]) for name in ("int8", "float32")))
    text, required = f"int8 takes {found.text(2)} of the time of float32", f"required is at most {AT_MOST:g}"
    applies = results["machine"]["int8_dot_product"]
    checks = [reporting.threshold(text, required, found.median <= AT_MOST, applies)]
    if "fast_int8" in results["milliseconds"]:
        frames = 1000 / statistics.median(_medians(results["milliseconds"]["fast_int8"]))
        text, required = f"the fast network has {frames:.1f} frames a second", f"required are at least {FAST_FRAMES}"
        checks.append(reporting.threshold(text, required, frames >= FAST_FRAMES, applies))
    return checks


def _body(results):
    spreads = {name: statistics.spread(_medians(rounds)) for name, rounds in results["milliseconds"].items()}
    rows = [(name, found.text(1), f"{1000 / found.median:.1f}") for name, found in spreads.items()]
    yield reporting.table(("file", "ms a frame", "frames a second"), rows)


def _conditions(results):
    rounds = results["milliseconds"]["int8"]
    yield f"{len(rounds)} rounds of {len(rounds[0])} frames of each file"
    yield f"{results['browser']}, LiteRT.js {results['litert']}; {results['runs_on']}"


_READING = (
    "A frame is one photo of 512x512 pixels, from its pixels to its labels. The files alternate; the median frame of a "
    f"round counts. {reporting.ROUNDS}"
)
REPORT = reporting.Report("The network in the browser", _body, _checks, _READING, _conditions)

if __name__ == "__main__":
    experiment.main(__file__, "WEB.md", define_flags, measure, REPORT)
