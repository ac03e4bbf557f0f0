"""Measures the web page in headless Chromium, on the CPU: milliseconds a frame of each network in int8, and in float32;
and camera mode with the fast one: frames a second, the page's share of the time, memory.

Needs Chromium, Node and the packages of web/ and tests/browser/ (`make web` and `npm ci --prefix tests/browser`).
Writes WEB.md and web.json. Exit status 0 only if every threshold holds.

Example:
  .venv/bin/python -m benchmarks.web.run
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from absl import flags
from PIL import Image

from benchmarks.common import experiment, reporting, statistics
from benchmarks.common.processes import ROOT, BenchmarkError
from keras_bisenet.utils import images

# Largest time of the int8 file, over that of the float32 file; least frames a second of the fast network's int8 file.
AT_MOST, FAST_FRAMES = 0.5, 20
# Largest time from a frame of the camera to its overlay, over that of the network alone; largest change of the
# browser's memory meanwhile, in MB.
AT_MOST_OVERLAY, AT_MOST_MEMORY = 1.25, 30


def define_flags():
    flags.DEFINE_string("models", "build/face_parsing", "Folder of the .tflite files.")
    flags.DEFINE_integer("rounds", 5, "Rounds in which the files alternate.", lower_bound=1)
    flags.DEFINE_integer("frames", 20, "Frames of a file in a round.", lower_bound=1)
    flags.DEFINE_integer("camera_frames", 1000, "Frames of the camera.", lower_bound=2)


def measure(options):
    """Builds, serves and times the page.

    `dot_product` tells whether WebAssembly has 8-bit dot products in one instruction of the CPU, as on Arm with dotprod
    and on x86 with AVX-VNNI; the thresholds were set on such a CPU, and apply there alone.
    `milliseconds` has, for each file, lists of the times of the frames of a round. `camera` has milliseconds of each
    frame: of the network, and from the page (`overlay`) and from the camera (`latency`) to the overlay; and `memory`,
    bytes of the browser at ten times and in the end.
    """
    speed = {"precisions": ("int8", "fast_int8", "tiny_int8", "float32"), "rounds": options.rounds}
    speed |= {"frames": options.frames, "warmup": 3}
    stream = {"video": "camera.y4m", "precision": "fast_int8", "frames": options.camera_frames}
    # After this warm-up what loading took is given back, which would count as a change of the memory.
    stream |= {"warmup": 100, "every": max(options.camera_frames // 10, 1)}
    with tempfile.TemporaryDirectory() as built, tempfile.TemporaryDirectory() as folder:
        build(options.models, built)
        with Image.open(images.BUNDLED) as photo:
            write_video(pathlib.Path(folder, stream["video"]), photo.convert("RGB").resize((480, 480)), rate=30)
        with served(built) as address:
            measured = use(address, folder, speed=speed, stream=stream)
    found, camera = measured["speed"], measured["stream"]
    if camera["errors"]:
        raise BenchmarkError(f"the page has errors in camera mode: {camera['errors']}")
    packages = json.loads((ROOT / "web" / "package.json").read_text())["dependencies"]
    versions = {"browser": f"Chromium {found['browser']}", "litert": packages["@litertjs/core"]}
    camera = {name: camera[name] for name in ("milliseconds", "overlay", "latency", "seconds", "memory")}
    versions |= {"dot_product": found["dotProduct"], "runs_on": found["status"]}
    return {**versions, "milliseconds": found["times"], "camera": camera}


def write_video(path, photo, rate):
    """Writes a .y4m of five frames of a photo (PIL, RGB, its sides even), which Chromium repeats as a camera's."""
    # Video leaves room at both ends (ITU-R BT.601).
    pixels = np.asarray(photo.convert("YCbCr")) * np.divide((219, 224, 224), 255) + (16, 16, 16)
    luma, *chroma = np.moveaxis(pixels.round().astype(np.uint8), -1, 0)
    frame = b"FRAME\n" + luma.tobytes() + b"".join(plane[::2, ::2].tobytes() for plane in chroma)
    header = f"YUV4MPEG2 W{photo.width} H{photo.height} F{rate}:1 Ip A1:1 C420\n"
    path.write_bytes(header.encode() + 5 * frame)


