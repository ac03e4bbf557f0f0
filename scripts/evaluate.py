"""Evaluates a model on labeled photos: mean IoU, IoU and F1 of each class, borders, accuracies, confusion matrix.

Takes a .keras file, a .tflite file (also a third-party one), or a PyTorch checkpoint, which PyTorch itself runs.
Prints a table, and writes evaluation.json and evaluation.png. The intervals say how far a mean would move with other
photos of the same kind (95 %, bootstrap). Boundary F1 counts border pixels with a border of the class within 3 pixels.

The labels are compared at the size of the photo. Where a model takes another size (a .tflite fixes it, --image_size
asks for it), the photo is resized to that (bilinear, antialiased) and the predicted labels back (nearest neighbors).

Examples:
  .venv/bin/python scripts/evaluate.py --data_dir celebamask --model build/face_parsing/bisenet.keras
  .venv/bin/python scripts/evaluate.py --data_dir celebamask --model build/face_parsing/face_parsing_int8.tflite
  .venv/bin/python scripts/evaluate.py --data_dir celebamask --model 79999_iter.pth --split val --image_size 256
"""

import json
import sys

import command
import networks
from absl import flags

from keras_bisenet.utils.errors import DataError, ModelError, UserError

# Photos whose sides are compared with --image_size.
LOOKED_AT = 100

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model",
    "default",
    "A .keras or .tflite file, a .pth, .pt or .safetensors checkpoint, or a name in checkpoints/manifest.json.",
)
flags.DEFINE_string("data_dir", None, "Folder with images/, labels/ and <split>.txt.", required=True)
flags.DEFINE_string("split", "val", "The photos: those that <split>.txt names.")
flags.DEFINE_string("output_dir", "build/evaluation", "Folder for evaluation.json and evaluation.png.")
flags.DEFINE_integer("limit", None, "Only so many photos, the first of the split. Default: all.", lower_bound=1)
flags.DEFINE_string(
    "image_size", None, "Size to resize the photos to: SIDE or HEIGHTxWIDTH. Default: that of the model, or their own."
)


def run(options):
    """Evaluates a model.

    Args:
        options: the flags' values, as attributes.

    Raises:
        UserError: of either package.
    """
    from keras_bisenet.data import folder, label_order
    from keras_bisenet.training import chart, evaluation
    from keras_bisenet.utils import atomic, images, progress
    from weight_port import manifest

    size = None if options.image_size is None else images.parse_size(options.image_size)
    examples = folder.read_split(options.data_dir, options.split)[: options.limit]
    if size is not None and (swapped := images.swapped(size, [example.image for example in examples[:LOOKED_AT]])):
        print(f"note: {swapped}", file=sys.stderr)
    with atomic.staged(options.output_dir) as scratch:
        path, kind, parser = networks.open_parser(options.model, size)
        if parser.num_classes is None:
            raise ModelError(f"{path}: returns labels and does not say of how many classes; export it with logits")
        names = label_order.read(options.data_dir, parser.num_classes).names
        _, bad = folder.check(examples, parser.num_classes, skip_bad=True)
        if bad:
            raise DataError(f"{bad[0]} ({len(bad)} of {len(examples)} cannot be evaluated on)")
        shown = progress.shown(examples, "evaluate")
        try:
            evaluated = evaluation.evaluate(parser, shown, parser.num_classes)
        except UserError:
            raise
        except ValueError as error:  # a third-party file may predict anything
            raise ModelError(f"{path}: {error}; it has {parser.num_classes} classes") from error
        report = {
            "model": {
                "path": str(path),
                "sha256": manifest.sha256(path),
                "kind": kind,
                "classes": parser.num_classes,
                "image_size": parser.image_size,
            },
            "data": {"path": str(options.data_dir), "split": options.split, "photos": len(examples)},
            "options": {"limit": options.limit, "image_size": options.image_size},
            **evaluated.as_dict(names),
        }
        (scratch / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        title = f"{path.name} on {len(examples)} photos of {options.split}"
        chart.save_chart(scratch / "evaluation.png", evaluated.scores, names, title)
    print(f"{title}\n\n{evaluated.table(names)}\n\nevaluation.json and evaluation.png are in {options.output_dir}")


if __name__ == "__main__":
    command.start(run)
