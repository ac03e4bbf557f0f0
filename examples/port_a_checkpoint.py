"""Ports a PyTorch checkpoint to Keras and TFLite, step by step, and takes it back to PyTorch.

This is `scripts/port_and_export.py` without its flags, files and report: the two packages used as libraries, as the
beginning of a tool of your own. Every step prints a figure that can be checked.

Examples:
  .venv/bin/python examples/port_a_checkpoint.py
  .venv/bin/python examples/port_a_checkpoint.py --checkpoint 79999_iter.pth --photo me.jpg --output_dir build/mine
"""

import os
import pathlib
import sys

try:
    from absl import app, flags
except ModuleNotFoundError as error:
    sys.exit(
        f"error: this Python ({sys.executable}) has no {error.name}; 'make export' installs what the examples need "
        "into .venv: run them by .venv/bin/python"
    )

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MANIFEST = pathlib.Path(__file__).resolve().parents[1] / "checkpoints" / "manifest.json"
SIZE = (512, 512)  # height, width
PRECISION = "float16"

FLAGS = flags.FLAGS
flags.DEFINE_string("checkpoint", "default", "A PyTorch or safetensors file, or a name in checkpoints/manifest.json.")
flags.DEFINE_string("photo", None, "What to compare on. Default: the bundled photo.")
flags.DEFINE_string("output_dir", "build/port_a_checkpoint", "Folder for everything that is written.")


def run(options):
    """Does all steps.

    Args:
        options: the flags' values, as attributes.

    Raises:
        UserError: of either package.
    """
    import numpy as np
    from keras import ops
    from PIL import Image

    import keras_bisenet
    import weight_port
    from keras_bisenet import classes
    from keras_bisenet.export import convert
    from keras_bisenet.models.architecture import HEADS
    from keras_bisenet.tflite import metadata
    from keras_bisenet.utils import atomic, images, painting
    from keras_bisenet.utils.errors import ExportError
    from weight_port import manifest, parity
    from weight_port.reference import torch_network

    # 1. Read the file; no code that it may hold is run. Names and shapes of its tensors tell which network it is of.
    checkpoint = manifest.locate(options.checkpoint, MANIFEST)
    state = weight_port.load(checkpoint.path)  # PyTorch key -> array
    architecture = weight_port.recognize(state)
    print(f"1. read       {checkpoint.path.name}: {len(state)} tensors, {architecture}")

    # 2. Give each Keras weight the tensor of its name. A tensor too few, too many or of another shape is an error. The
    # PyTorch stores unmapped tensors and computes with none of them; step 6 writes them back.
    model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone, architecture.width)
    unmapped = weight_port.apply(state, model.variables, architecture)
    print(f"2. ported     {model.count_params():,} parameters; {len(unmapped)} tensors are unmapped")

    # 3. Compare the logits of all heads with those of the PyTorch network.
    photo = images.read(options.photo or images.BUNDLED, SIZE)  # [512, 512, 3] uint8 RGB
    inputs = ops.convert_to_numpy(keras_bisenet.normalize(photo[np.newaxis]))  # [1, 512, 512, 3] float32
    reference = torch_network.Reference(state, architecture)
    expected = dict(zip(HEADS, reference(inputs), strict=True))  # [1, 512, 512, classes] each
    results = model.predict_on_batch(inputs)
    for head in HEADS:
        difference = parity.compare(expected[head], results[head])
        print(f"3. compared   {head}: max |error| {difference.max_abs:.1e}, same labels {difference.agreement:.4%}")
        if failure := parity.TOLERANCES["keras"].failure(difference):
            raise ExportError(f"{head} differs from PyTorch: {failure}")

    # 4. Export: a uint8 photo in, uint8 labels out. The metadata tells the file's users what they want to know of it.
    of_network = classes.of_count(architecture.num_classes)
    info = metadata.ModelInfo(of_network, checkpoint.sha256, license=checkpoint.license)
    content = convert.to_tflite(model, SIZE, PRECISION, info=info)
    with atomic.staged(options.output_dir) as folder:
        file = folder / f"face_parsing_{PRECISION}.tflite"
        file.write_bytes(content)
        print(f"4. exported   {file.name}: {len(content):,} bytes")

        # 5. Run the file as an app would. FaceParser takes a photo of any size, and its labels have that size.
        parser = keras_bisenet.FaceParser(file)
        labels = parser(photo)  # [512, 512] uint8
        agreement = (labels == expected["logits"][0].argmax(-1)).mean()
        least = parity.TOLERANCES[PRECISION].agreement
        if agreement < least:
            raise ExportError(f"{file.name}: {agreement:.3%} of its labels are those of PyTorch; expected {least:.1%}")
        shares = np.bincount(labels.ravel(), minlength=parser.num_classes) / labels.size
        largest = ", ".join(f"{parser.class_names[label]} {shares[label]:.1%}" for label in (-shares).argsort()[:4])
        print(f"5. ran        same labels as PyTorch {agreement:.3%}; largest parts: {largest}")
        Image.fromarray(painting.overlay(photo, labels)).save(folder / "overlay.png")

        # 6. And back: a state_dict that the PyTorch network loads with strict=True.
        weights = weight_port.keras_weights(model.variables)
        weight_port.save(folder / "again.pth", weight_port.reverse(weights, architecture.layout, unmapped))
        again = weight_port.load(folder / "again.pth")
        torch_network.Reference(again, architecture)
        equal = sum(np.array_equal(state[key], again[key]) for key in state)
        print(f"6. back       again.pth: {equal} of {len(state)} tensors equal, bit for bit")
    print(f"everything is in {options.output_dir}")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    import keras_bisenet
    import weight_port

    try:
        run(FLAGS)
    except (keras_bisenet.UserError, weight_port.UserError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
