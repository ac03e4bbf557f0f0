"""Compares the networks that ship, at several sizes of photos: quality on labeled photos, time, size and operations.

Quality is measured with the .tflite files on photos that no network was trained on: --data is a folder of labeled
photos, as train.py takes it; train is for the calibration of int8, val for the figures. Writes NETWORKS.md,
networks.json and networks.png.

Example:
  .venv/bin/python -m benchmarks.networks.run --data celebamask
"""

import itertools
import math
import pathlib
import tempfile

import tqdm
from absl import flags

from benchmarks.common import experiment, networks, plots, reporting, speed, statistics
from benchmarks.common.reporting import Check
from keras_bisenet.data import folder
from keras_bisenet.training import evaluation
from keras_bisenet.utils import images

PRECISIONS = ("float32", "int8")
CALIBRATION_PHOTOS = 32
# Of the int8 file of a smaller network at 512x512: largest time over that of the default's, if one is required, largest
# loss of mean IoU in points, largest size in MB.
REQUIRED = {"fast": (0.38, 2.0, 3.6), "tiny": (None, 6.0, 1.0)}
# Largest loss of mean IoU from float32 to int8, in points.
MOST_LOSS = 0.2

_MEANS = {"mean_iou": "mean IoU", "mean_f1": "mean F1", "mean_boundary_f1": "boundary F1"}


def define_flags():
    flags.DEFINE_string("data", None, "Folder with photos, labels, train.txt and val.txt, see above.", required=True)
    flags.DEFINE_list("checkpoints", ["default", *REQUIRED], "Names in checkpoints/manifest.json, or files.")
    flags.DEFINE_list("sizes", ["512", "384", "256"], "Sides of the square photos that the networks take.")
    flags.DEFINE_integer("limit", None, "Compare on only so many photos of val.txt.", lower_bound=2)
    flags.DEFINE_integer("rounds", 6, "Processes that time each file.", lower_bound=1)
    flags.DEFINE_integer("runs", 20, "Runs of a process that count.", lower_bound=1)
    flags.DEFINE_integer("threads", 2, "Threads of a run.", lower_bound=1)


def measure(options):
    """Exports, evaluates and times every network at every size.

    Returns:
        dict: `photos` and `threads`; `rows`: list of dicts, see `_export`, and `milliseconds`: median of each round.
    """
    from benchmarks.quantization import comparison

    examples = folder.read_split(options.data, "val")[: options.limit]
    photos = comparison.read_train(options.data, CALIBRATION_PHOTOS)
    with tempfile.TemporaryDirectory() as scratch:
        rows, files = {}, {}
        for checkpoint in options.checkpoints:
            name, model = pathlib.Path(checkpoint).stem, networks.in_keras(*networks.load(checkpoint))
            folder.check(examples, model.num_classes)
            for side in map(int, options.sizes):
                resized = [images.resize(photo, (side, side)) for photo in photos]
                for row in _export(scratch, name, model, examples, resized):
                    rows[row["file"]] = row
                    files[row["file"]] = pathlib.Path(scratch, row["file"]), resized[0]
        for file, milliseconds in speed.time_files(files, options).items():
            rows[file]["milliseconds"] = milliseconds
    return {"photos": len(examples), "threads": options.threads, "rows": list(rows.values())}


def _export(scratch, name, model, examples, photos):
    """Writes the files of a network for the size of some photos, and evaluates them; a row for each."""
    from keras_bisenet import FaceParser
    from keras_bisenet.export import convert

    size = photos[0].shape[:2]
    for precision in PRECISIONS:
        file = pathlib.Path(scratch, f"{name}_{size[0]}_{precision}.tflite")
        file.write_bytes(convert.to_tflite(model, size, precision, photos=photos))
        progress = tqdm.tqdm(examples, file.name, unit="photo", leave=False, disable=None)
        found = evaluation.evaluate(FaceParser(file), progress, model.num_classes)
        print(f"{file.name}: mean IoU {found.means()['mean_iou']:.2%}", flush=True)
        yield {
            "file": file.name,
            "network": name,
            "precision": precision,
            "size": size[0],
            "bytes": file.stat().st_size,
            "gflop": gflop(model, size),
            "means": found.means(),
            "intervals": found.intervals,
        }


