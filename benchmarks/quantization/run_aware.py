"""What quantisation-aware training brings: the int8 files of a network before and after it, on photos with truth.

Both int8 files are measured against the float32 network before it: what was lost on the way to 8 bits. Writes
QUANTIZE_AWARE.md and quantize_aware.json. Exit status 0 only if int8 loses less mean IoU after it than before.

Example:
  python scripts/train.py --data_dir DATA --workdir build/aware --config quantize_aware --init build/run/best.keras
  python benchmarks/quantization/run_aware.py --data DATA --before build/run/best.keras --after build/aware/last.keras
"""

import datetime
import json
import os
import pathlib
import shlex
import sys

from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

SIZE = (512, 512)

FLAGS = flags.FLAGS
flags.DEFINE_string("data", None, "Folder of labelled photos, as train.py takes it.", required=True)
flags.DEFINE_string("before", None, "A .keras file.", required=True)
flags.DEFINE_string("after", None, "A .keras file, trained on from it with --quantize_aware.", required=True)
flags.DEFINE_integer("calibration_count", 32, "Photos of the train split that both files are calibrated on.")
flags.DEFINE_integer("limit", None, "Compare on only so many photos of the val split.", lower_bound=1)
flags.DEFINE_string("output", "benchmarks/quantization/QUANTIZE_AWARE.md", "The report; a .json is put beside it.")


def run(data, files, calibration_count, limit, output, arguments):
    """Compares the files and writes the report.

    Args:
        data, calibration_count, limit, output: see the flags.
        files: dict, `"before"` and `"after"` -> path.
        arguments: what stood behind the command, for the report.

    Returns:
        Whether int8 loses less after it than before.

    Raises:
        DataError, ExportError, ImageError: with a message for the person who asked.
    """
    import numpy as np

    from benchmarks.common import machine
    from keras_bisenet import load_model
    from keras_bisenet.data import folder
    from keras_bisenet.utils import images

    train, val = folder.read_split(data, "train"), folder.read_split(data, "val")[:limit]
    chosen = np.random.default_rng(0).permutation(len(train))[:calibration_count]
    photos = [images.read(train[number].image, SIZE) for number in chosen]
    models = {name: load_model(path) for name, path in files.items()}
    results = {
        "command": shlex.join(
            ["python", "benchmarks/quantization/run_aware.py", *map(machine.without_folders, arguments)]
        ),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "photos": len(val),
        "calibration_photos": len(photos),
        "networks": compare(models, photos, val),
    }
    output = pathlib.Path(output)
    output.with_name("quantize_aware.json").write_text(json.dumps(results, indent=2) + "\n")
    output.write_text(report(results), encoding="utf-8")
    print(report(results))
    return results["networks"]["after"]["int8"] > results["networks"]["before"]["int8"]


def compare(models, photos, examples):
    """The float32 and int8 files of networks on labelled photos.

    Args:
        models: dict, name -> `BiSeNet`; the first is the one that labels are compared with.
        photos: list of `[*SIZE, 3]` uint8 RGB to calibrate on.
        examples: `folder.Example`s.

    Returns:
        dict, name -> dict: `float32` and `int8`: mean IoU; `same_labels` and `worst`: share of pixels, and of the worst
        photo, in which the int8 file has the label of the first network in float32.
    """
    import numpy as np
    from tqdm import tqdm

    from keras_bisenet.data import folder
    from keras_bisenet.export import convert
    from keras_bisenet.tflite.interpreter import TFLiteRunner
    from keras_bisenet.training.metrics import Scores, confusion
    from keras_bisenet.utils import images, resizing

    first = next(iter(models))
    runners = {
        (name, precision): TFLiteRunner(convert.to_tflite(model, SIZE, precision, photos=photos))
        for name, model in models.items()
        for precision in ("float32", "int8")
    }
    matrices, same = dict.fromkeys(runners, 0), {name: [] for name in models}
    for example in tqdm(examples, unit="photo", disable=None):
        photo = images.read(example.image, SIZE)[np.newaxis]
        truth = resizing.resize_labels(folder.read_label(example.label), SIZE)
        labels = {key: run(photo)["labels"][0] for key, run in runners.items()}
        for key in runners:
            matrices[key] = matrices[key] + confusion(truth, labels[key], models[first].num_classes)
        for name in models:
            same[name].append(float((labels[first, "float32"] == labels[name, "int8"]).mean()))
    return {
        name: {precision: Scores(matrices[name, precision]).mean_iou for precision in ("float32", "int8")}
        | {"same_labels": float(np.mean(same[name])), "worst": min(same[name])}
        for name in models
    }


def report(results):
    """The text of QUANTIZE_AWARE.md."""
    rows = [
        f"| {name} | {100 * row['float32']:.2f} | {100 * row['int8']:.2f} | {100 * row['same_labels']:.3f} % "
        f"| {100 * row['worst']:.2f} % |"
        for name, row in results["networks"].items()
    ]
    before, after = (results["networks"][name]["int8"] for name in ("before", "after"))
    reference = results["networks"]["before"]["float32"]
    return "\n".join(
        [
            "# What quantisation-aware training brings",
            "",
            "Written by the command below; not edited by hand.",
            "",
            f"Of the {100 * reference:.2f} points of mean IoU that the float32 network has, its int8 file loses "
            f"{100 * (reference - before):.2f}; trained with rounding, it loses {100 * (reference - after):.2f}. "
            "(The recipe learns the network's own probabilities, so nothing is gained from labels.)",
            "",
            "| network | float32 mIoU | int8 mIoU | int8 has the labels of float32 before | worst photo |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
            f"{results['photos']} photos of val, calibrated on {results['calibration_photos']} photos of train, "
            f"{SIZE[0]}x{SIZE[1]}; {results['date']}: `{results['command']}`",
            "",
        ]
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    from keras_bisenet.data.folder import DataError
    from keras_bisenet.utils.errors import ExportError
    from keras_bisenet.utils.images import ImageError

    files = {"before": FLAGS.before, "after": FLAGS.after}
    try:
        better = run(FLAGS.data, files, FLAGS.calibration_count, FLAGS.limit, FLAGS.output, sys.argv[1:])
    except (DataError, ExportError, ImageError) as error:
        sys.exit(f"error: {error}")
    if not better:
        sys.exit("error: int8 loses no less after the training than before it")


if __name__ == "__main__":
    app.run(main)
