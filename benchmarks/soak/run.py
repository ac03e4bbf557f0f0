"""Runs 10,000 inferences and 500 training steps, and shows whether memory, open files and threads stay as they are.

Also whether the last result of a photo is the first one, bit by bit. Writes ENDURANCE.md, endurance.json and
endurance.png. Exit status 0 only if every threshold holds. (Linux only.)

Example:
  .venv/bin/python -m benchmarks.soak.run
"""

import hashlib
import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl import flags
from PIL import Image

from benchmarks.common import experiment, processes, reporting, statistics
from benchmarks.common.process_memory import held
from benchmarks.common.reporting import Check
from keras_bisenet import FaceParser
from keras_bisenet.utils import images

# Samples of the process memory over a run, and the longest time that a run may take on a busy machine.
SAMPLES, HOURS = {"inference": 200, "training": 50}, 6
RUNS = {"inference": "calls of FaceParser", "training": "training steps"}
# Largest growth from the first third to the last, in bytes. The labels of a photo take 0.2 MB, the tensors of a
# training step 10 MB and more: a leak of one in a hundred would exceed this.
GROWTH = {"inference": 10e6, "training": 50e6}

_READING = """\
Each run is a process of its own. Memory is that of the process (RSS) after Python's garbage collection. The first tenth
is the warm-up; of the rest, the median of the last third is compared with that of the first third. Photos of four sizes
alternate, and every twentieth call asks for probabilities instead of labels. The training is `train_and_evaluate`, with
its evaluations, checkpoints, logs and pictures."""
# Sizes of the photos: that of the bundled network, smaller, larger, odd.
SIZES = ((512, 512), (301, 203), (640, 480), (97, 512))


def define_flags():
    flags.DEFINE_integer("inferences", 10_000, "Calls of FaceParser.", lower_bound=200)
    flags.DEFINE_integer("steps", 500, "Training steps.", lower_bound=200)


