"""Ports a PyTorch face-parsing checkpoint to Keras, exports it to TFLite, and verifies every file against PyTorch.

Writes bisenet.keras, face_parsing_<precision>.tflite, report.json and preview.png. Exit status 0 only if every
comparison holds; a .tflite that fails is left as <name>.tflite.failed.

Example:
  python scripts/port_and_export.py --checkpoint 79999_iter.pth --output_dir build/face_parsing
"""

import dataclasses
import json
import math
import os
import pathlib
import sys

from absl import app, flags, logging

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MANIFEST = pathlib.Path(__file__).resolve().parents[1] / "checkpoints" / "manifest.json"

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "checkpoint", "default", "A .pth, .pt or .safetensors file, or a name in checkpoints/manifest.json."
)
flags.DEFINE_string("output_dir", "build/face_parsing", "Folder for everything that is written.")
flags.DEFINE_string("image_size", "512", "Size of the photos that the .tflite files take: SIDE or HEIGHTxWIDTH.")
flags.DEFINE_list("precisions", "float32,float16", "The .tflite files to write: float32, float16, dynamic.")
flags.DEFINE_enum("input", "uint8", ["uint8", "float32"], "RGB 0..255, or RGB that is normalised already.")
flags.DEFINE_enum("output", "labels", ["labels", "logits", "probabilities", "all_heads"], "What a .tflite returns.")
flags.DEFINE_string("verify_images", None, "Photo, or folder of photos, to verify with. Default: the bundled photo.")
flags.DEFINE_float("tolerance", None, "Largest accepted |error| of a float32 logit. Default: Keras 1e-4, TFLite 1e-3.")


def run(checkpoint, output_dir, image_size, precisions, input_type, output, verify_images, tolerance):
    """Does the whole job, see the flags. Returns the names of the results whose comparison fails.

    Raises:
        CheckpointError, ExportError, ImageError: with a message for the person who asked.
    """
    import keras_bisenet
    import weight_port
    from keras_bisenet.export import job, staging, tflite
    from keras_bisenet.inference import images, preview
    from weight_port import manifest, torch_reference, verification

    size = images.parse_size(image_size)
    precisions = list(dict.fromkeys(precisions))
    tflite.check_precisions(precisions)
    steps = job.Steps()
    checks = verification.Verification(tolerance)
    spec = job.ExportSpec(size, input_type, output)
    with staging.staged(output_dir) as folder:
        with steps("read the checkpoint"):
            path = manifest.locate(checkpoint, MANIFEST)
            state = weight_port.load(path)
            architecture = weight_port.recognise(state)
            photos = {file.name: images.read(file, size) for file in images.find(verify_images or images.BUNDLED)}
        with steps(f"port {architecture}"):
            model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone)
            weight_port.apply(state, model.variables, architecture)
        job.write_files(model, folder, spec, precisions, steps)
        with steps("verify Keras against PyTorch"):
            reference = torch_reference.Reference(state, architecture)
            job.verify_model(model, photos, reference, checks)
        with steps("verify TFLite against PyTorch"):
            expected, labels = job.verify_tflite(folder, precisions, spec, photos, reference, checks)
        with steps("draw preview.png"):
            photo = next(iter(photos.values()))
            preview.save_preview(folder / "preview.png", photo, expected, labels, architecture.num_classes)

        for precision in precisions:
            name = job.tflite_name(precision)
            stale = f"{name}.failed"
            if precision in checks.failed():
                (folder / name).rename(folder / stale)
                stale = name
            # What an earlier run left under the other name is no part of this one.
            pathlib.Path(output_dir, stale).unlink(missing_ok=True)
        report = {
            "holds": not checks.failed(),
            "checkpoint": {
                "path": str(path),
                "sha256": manifest.sha256(path),
                "layout": architecture.dialect.name,
                "backbone": architecture.backbone,
                "classes": architecture.num_classes,
                "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
            },
            "options": dataclasses.asdict(spec),
            "comparisons": [check.as_dict() for check in checks.checks],
            "files": {file.name: job.describe(file) for file in sorted(folder.iterdir())},
            "seconds": steps.seconds,
            "peak_memory_bytes": job.peak_memory(),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    print(f"\n{checks.table()}\n")
    for name, file in report["files"].items():
        ops = ", ".join(f"{op} {count}" for op, count in file.get("ops", {}).items())
        print(f"{file['bytes']:>12,} bytes  {name}  {ops}")
    print(f"peak memory {report['peak_memory_bytes'] or 0:,} bytes; everything is in {output_dir}")
    return checks.failed()


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    logging.set_verbosity(logging.WARNING)
    from keras_bisenet.export.errors import ExportError
    from keras_bisenet.inference.images import ImageError
    from weight_port import CheckpointError

    try:
        failed = run(
            FLAGS.checkpoint,
            FLAGS.output_dir,
            FLAGS.image_size,
            FLAGS.precisions,
            FLAGS.input,
            FLAGS.output,
            FLAGS.verify_images,
            FLAGS.tolerance,
        )
    except (CheckpointError, ExportError, ImageError) as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit(f"error: a comparison with PyTorch failed: {', '.join(failed)}; see the table above and report.json")


if __name__ == "__main__":
    app.run(main)
