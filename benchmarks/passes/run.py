"""Times what each graph pass brings.

The same network is exported without the pass, and with Winograd's convolutions at more stages. Every variant is a file,
timed in processes of its own, in turns. Writes PASSES.md and passes.json.

Example:
  python benchmarks/passes/run.py
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import shlex
import sys
import tempfile
from unittest import mock

from absl import app, flags

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.common import machine, processes
from benchmarks.common.statistics import ratios, round_medians, spread
from benchmarks.runtimes.inputs import Inputs

FLAGS = flags.FLAGS
flags.DEFINE_integer("rounds", 6, "Turns of each variant.", lower_bound=1)
flags.DEFINE_integer("runs", 20, "Runs of a turn.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "Threads of a run.", lower_bound=1)
flags.DEFINE_string("output", "benchmarks/passes/PASSES.md", "The report; passes.json is put beside it.")

SIZE = (512, 512)
SHIPPED = "as it ships"


def variants():
    """Title of a variant -> (precision, rules of that precision, settings of `fast_convs`)."""
    from keras_bisenet.export import passes
    from keras_bisenet.export.passes import column_pairs, fast_convs, folding

    def without(precision, *left_out):
        return tuple(rule for rule in passes.RULES[precision] if rule not in left_out)

    float32 = passes.RULES["float32"]
    plain = without("float32", fast_convs.split_upsampled_conv, fast_convs.winograd)
    return {
        f"float32, {SHIPPED}": ("float32", float32, {}),
        "float32, batch norm alone folded": ("float32", (folding.fix_conv, folding.fold_batch_norm), {}),
        "float32, plain convolutions": ("float32", plain, {}),
        "float32, without gate + 1": ("float32", without("float32", folding.add_one_to_gate), {}),
        "float32, without the split of upsampled convolutions": (
            "float32",
            without("float32", fast_convs.split_upsampled_conv),
            {},
        ),
        "float32, split of the upsampled convolution at stride 16 too": ("float32", float32, {"SPLIT_STRIDE": 16}),
        "float32, without Winograd": ("float32", without("float32", fast_convs.winograd), {}),
        "float32, Winograd at the 256-channel stage too": ("float32", float32, {"WINOGRAD_STRIDE": 16}),
        "float32, Winograd at the 256- and 512-channel stages too": ("float32", float32, {"WINOGRAD_STRIDE": 32}),
        f"dynamic, {SHIPPED}": ("dynamic", passes.RULES["dynamic"], {}),
        "dynamic, without pairs of columns": ("dynamic", without("dynamic", column_pairs.pair_columns), {}),
        f"int8, {SHIPPED}": ("int8", passes.RULES["int8"], {}),
        "int8, without pairs of columns": ("int8", without("int8", column_pairs.pair_columns), {}),
    }


def run(options, arguments):
    """Measures, and writes the report."""
    import numpy as np

    import keras_bisenet
    import weight_port
    from keras_bisenet.export import convert, passes
    from keras_bisenet.export.passes import fast_convs
    from keras_bisenet.export.quantization import calibration
    from keras_bisenet.preprocessing import MEAN, STD
    from weight_port import manifest

    computer = machine.describe()
    state = weight_port.load(manifest.locate("default", processes.ROOT / "checkpoints" / "manifest.json").path)
    architecture = weight_port.recognise(state)
    model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone)
    weight_port.apply(state, model.variables, architecture)
    photos = calibration.variations(SIZE, 8).images
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        photo = np.stack(photos[:1])
        labels = np.zeros(photo.shape[:3], np.int16)  # which the runner does not look at
        Inputs(photo, labels, photo, np.array(MEAN), np.array(STD)).save(scratch / "inputs")
        files, sizes = {}, {}
        for number, (title, (precision, rules, settings)) in enumerate(variants().items()):
            with mock.patch.dict(passes.RULES, {precision: rules}), mock.patch.multiple(fast_convs, **settings):
                content = convert.to_tflite(model, SIZE, precision, photos=photos)
            files[title], sizes[title] = scratch / f"{number}.tflite", len(content)
            files[title].write_bytes(content)
            print(f"{len(content) / 1e6:.2f} MB: {title}", flush=True)
        milliseconds = {title: [] for title in files}
        for number in range(options.rounds):
            for title in list(files)[:: 1 if number % 2 else -1]:
                milliseconds[title].append(_turn(files[title], scratch, options))
        results = {
            "command": shlex.join(["python", "benchmarks/passes/run.py", *map(machine.without_folders, arguments)]),
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "machine": computer,
            "versions": {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "keras", "tensorflow")},
            "threads": options.threads,
            "bytes": sizes,
            "milliseconds": milliseconds,
        }
    output = pathlib.Path(options.output)
    output.write_text(report(results), encoding="utf-8")
    output.with_name("passes.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _turn(file, scratch, options):
    """Median milliseconds of a process that runs a file."""
    job = {
        "runner": "litert_labels",
        "model": str(file),
        "threads": options.threads,
        "inputs": str(scratch / "inputs"),
        "warmups": 3,
        "runs": options.runs,
        "output": str(scratch / "turn.json"),
        "options": {},
    }
    processes.run_job(sys.executable, "runtimes.measure", job, scratch / "log")
    (median,) = round_medians([json.loads((scratch / "turn.json").read_text(encoding="utf-8"))], "total")
    return median


def report(results):
    """The text of PASSES.md."""
    rows = []
    for title, turns in results["milliseconds"].items():
        shipped = f"{title.split(',')[0]}, {SHIPPED}"
        ratio = spread(ratios(turns, results["milliseconds"][shipped])).text(3)
        rows.append(f"| {title} | {spread(turns).text(1)} | {ratio} | {results['bytes'][title] / 1e6:.2f} |")
    return "\n".join(
        [
            "# What each graph pass brings",
            "",
            "Written by the command below; not edited by hand.",
            "",
            "| variant | ms | time against the file as it ships | MB |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"From a uint8 photo of {SIZE[0]}x{SIZE[1]} to its labels, {results['threads']} threads, each variant in "
            "processes of its own, in turns: the median of the rounds, and the smallest and largest of them; a ratio "
            "is taken round by round.",
            "",
            *machine.lines(results),
            "",
        ]
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    run(FLAGS, sys.argv[1:])


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(main)
