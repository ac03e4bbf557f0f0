"""The network of a checkpoint, in Keras."""

import weight_port
from benchmarks.common.processes import ROOT
from weight_port import manifest


def locate(checkpoint):
    """Path of a checkpoint file, given as a path or as a name in `checkpoints/manifest.json`."""
    return manifest.locate(checkpoint, ROOT / "checkpoints" / "manifest.json").path


def load(checkpoint="default"):
    """`read` of a checkpoint, see `locate`."""
    return read(locate(checkpoint))


def read(path):
    """State_dict (key -> array) and architecture of a checkpoint file; `CheckpointError` if it cannot be read."""
    state = weight_port.load(path)
    return state, weight_port.recognize(state)


def in_keras(state, architecture, input_shape=(None, None, 3), **options):
    """The `BiSeNet` with the weights of a checkpoint, see `read`; `options` are further arguments of `BiSeNet`."""
    from keras_bisenet import BiSeNet

    model = BiSeNet(architecture.num_classes, architecture.backbone, architecture.width, input_shape, **options)
    weight_port.apply(state, model.variables, architecture)
    return model
