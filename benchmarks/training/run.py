"""Times a training step side by side with PyTorch's, and the input pipeline by itself.

Each contestant runs in a process of its own, in interleaved rounds, on the same weights, crops and labels. A step is
forward, the losses of three heads with hard example mining, gradients, momentum and update. Writes TRAINING.md and
training.json. Exit status 0 only if every limit holds.

Example:
  python benchmarks/training/run.py --rounds 5
"""

import datetime
import importlib.metadata
import json
import pathlib
import shlex
import statistics
import sys
import tempfile

from absl import app, flags

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.common import machine, processes
from benchmarks.common.statistics import ratios, spread

FLAGS = flags.FLAGS
flags.DEFINE_integer("rounds", 5, "Turns of each contestant.", lower_bound=1)
flags.DEFINE_integer("steps", 8, "Steps of a turn that count.", lower_bound=1)
flags.DEFINE_integer("size", 256, "Side of the crops.", lower_bound=32, upper_bound=512)
flags.DEFINE_integer("batch_size", 8, "Crops of a batch.", lower_bound=1)
flags.DEFINE_string("output", "benchmarks/training/TRAINING.md", "The report; training.json is put beside it.")

NAMES = {
    "keras": "this project, a training step",
    "torch": "PyTorch, eager, channels-last",
    "pipeline": "input pipeline, examples in memory",
    "pipeline_uncached": "input pipeline, examples decoded anew",
}
# Of the step of the first to that of the second, at most.
LIMITS = {("keras", "torch"): 0.90, ("pipeline", "keras"): 1 / 3, ("pipeline_uncached", "keras"): 1 / 3}


def run(rounds, steps, size, batch_size, output, arguments):
    """Measures and writes the report.

    Returns:
        The sentences about limits that do not hold.
    """
    seconds = {contestant: [] for contestant in NAMES}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):
            for contestant in NAMES:
                file = pathlib.Path(scratch, "turn.json")
                job = {"contestant": contestant, "size": size, "batch_size": batch_size, "output": str(file)}
                warmups = 3 if contestant in ("keras", "torch") else 10
                job |= {"warmups": warmups, "runs": steps if warmups == 3 else 5 * steps}
                processes.run_job(sys.executable, "training.worker", job, pathlib.Path(scratch, "log"))
                seconds[contestant].append(statistics.median(json.loads(file.read_text())))
                print(f"round {number + 1}: {NAMES[contestant]}: {seconds[contestant][-1] / batch_size:.4f} s a crop")
    results = {
        "command": shlex.join(["python", "benchmarks/training/run.py", *map(machine.without_folders, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "torch")},
        "size": size,
        "batch_size": batch_size,
        "seconds": seconds,
    }
    sentences = verdicts(results)
    output = pathlib.Path(output)
    output.write_text(report(results, sentences), encoding="utf-8")
    output.with_name("training.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return [sentence for sentence, holds in sentences if not holds]


def verdicts(results):
    """A sentence for each limit, and whether it holds."""
    sentences = []
    for (ours, other), limit in LIMITS.items():
        ratio = spread(ratios(results["seconds"][ours], results["seconds"][other]))
        holds = ratio.median <= limit
        sentences.append(
            (
                f"{NAMES[ours]} / {NAMES[other]}: {ratio.text(3)}, limit {limit:.2f}: "
                f"{'holds' if holds else 'does not hold'}",
                holds,
            )
        )
    return sentences


def report(results, sentences):
    """The text of TRAINING.md."""
    rows = [
        (name, spread([turn / results["batch_size"] for turn in results["seconds"][contestant]]).text(4))
        for contestant, name in NAMES.items()
    ]
    return "\n".join(
        [
            "# How fast it trains",
            "",
            "Written by the command below; not edited by hand.",
            "",
            f"| {results['size']}x{results['size']}, batch of {results['batch_size']}, float32 | seconds a crop |",
            "|---|---:|",
            *(f"| {name} | {figure} |" for name, figure in rows),
            "",
            *(f"- {sentence}" for sentence, _ in sentences),
            "",
            "The median of the rounds, and the smallest and largest of them; a ratio is taken round by round.",
            "",
            *machine.lines(results),
            "",
        ]
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    failed = run(FLAGS.rounds, FLAGS.steps, FLAGS.size, FLAGS.batch_size, FLAGS.output, sys.argv[1:])
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    app.run(main)
