"""Checks Keras and TFLite against ONNX Runtime, on an ONNX export of a face-parsing checkpoint.

ONNX is a second reference here, never a step on the way to TFLite. Without --onnx the checkpoint is exported to one
self-contained file, input `image`: normalized float32 RGB [1, 3, H, W]; with --onnx your own export is inspected and
compared. Exit status 0 only if every comparison holds.

Examples:
  .venv/bin/python scripts/check_onnx.py --checkpoint 79999_iter.pth
  .venv/bin/python scripts/check_onnx.py --onnx model.onnx --tflite face_parsing_float32.tflite
"""

import contextlib
import importlib
import pathlib

import command
import networks
from absl import flags

from keras_bisenet.utils import native_output

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "checkpoint", "default", "A .pth, .pt or .safetensors file, or a name in checkpoints/manifest.json."
)
flags.DEFINE_string("onnx", None, "An ONNX file of this checkpoint to check. Default: one is exported.")
flags.DEFINE_string("output", "build/face_parsing/bisenet.onnx", "The file to export to; unused with --onnx.")
flags.DEFINE_string(
    "tflite", None, "A file by port_and_export.py with uint8 input and labels. Default: one is converted in memory."
)
flags.DEFINE_string(
    "image_size", "512", "Size of the photos: SIDE or HEIGHTxWIDTH. A size that --onnx or --tflite fixes wins."
)
flags.DEFINE_string("verify_images", None, "Photo, or folder of photos, to compare on. Default: the bundled photo.")


def run(options):
    """Compares Keras and a `.tflite` file with ONNX Runtime.

    Args:
        options: the flags' values, as attributes.

    Returns:
        bool: whether every comparison holds.

    Raises:
        UserError: of either package.
        ModuleNotFoundError: ONNX or ONNX Runtime is not installed.
    """
    with contextlib.suppress(ModuleNotFoundError):
        # PyTorch's CUDA build brings it and loads it for the export. After TensorFlow that would end the process.
        importlib.import_module("triton")
    with native_output.captured():
        import keras_bisenet.models.bisenet
    import numpy as np
    from keras import ops

    import weight_port
    from keras_bisenet.export import convert
    from keras_bisenet.preprocessing import normalize
    from keras_bisenet.tflite import flatbuffer, labels_file
    from keras_bisenet.tflite.interpreter import TFLiteRunner
    from keras_bisenet.utils import atomic, images
    from keras_bisenet.utils.steps import Steps
    from weight_port import verification
    from weight_port.errors import OnnxError
    from weight_port.reference import onnx_file, onnx_network, torch_network

    onnx, tflite = options.onnx, options.tflite
    size = asked = images.parse_size(options.image_size)
    steps = Steps()
    checks = verification.Verification(reference="ONNX Runtime")
    heads, precision, content, scores = keras_bisenet.HEADS, "float32", None, None
    with steps("read the checkpoint"):
        state = weight_port.load(networks.locate(options.checkpoint).path)
        architecture = weight_port.recognize(state)
    if tflite is not None:
        with steps(f"read {tflite}"):
            given = labels_file.read(tflite, architecture.num_classes)
        content, size, precision, scores = given.content, given.image_size, given.precision, given.scores
    else:
        convert.check_backend()
    if onnx is not None:
        with steps(f"check {onnx}"):
            file = onnx_file.inspect(onnx)
        print(file)
        fixed = file.image_size(size)
        if tflite is not None and fixed != size:
            raise OnnxError(
                f"{onnx} takes images of {fixed[0]}x{fixed[1]}, {tflite} of {size[0]}x{size[1]}; expected the same"
            )
        size = fixed
    if size != asked:
        print(f"image size {size[0]}x{size[1]}, which is fixed in the file; --image_size is not used")
    photos = {path.name: images.read(path, size) for path in images.find(options.verify_images or images.BUNDLED)}
    with steps(f"port {architecture}"):
        model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone, architecture.width)
        weight_port.apply(state, model.variables, architecture)
    if onnx is None:
        output = pathlib.Path(options.output)
        with steps(f"export to {output}"), atomic.staged(output.parent) as folder:
            network = torch_network.Reference(state, architecture).network
            onnx_network.export(network, size, folder / output.name, heads)
        file = onnx_file.inspect(output)
        print(file)
    reference = onnx_network.OnnxReference(file, size, architecture.num_classes, heads)
    if content is None:
        with steps("convert to float32 TFLite"):
            content = convert.to_tflite(model, size)
        converted = flatbuffer.unpack(content)
        scores = flatbuffer.find_scores(converted, converted.subgraphs[0].outputs[0])
    with steps("compare with ONNX Runtime"):
        # The logits that the labels are the argmax of, from the same run.
        runner = TFLiteRunner(content, inner={heads[0]: scores})
        for image, photo in photos.items():
            inputs = ops.convert_to_numpy(normalize(photo[np.newaxis]))
            expected = reference(inputs)
            results = model.predict_on_batch(inputs)
            for head, logits in expected.items():
                checks.add("keras", image, head, logits, ops.convert_to_numpy(results[head]))
            results = runner(photo[np.newaxis])
            checks.add(precision, image, heads[0], expected[heads[0]], results[heads[0]], results["labels"])
    print(f"\n{checks.overview()}\n")
    return not checks.failed()


def main(options):
    from keras_bisenet.utils import extras

    try:
        holds = run(options)
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnxruntime", "onnxscript"):
            raise
        return f"{error.name} is not installed: {extras.command('onnx')}"
    if holds:
        return None
    hint = f": is {options.onnx} of this checkpoint, and does it take normalized RGB?" if options.onnx else ""
    return f"a comparison with ONNX Runtime failed, see the table above{hint}"


if __name__ == "__main__":
    command.start(main)
