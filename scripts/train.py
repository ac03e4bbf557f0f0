"""Trains or fine-tunes a BiSeNet in TensorFlow on a folder of labeled photos.

DATA holds images/<id>.jpg, labels/<id>.png (one class id per pixel), train.txt and val.txt. WORKDIR gets best.keras,
last.keras, the training state, logs and pictures; the same command resumes a run that was interrupted.

Examples:
  .venv/bin/python scripts/train.py --data_dir DATA --workdir run --init resnet18-f37072fd.pth
  .venv/bin/python scripts/train.py --data_dir DATA --workdir run --config fine_tune --init default --freeze backbone
  .venv/bin/python scripts/train.py --data_dir DATA --workdir run --config original --set steps=2000 --set crop_size=256
"""

import command
import networks
from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder of the labeled photos, see above.", required=True)
flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
flags.DEFINE_string("config", "fine_tune", "Name of a recipe in keras_bisenet/training/configs.py.")
flags.DEFINE_multi_string("set", [], "NAME=VALUE: changes one field of the recipe; may be given again.")
flags.DEFINE_string(
    "init",
    None,
    "First weights: a .keras file, a PyTorch checkpoint of this network, a torchvision ResNet, or a name in "
    "checkpoints/manifest.json. Default: random.",
)
flags.DEFINE_string(
    "teacher",
    None,
    "A network whose predictions are learned beside the labels, and on the photos of DATA/unlabelled.txt: a .keras "
    "file, a PyTorch checkpoint, or a name in the manifest. For recipes with pixel_weight or channel_weight.",
)
flags.DEFINE_list("freeze", None, "Beginnings of the names of layers that are not trained, such as backbone.")
flags.DEFINE_bool("quantize_aware", None, "Round to 8 bits in training, for a better int8 export; see the recipe.")
flags.DEFINE_bool("skip_bad", False, "Leave out examples that cannot be read, and count them.")


def run(options):
    """Does the whole run. Returns `metrics.Scores` of the best evaluation.

    Args:
        options: the flags' values, as attributes.

    Raises:
        UserError: of either package.
    """
    # What needs no TensorFlow is looked at before it is started, which takes seconds.
    from keras_bisenet.data import label_order
    from keras_bisenet.training import configs, splits

    config = configs.resolve(options.config, options.set, options.freeze, options.quantize_aware)
    splits.read(config, options.data_dir, unlabeled=options.teacher is not None)
    label_order.read(options.data_dir, config.num_classes)
    for path in (options.init, options.teacher):
        if path is not None:
            networks.check(path)

    from keras_bisenet.training import devices, loop

    with devices.together() as strategy:
        return loop.train_and_evaluate(
            config,
            options.workdir,
            options.data_dir,
            networks.first_weights(options.init, config),
            strategy,
            skip_bad=options.skip_bad,
            teacher=networks.read_teacher(options.teacher),
        )


def main(options):
    from keras_bisenet import classes

    scores = run(options)
    print(scores.table(classes.read(f"{options.workdir}/{classes.FILE}").names))
    print(f"best.keras and all else is in {options.workdir}")


if __name__ == "__main__":
    command.start(main, interrupted="the same command continues from the last checkpoint")
