"""Compares our uint8 -> labels .tflite files with the same network from other converters and in other runtimes.

Makes a virtual environment for each peer, converts one checkpoint with each, compares their labels with PyTorch's, runs
them in alternating order, and writes RESULTS.md, results.json and results.png. Exit status 0 only if every candidate
ran and every threshold holds. Needs Linux or macOS, a C++ compiler for torch.compile, and a network connection for the
first run.

Example:
  .venv/bin/python -m benchmarks.runtimes.run --threads 2
"""

from absl import flags

from benchmarks.common import experiment
from benchmarks.runtimes import comparison, report
from benchmarks.runtimes.candidates import CANDIDATES, OURS

PEERS = [name for name in CANDIDATES if name not in OURS]


def define_flags():
    flags.DEFINE_string("checkpoint", "default", "A checkpoint file, or a name in checkpoints/manifest.json.")
    flags.DEFINE_integer("image_size", 512, "Side of the photo.", lower_bound=32)
    flags.DEFINE_string("photos", None, "Photo or folder to compare labels on, the bundled photo by default.")
    flags.DEFINE_string("calibration_images", None, "Folder to calibrate on, variations of that photo by default.")
    flags.DEFINE_integer("calibration_count", 32, "Number of photos to calibrate on.", lower_bound=1)
    flags.DEFINE_list("peers", PEERS, f"Peers to compare with: {', '.join(PEERS)}.")
    flags.DEFINE_integer("threads", 2, "Threads that a candidate may use.", lower_bound=1)
    flags.DEFINE_integer("conversions", 3, "Conversions of each file.", lower_bound=1)
    flags.DEFINE_integer("rounds", 10, "Processes that time each candidate.", lower_bound=1)
    flags.DEFINE_integer("warmups", 5, "Runs of a process before the clock counts.", lower_bound=0)
    flags.DEFINE_integer("runs", 30, "Runs of a process that count.", lower_bound=1)
    flags.DEFINE_string("work_dir", "build/benchmark", "Folder for environments, files and logs; is kept.")
    flags.DEFINE_string("pip_flags", "", "Further arguments for pip, for example an index with CPU builds of PyTorch.")
    expected = f"expected a comma-separated list of {', '.join(PEERS)}"
    flags.register_validator("peers", lambda names: len(set(names) & set(PEERS)) == len(names), expected)


def measure(options):
    """Runs the comparison; see `comparison.Comparison.run`."""
    return comparison.Comparison([CANDIDATES[name] for name in (*OURS, *options.peers)], options).run()


if __name__ == "__main__":
    experiment.main(__file__, "RESULTS.md", define_flags, measure, report.REPORT)
