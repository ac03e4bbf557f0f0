"""Writes a Keras face-parsing model as a PyTorch checkpoint that the published code loads with strict=True.

The file is read back, loaded into the PyTorch network and compared with the Keras model on the bundled photo before it
gets its name. Its tensors are float32, as the published ones are. The parts of a layout that this network never
reads (batch norm's step counters, the classifier in yakhyo's) are zero.

Examples:
  .venv/bin/python scripts/export_pytorch.py --model fine_tuned.keras --output face_parsing.pth
  .venv/bin/python scripts/export_pytorch.py --model fine_tuned.keras --output face_parsing.safetensors --layout yakhyo
"""

import pathlib

import command
from absl import flags

SUFFIXES = (".pth", ".pt", ".safetensors")
# Of the photo in the comparison. Height and width differ, so that they cannot be mixed up unseen.
SIZE = (192, 256)

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model", None, "A .keras file of a BiSeNet, as port_and_export.py and train.py write it.", required=True
)
flags.DEFINE_string("output", None, "The checkpoint to write.", required=True)
flags.DEFINE_enum("layout", "zllrunning", ["zllrunning", "yakhyo"], "Whose names its tensors have.")
flags.register_validator(
    "output",
    lambda output: pathlib.Path(output).suffix in SUFFIXES,
    f"unknown kind of file; expected a name ending in {', '.join(SUFFIXES)}",
)


def run(options):
    """Writes a Keras model as a PyTorch checkpoint.

    Args:
        options: the flags' values, as attributes.

    Raises:
        UserError: of either package; nothing is written.
    """
    import weight_port
    from keras_bisenet import load_model
    from keras_bisenet.export import pipeline
    from keras_bisenet.utils import atomic, images
    from keras_bisenet.utils.errors import ExportError
    from keras_bisenet.utils.steps import Steps
    from weight_port import layouts, manifest, verification
    from weight_port.reference import torch_network

    model, output = options.model, pathlib.Path(options.output)
    steps = Steps()
    checks = verification.Verification()
    with steps(f"read {model}"):
        # Whatever precision and image size it was trained in.
        network = load_model(model).with_config(dtype="float32", input_shape=(None, None, 3))
    with atomic.staged(output.parent) as folder:
        with steps(f"write {output.name}"):
            weights = weight_port.keras_weights(network.variables)
            weight_port.save(folder / output.name, weight_port.reverse(weights, layouts.LAYOUTS[options.layout]))
        with steps("read it back and compare"):
            state = weight_port.load(folder / output.name)
            architecture = weight_port.recognize(state)
            name, photo = images.BUNDLED.name, images.read(images.BUNDLED, SIZE)
            reference = torch_network.Reference(state, architecture)
            pipeline.verify_port(network, name, photo, reference, checks)
            pipeline.verify(network, [(name, photo)], reference, checks)
        print(f"\n{checks.table()}\n")
        if checks.failed():
            raise ExportError(
                f"{output}: not written, PyTorch does not compute what {model} does: {', '.join(checks.failed())}; "
                "see the table above"
            )
        size, digest = (folder / output.name).stat().st_size, manifest.sha256(folder / output.name)
    print(f"{size:,} bytes  {output}  {architecture}  sha256 {digest}")


if __name__ == "__main__":
    command.start(run)
