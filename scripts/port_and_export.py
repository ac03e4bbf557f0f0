"""Ports a face-parsing checkpoint to Keras, exports it, and verifies every file against PyTorch.

Writes bisenet.keras, face_parsing_<precision>.tflite or saved_model/, report.html, report.json and preview.png. Exit
status 0 only if every comparison holds; what fails is left as <name>.failed.

Examples:
  python scripts/port_and_export.py --checkpoint 79999_iter.pth --output_dir build/face_parsing
  python scripts/port_and_export.py --checkpoint build/run/best.keras --precisions int8 --calibration_images photos
  python scripts/port_and_export.py --target mediapipe
"""

import os
import pathlib
import shlex
import sys

import missing  # noqa: F401
from absl import app, flags, logging

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MANIFEST = pathlib.Path(__file__).resolve().parents[1] / "checkpoints" / "manifest.json"

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "checkpoint", "default", "A .pth, .pt, .safetensors or .keras file, or a name in checkpoints/manifest.json."
)
flags.DEFINE_string("output_dir", "build/face_parsing", "Folder for everything that is written.")
flags.DEFINE_string("image_size", "512", "Size of the photos that the .tflite files take: SIDE or HEIGHTxWIDTH.")
flags.DEFINE_enum("target", "litert", ["litert", "mediapipe", "saved_model"], "What is to run the files.")
flags.DEFINE_list("precisions", None, "The .tflite files: float32, float16, dynamic, int8. Default: float32,float16.")
flags.DEFINE_enum("input", None, ["uint8", "float32"], "RGB 0..255 (default), or RGB that is normalised already.")
flags.DEFINE_enum(
    "output",
    None,
    ["labels", "logits", "probabilities", "all_heads"],
    "What a file returns. Default: labels; logits for mediapipe.",
)
flags.DEFINE_string("calibration_images", None, "Photos for int8, a folder. Default: variations of the bundled photo.")
flags.DEFINE_integer("calibration_count", None, "How many photos int8 is made with. Default: 32.", lower_bound=1)
flags.DEFINE_string("author", "", "Author of the model, for the metadata of the .tflite files.")
flags.DEFINE_string("license", None, "Its terms, for the same. Default: those in the manifest.")
flags.DEFINE_string("verify_images", None, "Photo, or folder of photos, to verify with. Default: the bundled photo.")
flags.DEFINE_float("tolerance", None, "Largest accepted |error| of a float32 logit. Default: Keras 1e-4, TFLite 1e-3.")


def run(options):
    """Does the whole job. Returns the names of the results whose comparison fails.

    Args:
        options: the flags' values, as attributes.

    Raises:
        CheckpointError, ExportError, ImageError: with a message for the person who asked.
    """
    import keras_bisenet
    import weight_port
    from keras_bisenet.export import calibration, html_report, job, metadata, report, staging
    from keras_bisenet.export.spec import resolve
    from keras_bisenet.inference import images, preview
    from keras_bisenet.labels import class_names
    from weight_port import manifest, torch_reference, verification

    calibrated = options.calibration_images is not None or options.calibration_count is not None
    size = images.parse_size(options.image_size)
    spec = resolve(options.target, size, options.input, options.output, options.precisions, calibrated)
    steps = job.Steps()
    checks = verification.Verification(options.tolerance)
    obsolete = []
    with staging.staged(options.output_dir, obsolete) as folder:
        with steps("read checkpoint and photos"):
            path = manifest.locate(options.checkpoint, MANIFEST)
            state = read_state(path)
            architecture = weight_port.recognise(state)
            files = images.find(options.verify_images or images.BUNDLED)
            photos = {file.name: images.read(file, size) for file in files}
            examples = calibration.Photos()
            if "int8" in spec.precisions:
                examples = calibration.choose(size, options.calibration_images, options.calibration_count)
        with steps(f"port {architecture}"):
            model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone)
            weight_port.apply(state, model.variables, architecture)
        info = metadata.ModelInfo(
            class_names(architecture.num_classes),
            manifest.sha256(path),
            options.author,
            manifest.licence(options.checkpoint, MANIFEST) if options.license is None else options.license,
        )
        job.write_files(model, folder, spec, info, examples.images, steps)
        with steps("verify Keras against PyTorch"):
            reference = torch_reference.Reference(state, architecture)
            keras_labels = job.verify_model(model, photos, reference, checks)
        with steps("verify the files against PyTorch"):
            expected, labels = job.verify_files(folder, spec, photos, reference, checks)
        image, photo = next(iter(photos.items()))
        with steps("draw preview.png"):
            preview.save_preview(folder / "preview.png", photo, expected, labels, architecture.num_classes)
        names, others = job.reject(folder, labels, checks.failed())
        obsolete += others
        with steps("measure the latency"):
            latency = {
                names[precision]: job.measure(folder / names[precision], spec, photo) for precision in spec.precisions
            }
        origin = report.checkpoint(path, info, architecture, model)
        command = shlex.join(sys.orig_argv)
        figures = report.assemble(folder, origin, spec, examples, checks, latency, steps, command)
        evidence = html_report.Evidence(
            image,
            photo,
            expected,
            {"keras": keras_labels, **labels},
            {"keras": job.file_name("keras"), **names},
            info.labels,
            verification.EDGES,
            checks.histograms,
        )
        report.write(folder, figures, evidence)

    print(f"\n{checks.table()}\n\n{report.summary(figures)}")
    if examples.images:
        print(f"int8 was made with {examples}")
    print(f"everything is in {options.output_dir}; begin with report.html")
    return checks.failed()


def read_state(path):
    """The state_dict of a PyTorch checkpoint, or of a `.keras` file as `train.py` writes it.

    Raises:
        CheckpointError, ExportError: the file is no such thing.
    """
    import weight_port

    if path.suffix != ".keras":
        return weight_port.load(path)
    from keras_bisenet import load_model
    from weight_port import dialects

    return weight_port.reverse(weight_port.keras_weights(load_model(path).variables), dialects.ZLLRUNNING)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    logging.set_verbosity(logging.WARNING)
    from keras_bisenet.export.errors import ExportError
    from keras_bisenet.inference.images import ImageError
    from weight_port import CheckpointError

    try:
        failed = run(FLAGS)
    except (CheckpointError, ExportError, ImageError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: a comparison with PyTorch failed: {', '.join(failed)}; see the table above and report.json")


if __name__ == "__main__":
    app.run(main)
