"""Ports a face-parsing checkpoint to Keras, exports it, and verifies every file against PyTorch.

Writes bisenet.keras, labels.json, face_parsing_<precision>.tflite or saved_model/, report.html, report.json and
preview.png. Exit status 0 only if every comparison holds; what fails is left as <name>.failed.

Examples:
  .venv/bin/python scripts/port_and_export.py --checkpoint 79999_iter.pth --output_dir build/face_parsing
  .venv/bin/python scripts/port_and_export.py --checkpoint build/run/best.keras --precisions int8
  .venv/bin/python scripts/port_and_export.py --target mediapipe
  .venv/bin/python scripts/port_and_export.py --target npu --calibration_images photos
"""

import os
import pathlib
import shlex
import sys

import command
import networks
from absl import flags

from keras_bisenet.utils import native_output

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "checkpoint", "default", "A .pth, .pt, .safetensors or .keras file, or a name in checkpoints/manifest.json."
)
flags.DEFINE_string(
    "labels",
    None,
    "A labels.json with names and colors of the classes. Default: the one beside the checkpoint, if any.",
)
flags.DEFINE_string("output_dir", "build/face_parsing", "Folder for everything that is written.")
flags.DEFINE_string("image_size", "512", "Size of the photos that the .tflite files take: SIDE or HEIGHTxWIDTH.")
flags.DEFINE_enum("target", "litert", ["litert", "mediapipe", "npu", "saved_model"], "What runs the files.")
flags.DEFINE_list(
    "precisions", None, "The .tflite files: float32, float16, dynamic, int8. Default: float32,float16; int8 for npu."
)
flags.DEFINE_enum("input", None, ["uint8", "float32"], "RGB 0..255 (default), or RGB that is normalized already.")
flags.DEFINE_enum(
    "output",
    None,
    ["labels", "logits", "probabilities", "scores", "all_heads"],
    "What a file returns. Default: labels; logits for mediapipe; scores for npu.",
)
flags.DEFINE_string("calibration_images", None, "Photos for int8, a folder. Default: variations of the bundled photo.")
flags.DEFINE_integer("calibration_count", None, "How many photos to calibrate int8 on. Default: 32.", lower_bound=1)
flags.DEFINE_string("author", "", "Author of the model, for the metadata of the .tflite files.")
flags.DEFINE_string("license", None, "Its terms, for the same. Default: those in the manifest.")
flags.DEFINE_string("verify_images", None, "Photo, or folder of photos, to verify with. Default: the bundled photo.")
flags.DEFINE_float(
    "tolerance", None, "Largest accepted error of a float32 logit, as a fraction of the largest. Default: 2e-5."
)


def run(options):
    """Ports, exports and verifies a checkpoint.

    Args:
        options: the flags' values, as attributes.

    Returns:
        Names of the results whose comparison fails.

    Raises:
        UserError: of either package.
    """
    # What needs no TensorFlow is looked at before it is started, which takes seconds.
    from keras_bisenet import classes
    from keras_bisenet.export import memory
    from keras_bisenet.export.options import resolve
    from keras_bisenet.utils import atomic, images, progress
    from keras_bisenet.utils.steps import Steps
    from weight_port import verification

    # TensorFlow keeps what it has freed, unless it takes its memory from the system.
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    calibrated = options.calibration_images is not None or options.calibration_count is not None
    size = images.parse_size(options.image_size)
    export_options = resolve(options.target, size, options.input, options.output, options.precisions, calibrated)
    memory.check_size(size)
    steps = Steps()
    checks = verification.Verification(options.tolerance)
    obsolete = []
    with atomic.staged(options.output_dir, obsolete) as folder:
        with steps("read checkpoint and photos"):
            checkpoint = networks.locate(options.checkpoint)
            if options.labels is not None:
                classes.read(options.labels)
            files = images.find(options.verify_images or images.BUNDLED)
            calibrating = [] if options.calibration_images is None else images.find(options.calibration_images)
            with native_output.captured():
                state, architecture, model = networks.read_state(checkpoint.path)
            network = architecture.num_classes, architecture.backbone, architecture.width
            memory.check(*network, sum(tensor.size for tensor in state.values()), size)
            for file in files:
                images.read(file)  # one that cannot be read is named before the work begins
            if options.labels is None:
                of_network = classes.beside(checkpoint.path, architecture.num_classes)
            else:
                of_network = classes.check(options.labels, architecture.num_classes)
        if swapped := images.swapped(size, [*files, *calibrating]):
            print(f"note: {swapped}", file=sys.stderr)
        with steps("start TensorFlow and PyTorch"):
            with native_output.captured():
                import keras_bisenet.models.bisenet
            import weight_port
            from keras_bisenet.export import convert, pipeline
            from keras_bisenet.export.quantization import calibration
            from keras_bisenet.export.report import html_page, preview, summary
            from keras_bisenet.tflite import metadata
            from weight_port.reference import torch_network
        if export_options.precisions:
            convert.check_backend()
        examples = calibration.Photos()
        if "int8" in export_options.precisions:
            examples = calibration.choose(size, options.calibration_images, options.calibration_count)
        if model is None:
            with steps(f"port {architecture}"):
                model = keras_bisenet.BiSeNet(*network)
                weight_port.apply(state, model.variables, architecture)
        image, photo = files[0].name, images.read(files[0], size)
        with steps("verify the Keras model in float64"):
            reference = torch_network.Reference(state, architecture)
            pipeline.verify_port(model, image, photo, reference, checks)
        info = metadata.ModelInfo(
            of_network,
            checkpoint.sha256,
            options.author,
            checkpoint.license if options.license is None else options.license,
        )
        written = pipeline.write_files(
            model, folder, export_options, info, examples.images, steps, pathlib.Path(options.output_dir)
        )
        with steps("verify against PyTorch"):
            photos = ((file.name, images.read(file, size)) for file in progress.shown(files, "verify"))
            expected, labels = pipeline.verify(model, photos, reference, checks, written, folder, export_options)
        with steps("draw preview.png"):
            of_files = {name: found for name, found in labels.items() if name != "keras"}
            preview.save_preview(folder / "preview.png", photo, expected, of_files, of_network)
        names, others = pipeline.reject(folder, of_files, checks.failed(), export_options.target)
        names = {"keras": pipeline.file_name("keras"), **names}
        obsolete += others
        with steps("measure the latency"):
            latency = {
                names[precision]: pipeline.measure(file, export_options, photo) for precision, file in written.items()
            }
        described = {names[precision]: file.describe() for precision, file in written.items()}
        origin = summary.checkpoint(checkpoint.path, info, architecture, model)
        asked = shlex.join(sys.orig_argv)
        figures = summary.assemble(folder, described, origin, export_options, examples, checks, latency, steps, asked)
        evidence = html_page.Evidence(
            image, photo, expected, labels, names, of_network, verification.EDGES, checks.histograms
        )
        summary.write(folder, figures, evidence)

    print(f"\n{checks.overview()}\n\n{summary.summary(figures)}")
    if examples.images:
        print(f"int8 was calibrated on {examples}")
    print(f"everything is in {command.one_line(options.output_dir)}; open report.html first")
    for line in checks.explain(names):
        print(line)
    return checks.failed()


def main(options):
    if failed := run(options):
        return f"a comparison with PyTorch failed: {', '.join(failed)}; see the table above and report.json"
    return None


if __name__ == "__main__":
    command.start(main)
