"""Fine-tunes the default network on classes of your own, and exports it as an int8 .tflite.

Your photos and labels are a folder:

  mine/images/anna.jpg   any size; .png and the like will do, too
  mine/labels/anna.png   of the same size, 8-bit grayscale: each pixel is the number of its class, or 255 for none
  mine/train.txt         names without suffix, one a line: anna
  mine/val.txt           the same, other photos
  mine/labels.json       the classes, in the order of their numbers: {"classes": ["background", "beard", "other"]}

Without --data_dir a small folder is made of the bundled photo, with three classes, to see the whole way in a minute.
That network has seen one person alone: its figures say that the training works, not how good it is on others.

Examples:
  .venv/bin/python examples/fine_tune_on_your_classes.py
  .venv/bin/python examples/fine_tune_on_your_classes.py --data_dir mine --steps 2000
"""

import dataclasses
import os
import pathlib
import sys

try:
    from absl import app, flags, logging
except ModuleNotFoundError as error:
    sys.exit(
        f"error: this Python ({sys.executable}) has no {error.name}; 'make export' installs what the examples need "
        "into .venv: run them by .venv/bin/python"
    )

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MANIFEST = pathlib.Path(__file__).resolve().parents[1] / "checkpoints" / "manifest.json"
# Of the crops to train on, and of the photos that the exported file takes.
SIDE = 256
# What the small folder makes one class of; everything else is background.
FACE = ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "nose", "mouth", "u_lip", "l_lip")

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder of the labeled photos, see above. Default: a small one is made.")
flags.DEFINE_integer("steps", 120, "How long to train.", lower_bound=1)
flags.DEFINE_string("output_dir", "build/fine_tune", "Folder for everything that is written.")


def make_data(data_dir):
    """Writes the small folder: variations of the bundled photo, labeled by the default network, classes merged.

    Args:
        data_dir: `pathlib.Path` of an empty folder.
    """
    import numpy as np
    from PIL import Image

    from keras_bisenet import LABELS, FaceParser, classes
    from keras_bisenet.export.quantization import calibration

    parser = FaceParser()
    merged = np.zeros(len(LABELS), np.uint8)  # our class of each of the network's
    merged[[LABELS.index(name) for name in FACE]] = 1
    merged[LABELS.index("hair")] = 2
    for folder in ("images", "labels"):
        (data_dir / folder).mkdir()
    for split, count, seed in (("train", 12, 0), ("val", 4, 1)):
        names = [f"{split}_{number}" for number in range(count)]
        for name, photo in zip(names, calibration.variations((SIDE, SIDE), count, seed).images, strict=True):
            Image.fromarray(photo).save(data_dir / "images" / f"{name}.png")
            Image.fromarray(merged[parser(photo)]).save(data_dir / "labels" / f"{name}.png")
        (data_dir / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    of_data = classes.named(["background", "face", "hair"], palette={"face": "#f2c4a4"})
    (data_dir / classes.FILE).write_text(of_data.as_json(), encoding="utf-8")


def default_weights():
    """`loop.Start` of the default network, all but its last layers: those have a channel for each class."""
    import keras_bisenet
    import weight_port
    from keras_bisenet.training.loop import Start
    from weight_port import manifest

    state = weight_port.load(manifest.locate("default", MANIFEST).path)
    architecture = weight_port.recognize(state)
    model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone, architecture.width)
    weight_port.apply(state, model.variables, architecture)
    weights = weight_port.keras_weights(model.variables)
    return Start("default", {path: array for path, array in weights.items() if "_logits/" not in path})


def run(options):
    """Does all steps.

    Args:
        options: the flags' values, as attributes.

    Raises:
        UserError: of either package.
    """
    from PIL import Image

    from keras_bisenet import FaceParser, classes, load_model
    from keras_bisenet.data import folder
    from keras_bisenet.export import convert
    from keras_bisenet.export.quantization import calibration
    from keras_bisenet.tflite import metadata
    from keras_bisenet.training import configs, evaluation, loop, reports
    from keras_bisenet.utils import atomic, images
    from weight_port import manifest

    output = pathlib.Path(options.output_dir)
    data_dir = pathlib.Path(options.data_dir or output / "data")
    if options.data_dir is None:
        with atomic.staged(data_dir) as scratch:
            make_data(scratch)

    # What a mirrored photo exchanges is found by the names: l_hand and r_hand, or "left hand" and "right hand".
    own = classes.read(data_dir / classes.FILE)
    # The recipe of scripts/train.py --config fine_tune, changed for a few photos and two cores.
    config = dataclasses.replace(
        configs.FINE_TUNE,
        num_classes=len(own),
        steps=options.steps,
        crop_size=SIDE,
        batch_size=4,
        warmup_steps=min(10, options.steps),
        evaluate_every=max(options.steps // 2, 1),
        freeze=("backbone",),
    )
    # Goes on from its last checkpoint if it was interrupted. The folder gets best.keras, curve.png and predictions/.
    workdir = output / f"run_of_{options.steps}_steps"
    loop.train_and_evaluate(config, workdir, data_dir, default_weights())

    # int8 chooses its ranges on photos: take those that the app will see.
    best = workdir / "best.keras"
    photos = calibration.from_folder(data_dir / "images", (SIDE, SIDE)).images
    license_ = manifest.locate("default", MANIFEST).license
    info = metadata.ModelInfo(own, manifest.sha256(best), license=license_)
    content = convert.to_tflite(load_model(best), (SIDE, SIDE), "int8", photos=photos, info=info)
    with atomic.staged(output) as scratch:
        file = scratch / "own_classes_int8.tflite"
        file.write_bytes(content)
        parser, examples = FaceParser(file), folder.read_split(data_dir, "val")
        for name, predict in (("best.keras", FaceParser(best, image_size=(SIDE, SIDE))), (file.name, parser)):
            scores = evaluation.evaluate(predict, examples, len(own)).scores
            print(f"\n{name} on {len(examples)} photos\n{scores.table(own.names)}")
        rows = [(images.read(one.image), folder.read_label(one.label), parser(one.image)) for one in examples[:3]]
        Image.fromarray(reports.contact_sheet(rows, own.palette)).save(scratch / "result.png")
    print(f"\n{file.name} has the classes {', '.join(parser.class_names)}")
    print(f"it and result.png (photo, label, int8) are in {output}")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    logging.set_verbosity(logging.WARNING)
    import keras_bisenet
    import weight_port

    try:
        run(FLAGS)
    except (keras_bisenet.UserError, weight_port.UserError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
