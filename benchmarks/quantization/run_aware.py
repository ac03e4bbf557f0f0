"""Measures the effect of quantization-aware training: the int8 files of a network before and after it.

Both int8 files are compared with the float32 network before the training. Writes QUANTIZE_AWARE.md and
quantize_aware.json. Exit status 0 only if int8 has a higher mean IoU after the training than before.

Example:
  .venv/bin/python scripts/train.py --data_dir DATA --workdir build/aware --config quantize_aware --init best.keras
  .venv/bin/python -m benchmarks.quantization.run_aware --data DATA --before best.keras --after build/aware/last.keras
"""

from absl import flags

from benchmarks.common import experiment, reporting


def define_flags():
    flags.DEFINE_string("data", None, "Folder of labeled photos, as train.py takes it.", required=True)
    flags.DEFINE_string("before", None, "A .keras file.", required=True)
    flags.DEFINE_string("after", None, "A .keras file, trained on from it with --quantize_aware.", required=True)
    flags.DEFINE_integer("calibration_count", 32, "Photos of the train split that both files are calibrated on.")
    flags.DEFINE_integer("limit", None, "Compare on only so many photos of the val split.", lower_bound=1)


def measure(options):
    """Makes and compares the files; `same_labels` are those that int8 shares with float32 before the training."""
    from benchmarks.quantization import comparison
    from keras_bisenet import load_model
    from keras_bisenet.export import convert

    models = {name: load_model(path) for name, path in (("before", options.before), ("after", options.after))}
    num_classes = models["before"].num_classes
    photos, truth = comparison.read_val(options.data, options.limit, num_classes)
    calibration = comparison.read_train(options.data, options.calibration_count)
    networks, labels = {}, {}
    for name, model in models.items():
        scores = {}
        for precision in ("float32", "int8"):
            content = convert.to_tflite(model, comparison.SIZE, precision, photos=calibration)
            found = labels[name, precision] = comparison.labels(content, photos, f"{name}, {precision}")
            scores[precision] = comparison.mean_iou(truth, found, num_classes)
        same = comparison.summary(comparison.agreement(labels[name, "int8"], labels["before", "float32"]))
        networks[name] = {**scores, "same_labels": same["mean"], "worst": same["worst"]}
    return {"photos": len(photos), "calibration_photos": len(calibration), "networks": networks}


def _checks(results):
    full = 100 * results["networks"]["before"]["float32"]
    before, after = (full - 100 * results["networks"][name]["int8"] for name in ("before", "after"))
    text = f"int8 loses {before:.2f} of {full:.2f} points of mean IoU, and after training with rounding {after:.2f}"
    yield reporting.threshold(text, "required is less", after < before)


def _body(results):
    head = ("network", "float32 mIoU", "int8 mIoU", "int8 has the labels of float32 before", "worst photo")
    rows = []
    for name, row in results["networks"].items():
        scores = (f"{100 * row[precision]:.2f}" for precision in ("float32", "int8"))
        rows.append((name, *scores, f"{100 * row['same_labels']:.3f} %", f"{100 * row['worst']:.2f} %"))
    yield reporting.table(head, rows)


def _conditions(results):
    yield f"{results['photos']} photos of val, calibrated on {results['calibration_photos']} photos of train"


_READING = "The recipe learns the network's own probabilities, so nothing is gained from labels."
PACKAGES = "ai-edge-litert", "keras", "tensorflow"
REPORT = reporting.Report("The effect of quantization-aware training", _body, _checks, _READING, _conditions, PACKAGES)

if __name__ == "__main__":
    experiment.main(__file__, "QUANTIZE_AWARE.md", define_flags, measure, REPORT)
