"""Measures on photos with ground truth what each choice in the int8 export is worth.

Writes QUANTIZATION.md and quantisation.json: the files of every precision, the int8 file with one choice changed at a
time, and with one part of the network in int8 at a time. Exit status 0 only if every limit holds.

--data is a folder of labelled photos, as train.py takes it; train is what to calibrate on, val what to compare on.

Example:
  python benchmarks/quantization/run.py --data celebamask
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import shlex
import sys

from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SIZE = (512, 512)

# How many photos of train.txt files are calibrated on; the choices and the parts on the first of these.
CALIBRATION_COUNTS = (32, 100)

FLAGS = flags.FLAGS
flags.DEFINE_string("data", None, "Folder with photos, labels, train.txt and val.txt, see above.", required=True)
flags.DEFINE_string(
    "checkpoint", "default", "A .pth, .pt or .safetensors file, or a name in checkpoints/manifest.json."
)
flags.DEFINE_integer("limit", None, "Compare on only so many photos of val.txt.", lower_bound=2)
flags.DEFINE_string("output", "benchmarks/quantization/QUANTIZATION.md", "The report; a .json is put beside it.")


def run(data, checkpoint, limit, output, arguments):
    """Runs the experiment and writes the report.

    Args:
        data, checkpoint, limit, output: see the flags.
        arguments: what stood behind the command, for the report.

    Returns:
        Sentences about the limits that do not hold; empty if all do.

    Raises:
        CheckpointError, DataError, ImageError, OSError: with a message for the person who asked.
    """
    import numpy as np

    import keras_bisenet
    import weight_port
    from benchmarks.common import machine
    from benchmarks.quantization import report as quantisation_report
    from benchmarks.quantization.experiment import Experiment
    from keras_bisenet.data import folder
    from keras_bisenet.export.quantization import calibration
    from keras_bisenet.utils import images, resizing
    from weight_port import manifest

    state = weight_port.load(manifest.locate(checkpoint, ROOT / "checkpoints" / "manifest.json").path)
    architecture = weight_port.recognise(state)
    model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone)
    weight_port.apply(state, model.variables, architecture)

    train, val = folder.read_split(data, "train"), folder.read_split(data, "val")[:limit]
    train = [train[number] for number in np.random.default_rng(0).permutation(len(train))]
    folder.check(val, architecture.num_classes)
    calibrations = {
        f"{len(train[:count])} photos": [images.read(example.image, SIZE) for example in train[:count]]
        for count in CALIBRATION_COUNTS
    }
    photos = [images.read(example.image, SIZE) for example in val]
    truth = np.stack([resizing.resize_labels(folder.read_label(example.label), SIZE) for example in val])
    experiment = Experiment(model, photos, truth, next(iter(calibrations.values())))
    variations = calibration.variations(SIZE)
    calibrations[f"{len(variations.images)} {variations.source}"] = variations.images
    results = {
        "command": shlex.join(["python", "benchmarks/quantization/run.py", *map(machine.without_folders, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("ai-edge-litert", "keras", "numpy", "pillow", "tensorflow")
        },
        "photos": len(photos),
        "calibration_photos": len(train[: CALIBRATION_COUNTS[0]]),
        "files": experiment.files(calibrations),
        "choices": experiment.choices(),
        "parts": experiment.parts(),
    }
    output = pathlib.Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_name(f"{output.stem.lower()}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    output.write_text(quantisation_report.markdown(results), encoding="utf-8")
    print(f"wrote {output} and {output.stem.lower()}.json")
    return [sentence for sentence, holds in quantisation_report.verdicts(results) if not holds]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    from keras_bisenet.data.folder import DataError
    from keras_bisenet.utils.images import ImageError
    from weight_port import CheckpointError

    try:
        broken = run(FLAGS.data, FLAGS.checkpoint, FLAGS.limit, FLAGS.output, sys.argv[1:])
    except (CheckpointError, DataError, ImageError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write: {error.filename}: {error.strerror}")
    if broken:
        sys.exit(f"error: {'; '.join(broken)}")


if __name__ == "__main__":
    app.run(main)
