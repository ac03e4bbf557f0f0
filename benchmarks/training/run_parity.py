"""Trains the same network on the same batches in Keras and in PyTorch, and shows how far the two drift apart.

Both take 20 steps of the original recipe (three heads, OHEM, SGD with momentum, weight decay on kernels, ten times the
rate behind the context path) from the default checkpoint, in float64 and in float32. Writes TRAINING_PARITY.md,
training_parity.json and training_parity.png. Exit status 0 only if every limit holds.

Example:
  python benchmarks/training/run_parity.py
"""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import sys

from absl import app, flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

STEPS, BATCH, SIDE = 20, 4, 128
# A tenth of the original's rate, with warm-up, full rate and decay within the steps.
SCHEDULE = {"learning_rate": 1e-3, "steps": 40, "warmup_steps": 5, "warmup_start": 1e-4}

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "benchmarks/training/TRAINING_PARITY.md", "The report; .json and .png are put beside it.")


def run(output):
    """Runs the comparison and writes the report.

    Args:
        output: see the flag.

    Returns:
        Sentences about the limits that do not hold; empty if all do.

    Raises:
        CheckpointError, OSError: with a message for the person who asked.
    """
    import numpy as np
    from tqdm import tqdm

    import weight_port
    from benchmarks.common import machine
    from benchmarks.training import parity_report as training_parity_report
    from benchmarks.training.parity import KerasRun, TorchRun, batches, difference
    from keras_bisenet import normalize
    from keras_bisenet.training import configs
    from keras_bisenet.utils import images
    from weight_port import manifest
    from weight_port.reference import torch_network

    state = weight_port.load(manifest.locate("default", ROOT / "checkpoints" / "manifest.json").path)
    architecture = weight_port.recognise(state)
    photo = images.read(images.BUNDLED)
    logits = torch_network.Reference(state, architecture)(np.array(normalize(photo[np.newaxis])))[0]
    labels = logits[0].argmax(-1).astype(np.uint8)
    config = dataclasses.replace(configs.ORIGINAL, num_classes=architecture.num_classes, **SCHEDULE)
    runs = {
        f"{name}, {precision}": make(state, dataclasses.replace(config, precision=precision))
        for precision in ("float64", "float32")
        for name, make in (("PyTorch", TorchRun), ("Keras", KerasRun))
    }
    steps = []
    for batch in tqdm(batches(photo, labels, architecture.num_classes, STEPS, BATCH, SIDE), "steps", STEPS):
        after = {name: make_step(*batch) for name, make_step in runs.items()}
        step = {"losses": after["PyTorch, float64"][0].tolist(), "hard": runs["PyTorch, float64"].trainer.hard}
        for pair, (reference, result) in training_parity_report.PAIRS.items():
            step[pair] = difference(state, after[reference], after[result])
        steps.append(step)
    results = {
        "command": "python benchmarks/training/run_parity.py",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "torch")},
        "batch": BATCH,
        "side": SIDE,
        "schedule": SCHEDULE,
        "steps": steps,
    }
    output = pathlib.Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(output.stem.lower())
    beside.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    training_parity_report.draw(results, beside.with_suffix(".png"))
    output.write_text(training_parity_report.markdown(results, f"{beside.name}.png"), encoding="utf-8")
    print(f"wrote {output}, {beside.name}.json and {beside.name}.png")
    return [sentence for sentence, holds in training_parity_report.verdicts(results) if not holds]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    from weight_port import CheckpointError

    try:
        broken = run(FLAGS.output)
    except CheckpointError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write: {error.filename}: {error.strerror}")
    if broken:
        sys.exit(f"error: {'; '.join(broken)}")


if __name__ == "__main__":
    app.run(main)
