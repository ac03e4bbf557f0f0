"""Compares our uint8 -> labels .tflite files with the same network from other converters and in other runtimes.

Makes a virtual environment for each peer, converts one checkpoint with each, compares their labels with PyTorch's, runs
them in turns, and writes RESULTS.md, results.json and results.png. Exit status 0 only if every contestant ran and every
limit holds. Needs Linux or macOS, a C++ compiler for torch.compile, and a network connection for the first run.

Example:
  python benchmarks/runtimes/run.py --threads 2
"""

import dataclasses
import datetime
import json
import os
import pathlib
import shlex
import sys

from absl import app, flags

# Python looks in this folder; the modules are found as `benchmarks.<module>`, from every environment alike.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.common import machine, processes
from benchmarks.runtimes import candidates as contestants
from benchmarks.runtimes import comparison, report
from benchmarks.runtimes import thresholds as limits
from weight_port import CheckpointError, manifest

PEERS = {peer.name: peer for peer in contestants.PEERS}

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "checkpoint", "default", "A .pth, .pt or .safetensors file, or a name in checkpoints/manifest.json."
)
flags.DEFINE_integer("image_size", 512, "Side of the photo.", lower_bound=32)
flags.DEFINE_string(
    "photos",
    None,
    "Photo or folder to compare labels on; the first photo is timed. The bundled photo by default.",
)
flags.DEFINE_string(
    "calibration_images",
    None,
    "Folder of photos that every int8 contestant is calibrated on. Variations of the bundled photo by default.",
)
flags.DEFINE_integer("calibration_count", 32, "How many photos to calibrate on.", lower_bound=1)
flags.DEFINE_list("peers", list(PEERS), f"Whom to compare with: {', '.join(PEERS)}.")
flags.DEFINE_integer("threads", 2, "Threads that a contestant may use.", lower_bound=1)
flags.DEFINE_integer("conversions", 3, "How often each file is made.", lower_bound=1)
flags.DEFINE_integer("rounds", 10, "Turns of each contestant.", lower_bound=1)
flags.DEFINE_integer("warmups", 5, "Runs at the start of a turn that do not count.", lower_bound=0)
flags.DEFINE_integer("runs", 30, "Runs of a turn that count.", lower_bound=1)
flags.DEFINE_string("work_dir", "build/benchmark", "Folder for environments, files and logs; kept for the next time.")
flags.DEFINE_string("pip_flags", "", "Further arguments for pip, for example an index with CPU builds of PyTorch.")
flags.DEFINE_string("output", "benchmarks/runtimes/RESULTS.md", "The report; a .json and a .png are put beside it.")


flags.register_validator(
    "peers",
    lambda names: set(names) <= set(PEERS) and len(set(names)) == len(names),
    f"expected a comma-separated list of {', '.join(PEERS)}",
)


def run(checkpoint, names, settings, work_dir, pip_flags, output, arguments):
    """Runs the comparison and writes the report.

    Args:
        checkpoint, work_dir, pip_flags, output: see the flags.
        names: the peers.
        settings: `comparison.Settings`.
        arguments: what stood behind the command, for the report.

    Returns:
        Sentences about what failed or does not hold; empty if all is well.

    Raises:
        BenchmarkError, CheckpointError, OSError: with a message for the person who asked.
    """
    # Before the benchmark adds to the load itself.
    computer = machine.describe()
    path = manifest.locate(checkpoint, processes.ROOT / "checkpoints" / "manifest.json").path
    # Children work in the repository root, whatever folder this was started in.
    path, work_dir, output = (pathlib.Path(name).absolute() for name in (path, work_dir, output))
    output.parent.mkdir(parents=True, exist_ok=True)
    chosen = [*contestants.OURS, *(PEERS[name] for name in names)]
    found = comparison.Comparison(chosen, path, settings, work_dir, shlex.split(pip_flags)).run()
    told = {
        name: machine.without_folders(value) if isinstance(value, str) else value
        for name, value in dataclasses.asdict(settings).items()
    }
    results = {
        "command": shlex.join(["python", "benchmarks/runtimes/run.py", *map(machine.without_folders, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": computer,
        "settings": told,
        **found,
    }
    # Imported last: the memory of this process is the floor of what its children are found to use.
    from benchmarks.runtimes import plot

    picture = output.with_name(f"{output.stem.lower()}.png")
    plot.draw(results, picture)
    picture.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    output.write_text(report.markdown(results, picture.name), encoding="utf-8")
    print(f"wrote {output}, {picture.with_suffix('.json').name} and {picture.name}")
    return [sentence for sentence, holds in limits.verdicts(results) if not holds]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    if not hasattr(os, "wait4"):
        sys.exit("error: this system does not tell the memory of a child process; Linux and macOS do")
    photos, calibration_images = (
        str(pathlib.Path(name).absolute()) if name else None for name in (FLAGS.photos, FLAGS.calibration_images)
    )
    settings = comparison.Settings(
        (FLAGS.image_size, FLAGS.image_size),
        photos,
        calibration_images,
        FLAGS.calibration_count,
        FLAGS.threads,
        FLAGS.conversions,
        FLAGS.rounds,
        FLAGS.warmups,
        FLAGS.runs,
    )
    try:
        broken = run(
            FLAGS.checkpoint,
            FLAGS.peers,
            settings,
            FLAGS.work_dir,
            FLAGS.pip_flags,
            FLAGS.output,
            [argument for argument in sys.argv[1:] if argument != "--pip_flags="],
        )
    except (CheckpointError, comparison.BenchmarkError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write: {error.filename}: {error.strerror}")
    if broken:
        sys.exit(f"error: {'; '.join(broken)}")


if __name__ == "__main__":
    app.run(main)
