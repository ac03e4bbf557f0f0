"""Compares the file for NPUs with the int8 file, on a CPU: labels like PyTorch's, and time from photo to labels.

--data is a folder of labeled photos, as train.py takes it: train is for calibration, val for the comparison. Writes
NPU.md and npu.json. Exit status 0 only if every threshold holds.

Example:
  .venv/bin/python -m benchmarks.npu.run --data celebamask
"""

import pathlib
import tempfile

import numpy as np
from absl import flags

from benchmarks.common import experiment, networks, processes, reporting, statistics
from benchmarks.common.reporting import Check
from keras_bisenet.utils import resizing

CALIBRATION_PHOTOS = 32
# Of the file for NPUs: least part of the pixels with PyTorch's labels, largest time over that of int8.
SAME_LABELS, MOST_TIME = 0.996, 1.05
# File -> its output, both of precision int8.
OUTPUTS = {"int8": "labels", "npu": "scores"}


def define_flags():
    flags.DEFINE_string("data", None, "Folder with photos, labels, train.txt and val.txt, see above.", required=True)
    flags.DEFINE_string("checkpoint", "default", "A checkpoint file, or a name in checkpoints/manifest.json.")
    flags.DEFINE_integer("limit", None, "Compare on only so many photos of val.txt.", lower_bound=2)
    flags.DEFINE_integer("rounds", 60, "Photos that each file is timed with, in turns.", lower_bound=1)
    flags.DEFINE_integer("threads", 2, "Threads of a run.", lower_bound=1)


def measure(options):
    """Exports, compares and times both files.

    Returns:
        dict: `photos`, `threads`; `files`: name -> results; `labels`: milliseconds of each way from scores to labels.
    """
    from benchmarks.quantization import comparison
    from keras_bisenet import FaceParser, normalize
    from keras_bisenet.export import convert
    from keras_bisenet.tflite.interpreter import TFLiteRunner
    from weight_port.reference import torch_network

    state, architecture = networks.load(options.checkpoint)
    photos, truth = comparison.read_val(options.data, options.limit, architecture.num_classes)
    train = comparison.read_train(options.data, CALIBRATION_PHOTOS)
    model, reference = networks.in_keras(state, architecture), torch_network.Reference(state, architecture)
    expected = np.concatenate([reference(normalize(photo[None]).numpy())[0].argmax(-1) for photo in photos])
    with tempfile.TemporaryDirectory() as scratch:
        files, parsers = {}, {}
        for name, output in OUTPUTS.items():
            path = pathlib.Path(scratch, f"{name}.tflite")
            path.write_bytes(convert.to_tflite(model, comparison.SIZE, "int8", output=output, photos=train))
            parsers[name] = FaceParser(path, options.threads)
            found = np.stack(parsers[name](photos))
            files[name] = {
                "same_labels": comparison.summary(comparison.agreement(found, expected)),
                "mean_iou": comparison.mean_iou(truth, found, architecture.num_classes),
                "bytes": path.stat().st_size,
                "milliseconds": [],
            }
        run = TFLiteRunner(path.read_bytes(), options.threads)
    ways = {"aligned_labels": resizing.aligned_labels, "all_scores": _labels_of_all_scores}
    labels = {name: [] for name in ways}
    for number in range(options.rounds):
        photo = photos[number % len(photos)]
        for name, parser in parsers.items():
            files[name]["milliseconds"].append(_milliseconds(parser, photo))
        scores = run(photo[None])["scores"][0]
        for name, way in ways.items():
            labels[name].append(_milliseconds(way, scores, comparison.SIZE))
    return {"photos": len(photos), "threads": options.threads, "files": files, "labels": labels}


def _labels_of_all_scores(scores, size):
    return resizing.resize_aligned(scores.astype("float32"), size).argmax(-1)


def _milliseconds(function, *arguments):
    return 1000 * processes.time_calls(lambda: function(*arguments), 0, 1)[0]


def _checks(results):
    npu, int8 = results["files"]["npu"], results["files"]["int8"]
    same = npu["same_labels"]["mean"]
    taken = statistics.ratio(npu["milliseconds"], int8["milliseconds"]).median
    yield Check(f"npu: {same:.3%} same labels, required are at least {100 * SAME_LABELS:g} %", same >= SAME_LABELS)
    yield Check(f"npu takes {taken:.3f} of the time of int8, accepted are {MOST_TIME:g}", taken <= MOST_TIME)


def _body(results):
    rows = []
    for name, row in results["files"].items():
        same = (f"{row['same_labels'][key]:.3%}" for key in ("mean", "worst"))
        median = statistics.median(row["milliseconds"])
        rows.append((name, *same, f"{100 * row['mean_iou']:.3f}", f"{median:.1f}", f"{row['bytes'] / 1e6:.2f}"))
    yield reporting.table(("file", "same labels: mean", "worst photo", "mIoU", "ms", "MB"), rows)
    names = {"aligned_labels": "where labels differ, in whole numbers (as it ships)", "all_scores": "all, in float32"}
    rows = ((names[name], f"{statistics.median(times):.2f}") for name, times in results["labels"].items())
    yield reporting.table(("scores that are computed for the labels", "ms"), rows)


REPORT = reporting.Report(
    title="The file for NPUs, on a CPU",
    body=_body,
    checks=_checks,
    reading=(
        "*Same labels* is the part of the pixels that get the label of PyTorch in float32, on average over the photos "
        "and on the photo where it is least; mIoU is against the ground truth. Time is from a uint8 photo of 512x512 "
        "to its labels by `FaceParser`, the median of the rounds; the files take turns, photo by photo, and the ratio "
        "is the median of those of the rounds. No NPU was at hand."
    ),
    conditions=lambda results: [f"{results['photos']} photos of val.txt", f"{results['threads']} threads"],
    packages=("ai-edge-litert", "keras", "numpy", "tensorflow", "torch"),
)

if __name__ == "__main__":
    experiment.main(__file__, "NPU.md", define_flags, measure, REPORT)