def build(models, output):
    """Builds the page into the folder `output`, with the .tflite files of the folder `models`."""
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
    """Uses the page at an address in Chromium, with a folder of photos and saved files; dict of scene -> its result.

    The scenes, each with a dict of its options, are those of tests/browser/web.mjs, in the order given.
    """
    chromium, request = _program("chromium"), json.dumps(scenes)
    return json.loads(_node("tests/browser", "web.mjs", chromium, address, folder, *scenes, input=request))


def _program(name):
    found = shutil.which(name)
    if found is None:
        raise BenchmarkError(f"{name}: no such program; install it, on Debian: apt-get install chromium nodejs npm")
    return found


def _node(folder, script, *arguments, **options):
    """What a script of a folder prints in Node; `BenchmarkError` if that or its packages are missing, or it fails."""
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
    applies = results["dot_product"]
    yield reporting.threshold(text, required, found.median <= AT_MOST, applies)
    if "fast_int8" in results["milliseconds"]:
        frames = 1000 / statistics.median(_medians(results["milliseconds"]["fast_int8"]))
        text, required = f"the fast network has {frames:.1f} frames a second", f"required are at least {FAST_FRAMES}"
        yield reporting.threshold(text, required, frames >= FAST_FRAMES, applies)
    if "camera" in results:
        yield from _camera_checks(results["camera"], applies)


def _camera_checks(camera, applies):
    frames = _rate(camera)
    text, required = f"camera mode has {frames:.1f} frames a second", f"required are at least {FAST_FRAMES}"
    yield reporting.threshold(text, required, frames >= FAST_FRAMES, applies)
    share = statistics.ratio(camera["overlay"], camera["milliseconds"]).median
    text = f"from frame to overlay it takes {share:.2f} of the network's time"
    yield reporting.threshold(text, f"required is at most {AT_MOST_OVERLAY:g}", share <= AT_MOST_OVERLAY)
    change = (camera["memory"][-1] - camera["memory"][0]) / 1e6
    text = f"over {len(camera['overlay'])} frames its memory changes by {change:+.1f} MB"
    yield reporting.threshold(text, f"required are at most {AT_MOST_MEMORY}", abs(change) <= AT_MOST_MEMORY)


def _rate(camera):
    return (len(camera["overlay"]) - 1) / camera["seconds"]


def _body(results):
    spreads = {name: statistics.spread(_medians(rounds)) for name, rounds in results["milliseconds"].items()}
    rows = [(name, found.text(1), f"{1000 / found.median:.1f}") for name, found in spreads.items()]
    yield reporting.table(("file", "ms a frame", "frames a second"), rows)
    camera = results["camera"]
    names = {"ms of the network": "milliseconds", "ms from frame to overlay": "overlay"}
    names |= {"ms from camera to overlay": "latency"}
    rows = [(title, f"{statistics.median(camera[name]):.1f}") for title, name in names.items()]
    rows.append(("frames a second", f"{_rate(camera):.1f}"))
    first, last = (f"{camera['memory'][place] / 1e6:.0f}" for place in (0, -1))
    rows.append(("MB of the browser, first and last", f"{first}, {last}"))
    yield reporting.table(("camera mode, fast_int8", "median"), rows)


def _conditions(results):
    rounds = results["milliseconds"]["int8"]
    yield f"{len(rounds)} rounds of {len(rounds[0])} frames of each file"
    yield f"{results['browser']}, LiteRT.js {results['litert']}; {results['runs_on']}"
    yield f"WebAssembly {'with' if results['dot_product'] else 'without'} dot products of 8-bit numbers on this CPU"


_READING = (
    "A frame is one photo of 512x512 pixels, from its pixels to its labels. The files alternate; the median frame of a "
    f"round counts. {reporting.ROUNDS}"
)
REPORT = reporting.Report("The network in the browser", _body, _checks, _READING, _conditions)

if __name__ == "__main__":
    experiment.main(__file__, "WEB.md", define_flags, measure, REPORT)
