"""How scripts read networks: `.keras` files, or PyTorch checkpoints by their path or their name in the manifest.

Both packages take part here, which never import each other.
"""

import pathlib

MANIFEST = pathlib.Path(__file__).resolve().parents[1] / "checkpoints" / "manifest.json"


def locate(name):
    """`weight_port.manifest.Checkpoint` of a file of any kind, or of a name in the manifest.

    Raises:
        CheckpointError: there is none.
    """
    from weight_port import manifest

    return manifest.locate(name, MANIFEST)


def check(path):
    """Raises what `read` does for a file that is not there or of another kind, without starting TensorFlow."""
    from keras_bisenet.inference import loading

    if path.endswith(".keras"):
        loading.check(path)
    else:
        locate(path)


def read(path, backbone_classes=None):
    """Reads a network.

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

    if path.endswith(".keras"):
        model = keras_bisenet.load_model(path)
        return model, _architecture(model)
    state = weight_port.load(locate(path).path)
    if backbone_classes and "conv1.weight" in state and "layer1.0.conv1.weight" in state:
        architecture = weight_port.recognize_backbone(state)
    else:
        architecture = weight_port.recognize(state)
    classes = architecture.num_classes or backbone_classes
    model = keras_bisenet.BiSeNet(classes, architecture.backbone, architecture.width)
    weight_port.apply(state, model.variables, architecture)
    return model, architecture


def read_state(path):
    """Reads a network as PyTorch has it.

    Args:
        path: `pathlib.Path` of a PyTorch checkpoint, or of a `.keras` file as `train.py` writes it.

    Returns:
        The state_dict, key -> array; its `weight_port.Architecture`; the `BiSeNet` of a `.keras` file in float32, None
        for a PyTorch checkpoint.

    Raises:
        CheckpointError, ModelError: the file is no such thing.
    """
    import keras_bisenet
    import weight_port

    if path.suffix != ".keras":
        state = weight_port.load(path)
        return state, weight_port.recognize(state), None
    model = keras_bisenet.load_model(path).with_config(dtype="float32", input_shape=(None, None, 3))
    architecture = _architecture(model)
    return weight_port.reverse(weight_port.keras_weights(model.variables), architecture.layout), architecture, model


def _architecture(model):
    import weight_port
    from weight_port import layouts

    return weight_port.Architecture(layouts.ZLLRUNNING, model.backbone, model.num_classes, model.width)


def open_parser(model, image_size):
    """Opens a model of any kind; PyTorch itself runs its checkpoints.

    Args:
        model: a `.tflite` file, or see `read`.
        image_size: (height, width) or None.

    Returns:
        Path of the file, its kind (`"keras"`, `"tflite"` or `"pytorch"`) and a `FaceParser`.

    Raises:
        CheckpointError, ImageError, ModelError: it cannot be opened.
    """
    import weight_port
    from keras_bisenet import FaceParser
    from keras_bisenet.inference import predictors
    from keras_bisenet.models.architecture import live_values
    from weight_port.reference import torch_network

    path = pathlib.Path(model)
    if path.suffix == ".tflite":
        return path, "tflite", FaceParser(path, image_size=image_size)
    if path.suffix == ".keras":
        return path, "keras", FaceParser(predictors.KerasNetwork(path, image_size))
    path = locate(model).path
    state = weight_port.load(path)
    architecture = weight_port.recognize(state)
    reference = torch_network.Reference(state, architecture)
    num_classes = architecture.num_classes
    values = live_values(num_classes, architecture.backbone, architecture.width)
    network = predictors.LogitsNetwork(lambda image: reference(image)[0], num_classes, image_size, values=values)
    return path, "pytorch", FaceParser(network)


def first_weights(path, config):
    """The first weights of a training, and prints what of them is not used.

    Args:
        path: see `read`, or that of a torchvision ResNet; None for random weights.
        config: `TrainConfig`.

    Returns:
        `loop.Start`.

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
    model, architecture = read(path, config.num_classes)
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
    """The teacher of a training.

    Args:
        path: see `read`; None for none.

    Returns:
        `Teacher`, or None.

    Raises:
        CheckpointError, ModelError: it is no checkpoint of this network.
    """
    from keras_bisenet.training.teacher import Teacher

    if path is None:
        return None
    model, architecture = read(path)
    print(f"learns from {architecture}: {path}")
    return Teacher(path, model)
