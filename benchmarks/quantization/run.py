"""Measures on photos with ground truth what 8 bits cost, and the effect of each choice in the int8 export.

Compares the files of every precision, the int8 file with one choice changed at a time, and with one part of the network
in int8 at a time. Writes QUANTIZATION.md and quantization.json. Exit status 0 only if every threshold holds.

--data is a folder of labeled photos, as train.py takes it: train is for calibration, val for the comparison.

Example:
  .venv/bin/python -m benchmarks.quantization.run --data celebamask
"""

from absl import flags

from benchmarks.common import experiment, networks, reporting
from benchmarks.common.reporting import Check

# Photos of the train split for calibration; the choices and the parts take the first of these.
CALIBRATION_COUNTS = (32, 100)
# Of int8: least part of the pixels with the labels of float32, largest difference of mean IoU, largest file. There is
# none for dynamic: the runtime rounds its activations, and no export changes that.
SAME_LABELS, MEAN_IOU_POINTS, MEGABYTES = 0.997, 0.1, 13.4

_READING = """\
*Same labels* is the part of the pixels that get the label of the float32 file, on average over the photos and on the
photo where it is least. mIoU is against the ground truth: intersection over union of each class, summed over all
photos, averaged over the classes; a class that neither the file nor the ground truth has anywhere is left out. *Change*
is the difference of the mean from that of the file as the export makes it, in points of a per cent, with its standard
error over the photos: below two of these, the photos do not tell the two apart. A hundredth of a point may be luck even
then, other photos to calibrate on do as much. Each choice is changed alone. Ranges are of pixels drawn at random, as in
the export, unless the row says all. Every file has float32 logits from the last convolution on, except in the rows
about the head. A part in int8 has its input, its kernels and its results rounded."""


def define_flags():
    flags.DEFINE_string("data", None, "Folder with photos, labels, train.txt and val.txt, see above.", required=True)
    flags.DEFINE_string("checkpoint", "default", "A checkpoint file, or a name in checkpoints/manifest.json.")
    flags.DEFINE_integer("limit", None, "Compare on only so many photos of val.txt.", lower_bound=2)


def measure(options):
    """Makes and compares the files; `photos` and `calibration_photos` are numbers, for the rows see `Comparison`."""
    from benchmarks.quantization import comparison
    from keras_bisenet.export.quantization import calibration

    state, architecture = networks.load(options.checkpoint)
    photos, truth = comparison.read_val(options.data, options.limit, architecture.num_classes)
    train = comparison.read_train(options.data, max(CALIBRATION_COUNTS))
    calibrations = {f"{len(train[:count])} photos": train[:count] for count in CALIBRATION_COUNTS}
    variations = calibration.variations(comparison.SIZE)
    calibrations[f"{len(variations.images)} {variations.source}"] = variations.images
    first = train[: CALIBRATION_COUNTS[0]]
    made = comparison.Comparison(networks.in_keras(state, architecture), photos, truth, first)
    counts = {"photos": len(photos), "calibration_photos": len(first)}
    return {**counts, "files": made.files(calibrations), "choices": made.choices(), "parts": made.parts()}


def _checks(results):
    (reference,) = (row for row in results["files"] if row["precision"] == "float32")
    for row in results["files"]:
        name, mean, megabytes = row["name"], row["same_labels"]["mean"], row["bytes"] / 1e6
        points = 100 * (row["mean_iou"] - reference["mean_iou"])
        if row["precision"] == "dynamic":
            yield Check(f"{name}: {mean:.3%} same labels", None)
        if row["precision"] == "int8":
            text = f"{name}: {mean:.3%} same labels, required are at least {100 * SAME_LABELS:g} %"
            yield Check(text, mean >= SAME_LABELS)
            text = f"{name}: mIoU {points:+.3f} points from float32's, accepted are {MEAN_IOU_POINTS:g} either way"
            yield Check(text, abs(points) <= MEAN_IOU_POINTS)
            yield Check(f"{name}: {megabytes:.2f} MB, accepted are {MEGABYTES:g}", megabytes <= MEGABYTES)


def _labels(row):
    return f"{row['same_labels']['mean']:.3%}", f"{row['same_labels']['worst']:.3%}"


def _change(row):
    return f"{100 * row['change']['mean']:+.3f} ± {100 * row['change']['error']:.3f}"


def _body(results):
    same = ("same labels: mean", "worst photo")
    yield "## The files"
    rows = (
        (row["name"], *_labels(row), f"{100 * row['mean_iou']:.3f}", f"{row['bytes'] / 1e6:.2f}")
        for row in results["files"]
    )
    yield reporting.table(("file", *same, "mIoU", "MB"), rows)
    yield "## The choices, one changed at a time"
    as_it_is, *others = results["choices"]
    rows = [(row["name"], *_labels(row), _change(row)) for row in others]
    rows = [(f"**{as_it_is['name']}**", *_labels(as_it_is), "-"), *rows]
    yield reporting.table(("int8 file", *same, "change, points"), rows)
    yield "## Where the loss comes from"
    rows = (
        (row["name"], *_labels(row["only"]), _labels(row["all_but"])[0], _change(row["all_but"]))
        for row in sorted(results["parts"], key=lambda row: row["only"]["same_labels"]["mean"])
    )
    alone = ("it alone in int8, same labels: mean", "worst photo", "it alone in float: mean")
    yield reporting.table(("part of the network", *alone, "change, points"), rows)


def _conditions(results):
    compared, calibrated_on = results["photos"], results["calibration_photos"]
    yield f"{compared} photos of val.txt; choices and parts are calibrated on {calibrated_on} photos of train.txt"


TITLE = "What 8 bits cost, and what the int8 export does about it"
PACKAGES = "ai-edge-litert", "keras", "numpy", "pillow", "tensorflow"
REPORT = reporting.Report(TITLE, _body, _checks, _READING, _conditions, PACKAGES)

if __name__ == "__main__":
    experiment.main(__file__, "QUANTIZATION.md", define_flags, measure, REPORT)
