"""Runs 10,000 inferences and 500 training steps, and shows whether memory, open files and threads stay as they are.

Also whether the last result of a photo is the first one, bit by bit. Writes ENDURANCE.md, endurance.json and
endurance.png. Exit status 0 only if every limit holds. (Linux only.)

Example:
  python benchmarks/soak/run.py
"""

import datetime
import importlib.metadata
import json
import pathlib
import shlex
import sys
import tempfile

from absl import app, flags

# Python looks in this folder; the modules are found as `benchmarks.<module>`.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.common import machine, processes
from benchmarks.soak import report as endurance_report

# How often it is looked at what a run holds, over all of it, and how long a run may take on a busy machine.
SAMPLES, HOURS = {"inference": 200, "training": 50}, 6

FLAGS = flags.FLAGS
flags.DEFINE_integer("inferences", 10_000, "Calls of FaceParser.", lower_bound=200)
flags.DEFINE_integer("steps", 500, "Training steps.", lower_bound=200)
flags.DEFINE_string("output", "benchmarks/soak/ENDURANCE.md", "The report; a .json and a .png are put beside it.")


def run(inferences, steps, output, arguments):
    """Runs both and writes the report.

    Returns:
        The sentences about limits that do not hold.

    Raises:
        ProcessError: a run failed.
    """
    results = {
        "command": shlex.join(["python", "benchmarks/soak/run.py", *map(machine.without_folders, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "keras", "tensorflow")},
    }
    for name, count in (("inference", inferences), ("training", steps)):
        with tempfile.TemporaryDirectory() as scratch:
            file = pathlib.Path(scratch, "turn.json")
            job = json.dumps({"run": name, "count": count, "every": count // SAMPLES[name], "output": str(file)})
            command = [sys.executable, "-m", "benchmarks.soak.worker", job]
            finished = processes.run(command, pathlib.Path(scratch, "log"), timeout=3600 * HOURS)
            results[name] = json.loads(file.read_text(encoding="utf-8"))
        print(f"{count:,} {endurance_report.RUNS[name]} in {finished.seconds:.0f} s")
    output = pathlib.Path(output)
    beside = output.with_name(output.stem.lower())
    beside.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    endurance_report.draw(results, beside.with_suffix(".png"))
    output.write_text(endurance_report.markdown(results, f"{beside.name}.png"), encoding="utf-8")
    return [sentence for sentence, holds in endurance_report.verdicts(results) if not holds]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    try:
        failed = run(FLAGS.inferences, FLAGS.steps, FLAGS.output, sys.argv[1:])
    except processes.ProcessError as error:
        sys.exit(f"error: {error}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    app.run(main)