def gflop(model, size):
    """Floating-point operations of the convolutions on the way to the main head, in billions; a multiply-add is two."""
    total = 0
    for layer in model.with_config(input_shape=(*size, 3)).layers:
        auxiliary = layer.name.startswith(("conv_out16", "conv_out32"))
        if type(layer).__name__ == "Conv2D" and not auxiliary:
            total += 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
    return total / 1e9


def _row(results, network, precision, size):
    wanted = {"network": network, "precision": precision, "size": size}
    return next((row for row in results["rows"] if row | wanted == row), None)


def _checks(results):
    for row in results["rows"]:
        exact = _row(results, row["network"], "float32", row["size"])
        if row["precision"] == "int8" and row["size"] == 512 and exact:
            loss = 100 * (exact["means"]["mean_iou"] - row["means"]["mean_iou"])
            text = f"{row['network']}: int8 loses {loss:.2f} points of mean IoU, accepted are {MOST_LOSS:g}"
            yield Check(text, loss <= MOST_LOSS)
    default = _row(results, "default", "int8", 512)
    for name, required in REQUIRED.items():
        smaller = _row(results, name, "int8", 512)
        if default and smaller:
            yield from _smaller_checks(name, smaller, default, *required)


def _smaller_checks(name, row, default, most_time, most_points, most_size):
    if most_time is not None:
        time = statistics.ratio(row["milliseconds"], default["milliseconds"])
        text = f"{name} takes {time.text(3)} of the time of default in int8, accepted are {most_time:g}"
        yield Check(text, time.median <= most_time)
    loss = 100 * (default["means"]["mean_iou"] - row["means"]["mean_iou"])
    text = f"{name} has {loss:.2f} points of mean IoU less than default in int8, accepted are {most_points:g}"
    yield Check(text, loss <= most_points)
    size = row["bytes"] / 1e6
    yield Check(f"{name} has {size:.2f} MB in int8, accepted are {most_size:g}", size <= most_size)


def _body(results):
    rows = []
    for row in results["rows"]:
        scores = []
        for name in _MEANS:
            low, high = row["intervals"][name]
            scores.append(f"{100 * row['means'][name]:.1f} ({100 * low:.1f}-{100 * high:.1f})")
        milliseconds = statistics.spread(row["milliseconds"]).text(1)
        kind = (row["network"], row["precision"], f"{row['size']}x{row['size']}")
        rows.append((*kind, *scores, milliseconds, f"{row['bytes'] / 1e6:.1f}", f"{row['gflop']:.1f}"))
    yield reporting.table(("network", "precision", "photo", *_MEANS.values(), "ms", "MB", "GFLOP"), rows)


def _draw(results):
    drawn = plots.figure(5)
    axes = drawn.subplots()
    shown = dict.fromkeys(row["network"] for row in results["rows"])
    for network, color in zip(shown, itertools.cycle((plots.OTHER, plots.OURS, plots.THRESHOLD))):
        for precision, marker in zip(PRECISIONS, "os", strict=True):
            rows = [row for row in results["rows"] if (row["network"], row["precision"]) == (network, precision)]
            x = [statistics.median(row["milliseconds"]) for row in rows]
            y = [100 * row["means"]["mean_iou"] for row in rows]
            axes.plot(x, y, color=color, marker=marker, label=f"{network}, {precision}")
            for row, place in zip(rows, zip(x, y, strict=True), strict=True):
                axes.annotate(row["size"], place, (5, -10), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds from photo to labels")
    axes.set_ylabel("mean IoU, %")
    axes.legend(frameon=False)
    plots.tidy(axes, "Quality and time; the numbers are the side of the photo in pixels")
    return drawn


REPORT = reporting.Report(
    title="The networks that ship",
    body=_body,
    checks=_checks,
    reading=(
        "Quality is that of the labels at the size of the photos of the data set, 512x512, whatever size the network "
        "takes; in brackets the 95 % bootstrap interval over the photos. Boundary F1 counts border pixels that have a "
        f"border of the class within 3 pixels. Time is from a uint8 photo to its labels. {reporting.ROUNDS}"
    ),
    conditions=lambda results: [f"{results['photos']} photos of val.txt", f"{results['threads']} threads"],
    packages=("ai-edge-litert", "keras", "numpy", "pillow", "tensorflow"),
    draw=_draw,
)

if __name__ == "__main__":
    experiment.main(__file__, "NETWORKS.md", define_flags, measure, REPORT)
