"""Times a folder of photos from files to label files: parse_faces.py against the way of the original PyTorch script.

The original way (zllrunning's test.py): photo by photo, read, resize, normalize, forward with all heads, argmax, write.
Each candidate is a whole process, start included, in interleaved rounds. Then a longer folder shows how much memory
the workers hold from the 20th photo to the last (Linux only). Writes THROUGHPUT.md and throughput.json. Exit status 0
only if every threshold holds.

Example:
  .venv/bin/python -m benchmarks.throughput.run --models build/face_parsing --rounds 3
"""

import itertools
import os
import pathlib
import shutil
import sys
import tempfile

from absl import flags
from PIL import Image

from benchmarks.common import experiment, process_memory, processes, reporting, statistics

SIZE = (512, 512)
NAMES = {"torch": "PyTorch, one by one", "float32": "parse_faces.py, float32", "int8": "parse_faces.py, int8"}
# Least photos a second, as a multiple of PyTorch's; int8 on a CPU with dot products of 8-bit numbers.
AT_LEAST = {"int8": 3.0, "float32": 1.4}
# Largest change of the workers' memory, in bytes, after the 20th photo.
MEMORY_CHANGE = 50e6


def define_flags():
    flags.DEFINE_string("models", "build/face_parsing", "Folder of face_parsing_float32.tflite and the int8 one.")
    flags.DEFINE_integer("rounds", 3, "Processes that time each candidate.", lower_bound=1)
    flags.DEFINE_integer("photos", 200, "Photos of the folder.", lower_bound=1)
    flags.DEFINE_integer("many", 2000, "Photos of the folder that memory is watched on.", lower_bound=100)


def measure(options):
    """Times the candidates; then `memory`: [label files, bytes] each second from the 20th file of int8 on."""
    from keras_bisenet.export.quantization import calibration

    models = pathlib.Path(options.models).absolute()
    with tempfile.TemporaryDirectory() as scratch:
        photos, many, results = (pathlib.Path(scratch, name) for name in ("photos", "many", "results"))
        photos.mkdir()
        for number, photo in enumerate(calibration.variations(SIZE, options.photos).images):
            Image.fromarray(photo).save(photos / f"{number:04d}.jpg", quality=95)
        seconds = processes.alternate(NAMES, options.rounds, lambda name: _time(name, photos, results, models))
        many.mkdir()
        for number, file in zip(range(options.many), itertools.cycle(sorted(photos.iterdir()))):
            os.link(file, many / f"{number:05d}.jpg")
        samples = []

        def sample(session):
            count = sum(1 for _ in results.rglob("*.png"))
            if count >= 20:
                samples.append([count, process_memory.of_session(session)])

        processes.watch(_command(many, results, models, "int8"), 1, sample)
    # Once all files are written, the processes end one after the other.
    memory = [sample for sample in samples if sample[0] < samples[-1][0]]
    return {"photos": options.photos, "seconds": seconds, "memory": memory}


def _time(name, photos, results, models):
    """Seconds of a process that labels a folder."""
    log = results.with_name("log")
    if name == "torch":
        arguments = {"photos": str(photos), "output_dir": str(results)}
        _, finished = processes.call("benchmarks.throughput.run:label_folder", arguments, log)
    else:
        finished = processes.run(_command(photos, results, models, name), log)
    written, expected = len(list(results.rglob("*.png"))), len(list(photos.iterdir()))
    if written != expected:
        raise processes.BenchmarkError(f"{NAMES[name]} wrote {written} of {expected} label files")
    shutil.rmtree(results)
    return finished.seconds


def _command(photos, results, models, precision):
    model = models / f"face_parsing_{precision}.tflite"
    return [sys.executable, "scripts/parse_faces.py", photos, "--output_dir", results, "--model", model]


def label_folder(photos, output_dir):
    """Child process: writes a label PNG for each photo of a folder, one by one, as the original PyTorch script does."""
    import numpy as np
    import torch

    from benchmarks.common import networks
    from keras_bisenet.preprocessing import MEAN, STD
    from weight_port.reference import torch_network

    torch.set_grad_enabled(False)
    network = torch_network.Reference(*networks.load()).network
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
    output_dir = pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    for path in sorted(pathlib.Path(photos).iterdir()):
        photo = Image.open(path).convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
        tensor = torch.from_numpy(np.asarray(photo).transpose(2, 0, 1).astype(np.float32) / 255)
        logits = network(((tensor - mean) / std)[None])[0]
        labels = logits[0].argmax(0).numpy().astype(np.uint8)
        Image.fromarray(labels).save(output_dir / f"{path.stem}.png")


def _checks(results):
    seconds = results["seconds"]
    for name, least in AT_LEAST.items():
        ratio = statistics.ratio(seconds["torch"], seconds[name])
        text = f"{NAMES[name]}: {ratio.text(2)} times the photos a second of {NAMES['torch']}"
        applies = name != "int8" or results["machine"]["int8_dot_product"]
        yield reporting.threshold(text, f"required are {least:.1f}", ratio.median >= least, applies)
    (start, first), *others = results["memory"]
    change = max((held - first for _, held in others), key=abs, default=0)
    text = f"memory from photo {start} to {results['memory'][-1][0]}: {change / 1e6:+.0f} MB at most"
    allowed = f"accepted are {MEMORY_CHANGE / 1e6:.0f} MB either way"
    yield reporting.threshold(text, allowed, abs(change) <= MEMORY_CHANGE)


def _body(results):
    count = results["photos"]
    speeds = {name: [count / seconds for seconds in found] for name, found in results["seconds"].items()}
    rows = [(title, statistics.spread(speeds[name]).text(2)) for name, title in NAMES.items()]
    head = f"{count} photos of {SIZE[0]}x{SIZE[1]}, from JPEG to label PNG", "photos a second"
    yield reporting.table(head, rows)


_READING = f"Whole processes, start included. {reporting.ROUNDS} Memory is that of all processes together (PSS)."
REPORT = reporting.Report(
    "A folder of photos", _body, _checks, _READING, packages=("ai-edge-litert", "pillow", "torch")
)

if __name__ == "__main__":
    experiment.main(__file__, "THROUGHPUT.md", define_flags, measure, REPORT)