def measure(options):
    """Runs both; dict of the results of `inference` and `training`."""
    results = {}
    for name, count in (("inference", options.inferences), ("training", options.steps)):
        arguments = {"count": count, "every": count // SAMPLES[name]}
        results[name], finished = processes.call(f"benchmarks.soak.run:{name}", arguments, timeout=3600 * HOURS)
        print(f"{count:,} {RUNS[name]} in {finished.seconds:.0f} s", flush=True)
    return results


def inference(count, every, model=None):
    """Child process: parses photos of a few sizes in alternating order, with one `FaceParser`, `count` times.

    A sample, after `every` so many calls, is [number of calls, bytes, open files, threads]. `changed` is the number of
    calls that returned another array than the first call with that photo.
    """
    parser = FaceParser(model)
    photos = [np.roll(images.read(images.BUNDLED, size), 11, axis=1) for size in SIZES]
    samples, first, changed = [], {}, 0
    for number in range(1, count + 1):
        # Probabilities take 19 times the memory of a photo in float32.
        soft, which = number % 20 == 0, number % 7 % len(photos)
        array = (parser.probabilities if soft else parser)(photos[which])
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        changed += digest != first.setdefault((soft, which), digest)
        del array
        if number % every == 0:
            samples.append([number, *held()])
    return {"samples": samples, "changed": changed}


def training(count, every):
    """Child process: `count` steps of `train_and_evaluate`, with samples as of `inference`, and the losses it logs."""
    from keras_bisenet.training import configs, loop, reports

    small = {"num_classes": 3, "crop_size": 64, "batch_size": 4, "learning_rate": 1e-3, "ema_decay": 0.9}
    often = {"warmup_steps": count // 10, "evaluate_every": count // 10, "checkpoint_every": count // 20}
    config = configs.TrainConfig(steps=count, **small, **often)
    samples, losses, log = [], [], reports.Reports.step

    def watch(self, step, mean, *arguments):
        log(self, step, mean, *arguments)
        losses.append(float(mean.sum()))
        if step >= every + (samples[-1][0] if samples else 0):
            samples.append([step, *held()])

    with tempfile.TemporaryDirectory() as scratch, mock.patch.object(reports.Reports, "step", watch):
        data, workdir = pathlib.Path(scratch, "data"), pathlib.Path(scratch, "run")
        _write_data(data)
        loop.train_and_evaluate(config, workdir, data)
    return {"samples": samples, "losses": [losses[0], losses[-1]]}


def _write_data(folder):
    """Crops of the bundled photo, labeled by their brightness: eight to train on, two to validate with."""
    photo = images.read(images.BUNDLED, (200, 200))
    crops = [photo[10 * number : 10 * number + 96, 8 * number : 8 * number + 112] for number in range(10)]
    labels = [(crop.mean(-1) // 86).astype(np.uint8) for crop in crops]
    for name, pictures in (("images", crops), ("labels", labels)):
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / name / f"{number}.png")
    (folder / "train.txt").write_text("".join(f"{number}\n" for number in range(8)))
    (folder / "val.txt").write_text("8\n9\n")


def after_warm_up(samples):
    """The samples, see `inference`, after the first tenth, in which caches fill and libraries start their threads."""
    return [sample for sample in samples if sample[0] > 0.1 * samples[-1][0]]


def thirds(samples):
    """Median bytes of the first and of the last third of the samples after the warm-up."""
    memory = [sample[1] for sample in after_warm_up(samples)]
    third = max(len(memory) // 3, 1)
    return statistics.median(memory[:third]), statistics.median(memory[-third:])


def growth(samples):
    """Bytes by which the median of the last third of the samples exceeds that of the first third."""
    first, last = thirds(samples)
    return last - first


def handles(samples):
    """The largest increase of open files, and of threads, after the warm-up: at least 0."""
    kept = after_warm_up(samples)
    return tuple(max(sample[place] for sample in kept) - kept[0][place] for place in (2, 3))


def _checks(results):
    for run, name in RUNS.items():
        samples = results[run]["samples"]
        more, (files, threads), done = growth(samples), handles(samples), f"{samples[-1][0]:,} {name}"
        text = f"{done}: memory {more / 1e6:+.1f} MB, accepted are {GROWTH[run] / 1e6:+.0f} MB"
        yield Check(text, more <= GROWTH[run])
        yield Check(f"{done}: {files} more open files, {threads} more threads, accepted are 0", files + threads == 0)
    changed, (first, last) = results["inference"]["changed"], results["training"]["losses"]
    yield Check(f"{changed} results differ from the first of the same photo, accepted are 0", not changed)
    yield Check(f"the loss went from {first:.3f} to {last:.3f}, required is less", last < first)


def _body(results):
    rows = []
    for run, name in RUNS.items():
        samples = after_warm_up(results[run]["samples"])
        for done, memory, *counts in (samples[0], samples[-1]):
            rows.append((f"{done:,} {name}", f"{memory / 1e6:.1f}", *map(str, counts)))
    yield reporting.table(("after", "memory, MB", "open files", "threads"), rows)


def _draw(results):
    from benchmarks.common import plots

    figure = plots.figure(3.6)
    for axes, (run, name) in zip(figure.subplots(1, len(RUNS)), RUNS.items(), strict=True):
        samples = results[run]["samples"]
        done, memory = [sample[0] for sample in samples], [sample[1] / 1e6 for sample in samples]
        limit = (thirds(samples)[0] + GROWTH[run]) / 1e6
        axes.plot(done, memory, color=plots.OURS)
        plots.threshold(axes, done[-1], limit, "threshold")
        plots.tidy(axes, name)
        axes.set_ylim(0, 1.25 * max(limit, *memory))
        axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.axes[0].set_ylabel("memory, MB")
    return figure


PACKAGES = "ai-edge-litert", "keras", "tensorflow"
REPORT = reporting.Report("Long runs", _body, _checks, _READING, packages=PACKAGES, draw=_draw)

if __name__ == "__main__":
    experiment.main(__file__, "ENDURANCE.md", define_flags, measure, REPORT)
