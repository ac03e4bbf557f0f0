"""Trains or fine-tunes a BiSeNet in TensorFlow on a folder of labeled photos.

DATA holds images/<id>.jpg, labels/<id>.png (one class id per pixel), train.txt and val.txt. WORKDIR gets best.keras,
last.keras, the training state, logs and pictures; the same command resumes a run that was interrupted.

Examples:
  .venv/bin/python scripts/train.py --data_dir DATA --workdir run --init resnet18-f37072fd.pth
  .venv/bin/python scripts/train.py --data_dir DATA --workdir run --config fine_tune --init default --freeze backbone
  .venv/bin/python scripts/train.py --data_dir DATA --workdir run --config original --set steps=2000 --set crop_size=256
"""

import command
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
            locate(path)

    from keras_bisenet.training import devices, loop

    with devices.together() as strategy:
        return loop.train_and_evaluate(
            config,
            options.workdir,
            options.data_dir,
            first_weights(options.init, config),
            strategy,
            skip_bad=options.skip_bad,
            teacher=read_teacher(options.teacher),
        )


def locate(path):
    """`pathlib.Path` of a checkpoint, given by its path or its name in the manifest.

    Raises:
        CheckpointError, ModelError: there is none.
    """
    from keras_bisenet.inference import loading
    from weight_port import manifest

    return loading.check(path) if path.endswith(".keras") else manifest.locate(path, command.MANIFEST).path


def first_weights(path, config):
    """`loop.Start` of what `--init` names, and prints what of it is not used.

    Raises:
        CheckpointError, ModelError: it is no checkpoint, or belongs to another network.
        TrainingError: it has another backbone than the recipe, or is narrower.
    """
    import weight_port
    from keras_bisenet.training import slimming
    from keras_bisenet.training.loop import Start
    from keras_bisenet.utils.errors import TrainingError

    if path is None:
        return Start()
    model, architecture = read_network(path, config.num_classes)
    if model.backbone != config.backbone:
        raise TrainingError(
            f"{path}: its backbone is {model.backbone}; expected {config.backbone}; add --set backbone={model.backbone}"
        )
    if model.width < config.width:
        raise TrainingError(
            f"{path}: its width is {model.width:g}; expected at least {config.width:g}; add --set width={model.width:g}"
        )
    source = f"{architecture}: {path}"
    if model.width > config.width:
        model = slimming.slim(model, config.width)
        source += f", with its most useful channels for width {config.width:g}"
    weights = weight_port.keras_weights(model.variables)
    if architecture.num_classes is None:
        weights = {path: array for path, array in weights.items() if path.startswith("backbone_")}
    elif architecture.num_classes != config.num_classes:
        heads = sorted(path for path in weights if path.split("/")[0].endswith("_logits"))
        weights = {path: array for path, array in weights.items() if path not in heads}
        print(f"replaced for {config.num_classes} classes, from random weights: {', '.join(heads)}")
    print(f"starts from {source}")
    return Start(path, weights)


def read_teacher(path):
    """`Teacher` of what `--teacher` names; None for None.

    Raises:
        CheckpointError, ModelError: it is no checkpoint of this network.
    """
    from keras_bisenet.training.teacher import Teacher

    if path is None:
        return None
    model, architecture = read_network(path)
    print(f"learns from {architecture}: {path}")
    return Teacher(path, model)


def read_network(path, backbone_classes=None):
    """Reads a `.keras` file or a PyTorch checkpoint.

    Args:
        path: the file, or a name in the manifest.
        backbone_classes: classes of the network that a backbone alone is put into; None to refuse one.

    Returns:
        `BiSeNet` and its `weight_port.Architecture`.

    Raises:
        CheckpointError, ModelError: it is no checkpoint, or belongs to another network.
    """
    import keras_bisenet
    import weight_port
    from weight_port import layouts

    if path.endswith(".keras"):
        model = keras_bisenet.load_model(path)
        return model, weight_port.Architecture(layouts.ZLLRUNNING, model.backbone, model.num_classes, model.width)
    state = weight_port.load(locate(path))
    if backbone_classes and "conv1.weight" in state and "layer1.0.conv1.weight" in state:
        architecture = weight_port.recognize_backbone(state)
    else:
        architecture = weight_port.recognize(state)
    classes = architecture.num_classes or backbone_classes
    model = keras_bisenet.BiSeNet(classes, architecture.backbone, architecture.width)
    weight_port.apply(state, model.variables, architecture)
    return model, architecture


def main(options):
    from keras_bisenet import classes

    scores = run(options)
    print(scores.table(classes.read(f"{options.workdir}/{classes.FILE}").names))
    print(f"best.keras and all else is in {options.workdir}")


if __name__ == "__main__":
    command.start(main, interrupted="the same command continues from the last checkpoint")
